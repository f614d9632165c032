//! A network in memory, on tokio's (paused) time: it delays, loses, and is cut in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;
use tribune_gossip::{Address, Carrier, CarrierError, Config, Pool, Running, Timing, wan};

use crate::support::dc;

/// The network. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fabric(Arc<Mutex<State>>);

struct State {
    rng: StdRng,
    pools: BTreeMap<SocketAddr, Pool>,
    /// Share of packets that get lost.
    loss: f64,
    delay: Duration,
    /// Nothing goes from the first to the second.
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    traffic: Traffic,
    /// Copies of the packets, when they are wanted.
    recorded: Option<Vec<Bytes>>,
}

/// What went over the network.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) packet_bytes: u64,
    pub(crate) exchanges: u64,
    pub(crate) exchange_bytes: u64,
}

/// One pool's access to the network.
struct Plug {
    fabric: Fabric,
    here: SocketAddr,
}

/// A pool on the network.
pub(crate) struct Host {
    pub(crate) pool: Pool,
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
}

impl Fabric {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            pools: BTreeMap::new(),
            loss: 0.0,
            delay: Duration::from_micros(500),
            cuts: BTreeSet::new(),
            traffic: Traffic::default(),
            recorded: None,
        })))
    }

    pub(crate) fn set_loss(&self, loss: f64) {
        self.0.lock().loss = loss;
    }

    /// Cuts one direction.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().cuts.insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.0.lock().cuts.clear();
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.0.lock().traffic
    }

    /// Starts a host with a number of its own.
    pub(crate) async fn host(&self, number: u16, timing: Timing) -> Host {
        self.host_with(number, timing, |_| {}).await
    }

    /// Starts a host that is configured in some other way.
    pub(crate) async fn host_with(
        &self,
        number: u16,
        timing: Timing,
        change: impl FnOnce(&mut Config),
    ) -> Host {
        let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 8302));
        let name = format!("n{number}.dc1");
        let mut config = Config::new(&name, format!("id-{number}"), dc("dc1"), address);
        config.timing = timing;
        config.seed = u64::from(number);
        config.generation = 1_000 + u64::from(number);
        let tags =
            [("role", "consul"), ("dc", "dc1"), ("port", "8300"), ("vsn", "2"), ("build", "1.8.7:abcdef12")];
        config.tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        change(&mut config);
        let (pool, running) =
            wan(config, Arc::new(Plug { fabric: self.clone(), here: address })).await.expect("it starts");
        self.0.lock().pools.insert(address, pool.clone());
        Host { pool, running: Some(running), address, name }
    }

    /// Hosts that joined through the first.
    pub(crate) async fn hosts(&self, count: u16, timing: &Timing) -> Vec<Host> {
        let mut hosts = Vec::new();
        for number in 0..count {
            hosts.push(self.host(number, timing.clone()).await);
        }
        for host in &hosts[1..] {
            let outcome = host.pool.join(&[hosts[0].address]).await;
            assert_eq!(outcome.joined, 1, "{outcome:?}");
        }
        hosts
    }

    /// A host dies: it says nothing more and answers nothing.
    pub(crate) fn kill(&self, host: &mut Host) {
        self.0.lock().pools.remove(&host.address);
        drop(host.running.take());
    }

    /// Keeps a copy of each packet from now on.
    pub(crate) fn record(&self) {
        self.0.lock().recorded = Some(Vec::new());
    }

    pub(crate) fn recorded(&self) -> Vec<Bytes> {
        self.0.lock().recorded.take().unwrap_or_default()
    }

    fn count(&self, change: impl FnOnce(&mut Traffic)) {
        change(&mut self.0.lock().traffic);
    }

    fn keep(&self, packet: &Bytes) {
        if let Some(recorded) = &mut self.0.lock().recorded {
            recorded.push(packet.clone());
        }
    }

    /// Where a packet arrives, and when, if it does.
    fn route(&self, from: SocketAddr, to: SocketAddr, lossy: bool) -> Option<(Pool, Duration)> {
        let mut state = self.0.lock();
        let loss = state.loss;
        if state.cuts.contains(&(from, to)) || (lossy && state.rng.random_bool(loss)) {
            return None;
        }
        let delay = state.delay.mul_f64(state.rng.random_range(0.5..1.5));
        state.pools.get(&to).map(|pool| (pool.clone(), delay))
    }
}

#[async_trait]
impl Carrier for Plug {
    async fn packet(&self, to: &Address, bytes: Bytes) {
        self.fabric.count(|traffic| {
            traffic.packets += 1;
            // What UDP and IP add.
            traffic.packet_bytes += bytes.len() as u64 + 28;
        });
        self.fabric.keep(&bytes);
        assert!(bytes.len() <= tribune_gossip::PACKET_BYTES_MAX);
        if let Some((pool, delay)) = self.fabric.route(self.here, to.socket, true) {
            sleep(delay).await;
            pool.receive_packet(&bytes);
        }
    }

    async fn exchange(&self, to: &Address, bytes: Bytes) -> Result<Bytes, CarrierError> {
        let sent = bytes.len() as u64;
        // A stream repeats what gets lost: it is slow on a lossy network, and works.
        let loss = self.fabric.0.lock().loss;
        let repeats = Duration::from_millis(200).mul_f64(loss * 4.0);
        let Some((pool, delay)) = self.fabric.route(self.here, to.socket, false) else {
            sleep(Duration::from_secs(3600)).await;
            return Err(CarrierError("unreachable".into()));
        };
        sleep(delay * 3 + repeats).await;
        let answer = pool.receive_exchange(bytes).await;
        if self.fabric.route(to.socket, self.here, false).is_none() {
            sleep(Duration::from_secs(3600)).await;
        }
        sleep(delay).await;
        self.fabric.count(|traffic| {
            traffic.exchanges += 1;
            traffic.exchange_bytes += sent + answer.len() as u64;
        });
        Ok(answer)
    }
}
