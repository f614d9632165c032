//! A network between replicas of one process, for tests: links can be cut in one direction, delayed and made to
//! lose what they carry, all from one seed.
//!
//! A call that is cut on its way there is lost, as its sender sees it: it cannot know. One whose answer is cut was
//! processed. Only a server that is not there at all counts as not reached.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::ServerInfo;
use crate::replica::Replica;
use crate::transport::{Method, Transport, TransportError};

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct Fabric(Arc<Mutex<Net>>);

struct Net {
    servers: BTreeMap<String, Replica>,
    /// From and to.
    cuts: BTreeSet<(String, String)>,
    delay: Range<Duration>,
    /// Of a thousand messages.
    lost: u32,
    /// Calls to drop the answers of, once.
    swallowed: BTreeMap<Method, u32>,
    calls: BTreeMap<Method, u64>,
    dice: StdRng,
    /// Calls being processed; they go on when the caller has given up, as they would on another machine.
    processing: JoinSet<()>,
}

impl std::fmt::Debug for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fabric")
    }
}

impl Fabric {
    /// A network without servers, delay or loss.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Net {
            servers: BTreeMap::new(),
            cuts: BTreeSet::new(),
            delay: Duration::ZERO..Duration::ZERO,
            lost: 0,
            swallowed: BTreeMap::new(),
            calls: BTreeMap::new(),
            dice: StdRng::seed_from_u64(seed),
            processing: JoinSet::new(),
        })))
    }

    /// The road of the server with this id, for its configuration.
    pub fn transport(&self, id: &str) -> Arc<dyn Transport> {
        Arc::new(Road { fabric: self.clone(), from: id.to_owned() })
    }

    /// From now on the server with this id can be reached.
    pub fn connect(&self, id: &str, replica: &Replica) {
        self.0.lock().servers.insert(id.to_owned(), replica.clone());
    }

    /// From now on it is not there.
    pub fn disconnect(&self, id: &str) {
        let gone = self.0.lock().servers.remove(id);
        drop(gone);
    }

    /// Cuts the link in this direction only.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.0.lock().cuts.insert((from.to_owned(), to.to_owned()));
    }

    /// Cuts the link between two servers.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Mends the link between two servers.
    pub fn mend(&self, one: &str, other: &str) {
        let mut net = self.0.lock();
        net.cuts.remove(&(one.to_owned(), other.to_owned()));
        net.cuts.remove(&(other.to_owned(), one.to_owned()));
    }

    /// Cuts every link between a server of `one` and another.
    pub fn isolate<'a>(&self, one: &[&'a str], others: &[&'a str]) {
        for from in one {
            for to in others {
                self.cut(from, to);
            }
        }
    }

    /// Mends everything and loses and delays nothing.
    pub fn heal(&self) {
        let mut net = self.0.lock();
        net.cuts.clear();
        net.lost = 0;
        net.delay = Duration::ZERO..Duration::ZERO;
        net.swallowed.clear();
    }

    /// How long each message takes.
    pub fn delay(&self, delay: Range<Duration>) {
        self.0.lock().delay = delay;
    }

    /// Loses so many of a thousand messages.
    pub fn lose(&self, of_a_thousand: u32) {
        self.0.lock().lost = of_a_thousand;
    }

    /// Loses the answers to the next calls of this method, which are processed.
    pub fn swallow_answers(&self, method: Method, count: u32) {
        self.0.lock().swallowed.insert(method, count);
    }

    /// Calls of this method so far.
    pub fn calls(&self, method: Method) -> u64 {
        self.0.lock().calls.get(&method).copied().unwrap_or_default()
    }

    /// Whether a message gets through, and after how long.
    fn fate(&self, from: &str, to: &str) -> (bool, Duration) {
        let mut net = self.0.lock();
        let Range { start, end } = net.delay.clone();
        let micros = match end > start {
            true => net.dice.random_range(start.as_micros() as u64..end.as_micros() as u64),
            false => start.as_micros() as u64,
        };
        let lost = net.lost > 0 && net.dice.random_range(0..1000) < net.lost;
        let cut = net.cuts.contains(&(from.to_owned(), to.to_owned()));
        (!lost && !cut, Duration::from_micros(micros))
    }

    fn swallows(&self, method: Method) -> bool {
        let mut net = self.0.lock();
        let Some(left) = net.swallowed.get_mut(&method) else { return false };
        let swallows = *left > 0;
        *left = left.saturating_sub(1);
        swallows
    }

    /// Lets a server process a call, whatever becomes of its caller.
    fn process(
        &self,
        to: &str,
        method: Method,
        body: Bytes,
    ) -> Option<tokio::sync::oneshot::Receiver<Result<Bytes, TransportError>>> {
        let mut net = self.0.lock();
        let replica = net.servers.get(to)?.clone();
        *net.calls.entry(method).or_default() += 1;
        while net.processing.try_join_next().is_some() {}
        let (answer, answered) = tokio::sync::oneshot::channel();
        net.processing.spawn(async move {
            let served = replica.serve(method, body).await;
            drop(replica);
            // The caller may have given up.
            let _ = answer.send(served.map_err(|error| TransportError::Refused(error.to_string())));
        });
        Some(answered)
    }
}

struct Road {
    fabric: Fabric,
    from: String,
}

#[async_trait]
impl Transport for Road {
    async fn call(
        &self,
        server: &ServerInfo,
        method: Method,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, TransportError> {
        let lost = |way: &str| TransportError::Lost(format!("the {way} was lost"));
        let (arrives, delay) = self.fabric.fate(&self.from, &server.id);
        tokio::time::sleep(delay).await;
        if !arrives {
            tokio::time::sleep_until(deadline).await;
            return Err(lost("call"));
        }
        let Some(answered) = self.fabric.process(&server.id, method, body) else {
            return Err(TransportError::Unreachable(format!("server {} is not there", server.id)));
        };
        let answer = match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(lost("answer")),
        };
        let (arrives, delay) = self.fabric.fate(&server.id, &self.from);
        tokio::time::sleep(delay).await;
        if !arrives || self.fabric.swallows(method) {
            tokio::time::sleep_until(deadline).await;
            return Err(lost("answer"));
        }
        answer
    }
}
