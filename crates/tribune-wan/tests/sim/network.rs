//! The network between gateways, on paused time: connections that take their time, are cut in either direction, break
//! under what is on its way, and are found dead only after a while, as those of HTTP/2 over TCP are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tribune_core::Datacenter;
use tribune_net::{PeerIdentity, PeerRole};
use tribune_wan::{BodyError, FarBody, RoadError, far_body};

use crate::fate::Fate;
use crate::oracle::Oracle;

/// How long a connection may take to come about, as in `tribune_net::Pace`.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection through which nothing comes for this long is given up: what `tribune_net::Pace` waits before it asks
/// whether the other side is there, and for the answer to that.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(6);
/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Round trips until a new connection carries a request: TCP, TLS, and the first words of HTTP/2.
const HANDSHAKE_TRIPS: usize = 3;
/// Shortest and longest way between two datacenters, in microseconds.
const WAYS: std::ops::Range<u64> = 1_000..30_000;
/// How long TCP may rest before it sends again what a cut has kept.
const RESEND_MAX_MS: u64 = 200;

/// Answers a request that has arrived.
pub(crate) type Serve = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<FarBody>> + Send + Sync>;

/// The network. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Network(Arc<Inside>);

struct Inside {
    wires: Mutex<Wires>,
    /// What is on its way; it does not end with whoever has sent it.
    calls: Mutex<JoinSet<()>>,
    /// Told whenever a cut is made or mended.
    mended: Notify,
    oracle: Arc<Oracle>,
}

type Ends = (SocketAddr, SocketAddr);

struct Wires {
    dice: StdRng,
    /// Everybody who was ever there.
    places: BTreeMap<SocketAddr, Datacenter>,
    hosts: BTreeMap<SocketAddr, Serve>,
    /// Machines that say nothing at all, not even that nobody listens.
    silent: BTreeSet<SocketAddr>,
    /// Nothing goes from the first to the second.
    cuts: BTreeSet<Ends>,
    lines: BTreeMap<Ends, Arc<Line>>,
    /// How long the way takes, by datacenters.
    ways: BTreeMap<(Datacenter, Datacenter), Duration>,
    /// Since when nobody outside can be reached from a datacenter, nor reach it.
    alone: BTreeMap<Datacenter, Instant>,
    /// Of a thousand packets of gossip, so many get lost.
    lost: u32,
    /// Of a thousand answers, so many come in two pieces, between which the connection may break.
    in_pieces: u32,
}

/// A connection, as its two ends see it.
#[derive(Default)]
struct Line {
    asker: Fate,
    server: Fate,
    silent_since: Mutex<Option<Instant>>,
}

