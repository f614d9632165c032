//! Starting pools for tests, and waiting for what must come.

use std::future::Future;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tribune_core::Datacenter;
use tribune_gossip::{Config, Keyring, Pool, Running, Status, Timing, lan};

/// Keys of the three lengths.
pub(crate) const KEY_16: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";
pub(crate) const KEY_24: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD";
pub(crate) const KEY_32: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// The longest that anything on loopback may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A pool on loopback and what keeps it running.
pub(crate) struct Node {
    pub(crate) pool: Pool,
    pub(crate) running: Running,
    pub(crate) config: Config,
}

impl Node {
    pub(crate) fn address(&self) -> SocketAddr {
        self.config.address
    }

    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        status(&self.pool, name)
    }

    pub(crate) fn alive(&self) -> usize {
        alive(&self.pool)
    }

    pub(crate) async fn join(&self, other: &Node) {
        let outcome = self.pool.join(&[other.address()]).await;
        assert_eq!((outcome.joined, outcome.failures.as_slice()), (1, &[][..]));
    }
}

pub(crate) fn status(pool: &Pool, name: &str) -> Option<Status> {
    pool.members().iter().find(|member| member.name == name).map(|member| member.status)
}

/// Whether the round trip to a member was measured.
pub(crate) fn is_measured(pool: &Pool, name: &str) -> bool {
    pool.members().iter().any(|member| member.name == name && member.round_trip.is_some())
}

pub(crate) fn alive(pool: &Pool) -> usize {
    pool.members().iter().filter(|member| member.status == Status::Alive).count()
}

pub(crate) fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).expect("a name")
}

/// A socket for each kind of traffic on one port.
pub(crate) fn sockets() -> (UdpSocket, TcpListener, SocketAddr) {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("it works");
        let address = tcp.local_addr().expect("it works");
        if let Ok(udp) = UdpSocket::bind(address) {
            return (udp, tcp, address);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

pub(crate) async fn start(name: &str, change: impl FnOnce(&mut Config)) -> Node {
    let (udp, tcp, address) = sockets();
    let mut config = Config::new(name, format!("id-of-{name}"), dc("dc1"), address);
    config.timing = Timing::local();
    change(&mut config);
    let (pool, running) = lan(config.clone(), udp, tcp).await.expect("it starts");
    Node { pool, running, config }
}

pub(crate) async fn start_with_key(name: &str, keys: &[&str]) -> Node {
    let keyring = Keyring::from_keys(keys.iter().copied()).expect("it works");
    start(name, |config| config.keyring = Some(keyring)).await
}

/// Pools that know one another.
pub(crate) async fn cluster(names: &[&str]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let node = start(name, |_| {}).await;
        if let Some(first) = nodes.first() {
            node.join(first).await;
        }
        nodes.push(node);
    }
    eventually("all know all", || nodes.iter().all(|node| node.alive() == names.len())).await;
    nodes
}

pub(crate) async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.running.stop().await;
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    eventually_within(PATIENCE, what, condition).await;
}

pub(crate) async fn eventually_within(patience: Duration, what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something that has to be asked for is so.
pub(crate) async fn eventually_asked<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