/// Says to the other side that nobody waits any more.
struct HangUp(Arc<Fate>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Network {
    pub(crate) fn new(seed: u64, oracle: Arc<Oracle>) -> Self {
        let wires = Wires {
            dice: StdRng::seed_from_u64(seed ^ 0x3e7),
            places: BTreeMap::new(),
            hosts: BTreeMap::new(),
            silent: BTreeSet::new(),
            cuts: BTreeSet::new(),
            lines: BTreeMap::new(),
            ways: BTreeMap::new(),
            alone: BTreeMap::new(),
            lost: 0,
            in_pieces: 0,
        };
        let (calls, mended) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inside { wires: Mutex::new(wires), calls, mended, oracle }))
    }

    /// Has a gateway answer at an address. It knows nothing of connections of an earlier life, and says so.
    pub(crate) fn connect(&self, at: SocketAddr, datacenter: &Datacenter, serve: Serve) {
        let mut wires = self.0.wires.lock();
        wires.lines.retain(|_, line| {
            let is_over = line.server.is_over();
            if is_over {
                line.asker.end();
            }
            !is_over
        });
        wires.places.insert(at, datacenter.clone());
        wires.silent.remove(&at);
        wires.hosts.insert(at, serve);
    }

    /// Takes a gateway away; a silent end is noticed by the others later only.
    pub(crate) fn disconnect(&self, at: SocketAddr, is_silent: bool) {
        let mut wires = self.0.wires.lock();
        wires.hosts.remove(&at);
        let gone: Vec<Ends> =
            wires.lines.keys().filter(|(from, to)| *from == at || *to == at).copied().collect();
        for ends in gone {
            let Some(line) = wires.lines.get(&ends).cloned() else { continue };
            line.server.end();
            if is_silent && ends.1 == at {
                line.silent_since.lock().get_or_insert_with(Instant::now);
            } else {
                line.asker.end();
                wires.lines.remove(&ends);
            }
        }
        if is_silent {
            wires.silent.insert(at);
        }
    }

    /// Changes what is cut.
    pub(crate) fn cut(&self, change: impl FnOnce(&mut BTreeSet<Ends>)) {
        let mut wires = self.0.wires.lock();
        change(&mut wires.cuts);
        wires.note_silence();
        wires.note_alone();
        drop(wires);
        self.0.mended.notify_waiters();
    }

    /// Breaks every connection between two gateways.
    pub(crate) fn break_lines(&self, one: SocketAddr, other: SocketAddr) {
        let mut wires = self.0.wires.lock();
        for ends in [(one, other), (other, one)] {
            if let Some(line) = wires.lines.remove(&ends) {
                line.asker.end();
                line.server.end();
            }
        }
    }

    pub(crate) fn trouble(&self, lost: u32, in_pieces: u32) {
        let mut wires = self.0.wires.lock();
        (wires.lost, wires.in_pieces) = (lost, in_pieces);
    }

    /// Since when a datacenter has been alone, if it is.
    pub(crate) fn alone_since(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.0.wires.lock().alone.get(datacenter).copied()
    }

    /// Gives up connections that have been silent for too long. Does not end.
    pub(crate) async fn keep_alive(&self) {
        loop {
            sleep(LOOK).await;
            let mut wires = self.0.wires.lock();
            wires.lines.retain(|_, line| {
                let is_dead = line.silent_since.lock().is_some_and(|since| since.elapsed() >= SILENCE_MAX);
                if is_dead {
                    line.asker.end();
                    line.server.end();
                }
                !is_dead
            });
        }
    }

    /// Ends everything that is on its way.
    pub(crate) async fn close(&self) {
        let mut calls = std::mem::take(&mut *self.0.calls.lock());
        calls.shutdown().await;
    }

    /// A packet of gossip gets lost with the luck of one that is sent over a bad line.
    pub(crate) fn is_lost(&self) -> bool {
        let mut wires = self.0.wires.lock();
        let lost = wires.lost;
        wires.dice.random_range(0..1000) < lost
    }

    /// Sends a request from one gateway to another. `expected` is whose certificate must be there.
    pub(crate) async fn ask(
        &self,
        (from, to): Ends,
        expected: Option<&Datacenter>,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        let line = timeout(CONNECT_MAX, self.line((from, to))).await;
        let line = line.unwrap_or_else(|_| Err(RoadError::NotSent("no connection in time".into())))?;
        let there = self.0.wires.lock().places.get(&to).cloned();
        if expected.is_some() && expected != there.as_ref() {
            return Err(RoadError::NotSent("a certificate of another datacenter".into()));
        }
        let (reply, answer) = oneshot::channel();
        let hung_up = Arc::new(Fate::default());
        let call = self.clone().carry((from, to), line.clone(), request, (reply, hung_up.clone()));
        {
            let mut calls = self.0.calls.lock();
            while calls.try_join_next().is_some() {}
            calls.spawn(call);
        }
        let _hang_up = HangUp(hung_up);
        let answered = async {
            tokio::select! {
                biased;
                Ok(response) = answer => Ok(response),
                () = line.asker.over() => Err(RoadError::Lost("the connection broke".into())),
            }
        };
        let late = |_| Err(RoadError::Lost("the answer did not come in time".into()));
        timeout_at(deadline, answered).await.unwrap_or_else(late)
    }

    /// A connection, dialled if there is none.
    async fn line(&self, ends: Ends) -> Result<Arc<Line>, RoadError> {
        if let Some(line) = self.0.wires.lock().lines.get(&ends) {
            return Ok(line.clone());
        }
        for trip in 0..HANDSHAKE_TRIPS {
            self.travel(ends).await;
            let (is_there, is_silent) = {
                let wires = self.0.wires.lock();
                (wires.hosts.contains_key(&ends.1), wires.silent.contains(&ends.1))
            };
            if !is_there && is_silent {
                return futures::future::pending().await;
            }
            self.travel((ends.1, ends.0)).await;
            if !is_there {
                return Err(RoadError::NotSent(format!("connection refused in trip {trip}")));
            }
        }
        let mut wires = self.0.wires.lock();
        if !wires.hosts.contains_key(&ends.1) {
            return Err(RoadError::NotSent("the connection broke before anything was sent".into()));
        }
        let line = wires.lines.entry(ends).or_default().clone();
        wires.note_silence();
        Ok(line)
    }

    /// Takes a request there, has it answered and brings the answer back.
    async fn carry(
        self,
        ends: Ends,
        line: Arc<Line>,
        request: Request<Bytes>,
        (reply, hung_up): (oneshot::Sender<Response<FarBody>>, Arc<Fate>),
    ) {
        let back = (ends.1, ends.0);
        let arrived = Fate::default();
        let answered = async {
            self.travel(ends).await;
            arrived.end();
            let Some((serve, request)) = self.arrive(ends, request) else {
                return futures::future::pending().await;
            };
            let response = serve(request).await;
            self.travel(back).await;
            self.in_pieces(back, &line, response).await
        };
        let given_up = async {
            hung_up.over().await;
            arrived.over().await;
            self.travel(ends).await;
        };
        tokio::select! {
            biased;
            () = line.server.over() => {
                // Whoever waits learns of it at their own end.
                line.asker.over().await;
            }
            () = given_up => {}
            response = answered => drop(reply.send(response)),
        }
    }

    /// Who answers there, and the request with what a certificate says of its sender.
    fn arrive(&self, (from, to): Ends, mut request: Request<Bytes>) -> Option<(Serve, Request<Bytes>)> {
        let wires = self.0.wires.lock();
        let (sender, here) = (wires.places.get(&from)?.clone(), wires.places.get(&to)?);
        self.0.oracle.arrived(&sender, here, &request);
        let role = PeerRole::Server;
        request.extensions_mut().insert(PeerIdentity { role, datacenter: sender, expires: UNIX_EPOCH });
        Some((wires.hosts.get(&to)?.clone(), request))
    }

    /// The time that something takes from one end to the other, longer while the way is cut.
    async fn travel(&self, ends: Ends) {
        let span = self.0.wires.lock().span(ends);
        sleep(span).await;
        loop {
            let mut mended = std::pin::pin!(self.0.mended.notified());
            mended.as_mut().enable();
            let rest = {
                let mut wires = self.0.wires.lock();
                if !wires.cuts.contains(&ends) {
                    return;
                }
                Duration::from_millis(wires.dice.random_range(0..RESEND_MAX_MS))
            };
            mended.await;
            sleep(rest).await;
        }
    }

    /// Some answers come in two pieces, and some of those break off.
    async fn in_pieces(
        &self,
        back: Ends,
        line: &Arc<Line>,
        response: Response<FarBody>,
    ) -> Response<FarBody> {
        let is_whole = {
            let mut wires = self.0.wires.lock();
            let in_pieces = wires.in_pieces;
            wires.dice.random_range(0..1000) >= in_pieces
        };
        if is_whole {
            return response;
        }
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else {
            return Response::from_parts(head, far_body(String::new()));
        };
        let mut first = body.to_bytes();
        let second = first.split_off(first.len() / 2);
        let (network, line) = (self.clone(), line.clone());
        let second = async move {
            tokio::select! {
                biased;
                () = line.asker.over() => Err(BodyError::new("the connection broke under the answer")),
                () = network.travel(back) => Ok(Frame::data(second)),
            }
        };
        let first = futures::stream::iter([Ok(Frame::data(first))]);
        let pieces = futures::StreamExt::chain(first, futures::stream::once(second));
        Response::from_parts(head, far_body(StreamBody::new(pieces)))
    }
}

impl Wires {
    fn span(&mut self, (from, to): Ends) -> Duration {
        let of = |at: SocketAddr| self.places.get(&at).cloned();
        let (Some(one), Some(other)) = (of(from), of(to)) else { return Duration::from_millis(1) };
        if one == other {
            return Duration::from_micros(self.dice.random_range(200..600));
        }
        let pair = if one < other { (one, other) } else { (other, one) };
        let dice = &mut self.dice;
        let way = self.ways.entry(pair);
        let way = *way.or_insert_with(|| Duration::from_micros(dice.random_range(WAYS)));
        way.mul_f64(self.dice.random_range(1.0..1.3))
    }

    /// Notes which connections nothing comes through from now on, and which come to life again.
    fn note_silence(&mut self) {
        for (&(from, to), line) in &self.lines {
            let is_cut = self.cuts.contains(&(from, to)) || self.cuts.contains(&(to, from));
            let is_silent = is_cut || !self.hosts.contains_key(&to);
            let mut since = line.silent_since.lock();
            *since = if is_silent { since.or(Some(Instant::now())) } else { None };
        }
    }

    fn note_alone(&mut self) {
        let all: BTreeSet<Datacenter> = self.places.values().cloned().collect();
        for datacenter in all {
            let inside = self.places.iter().filter(|(_, held)| **held == datacenter).map(|(at, _)| *at);
            let outside = self.places.iter().filter(|(_, held)| **held != datacenter).map(|(at, _)| *at);
            let outside: Vec<SocketAddr> = outside.collect();
            let is_cut = |one, other| self.cuts.contains(&(one, other)) && self.cuts.contains(&(other, one));
            let is_alone = inside.into_iter().all(|one| outside.iter().all(|other| is_cut(one, *other)));
            if !is_alone {
                self.alone.remove(&datacenter);
            } else {
                self.alone.entry(datacenter).or_insert_with(Instant::now);
            }
        }
    }
}
