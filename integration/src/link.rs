//! A link that can be bad: forwards TCP connections and datagrams to one host, late, in one direction or not at all.
//!
//! Whoever is to be reached through the link advertises the link's address and listens on the same ports at its
//! own. What is held back while the link is silent arrives after it has healed, as with retransmission; datagrams
//! are lost.

mod datagram;
mod stream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::wait::eventually;

/// How long a change of condition may take to reach every forwarder.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Everything passes.
    Open,
    /// Connections are refused and open ones are closed.
    Refused,
    /// Connections are accepted, but nothing passes.
    Silent,
    /// Only what goes to the host behind the link passes.
    OnlyThere,
    /// Only what the host behind the link answers passes.
    OnlyBack,
}

/// What is forwarded on one port.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// The port, on both sides.
    pub port: u16,
    /// Whether datagrams are forwarded too.
    pub datagrams: bool,
}

/// What has passed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that reached the host behind the link.
    pub connections: u64,
    /// Bytes to that host.
    pub there: u64,
    /// Bytes from that host.
    pub back: u64,
}

/// A running link; closed when dropped.
pub struct Link {
    address: Ipv4Addr,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
    forwarders: usize,
    runtime: Option<Runtime>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

/// The condition as forwarders see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    condition: Condition,
    /// One way.
    delay: Duration,
    /// Rises when open connections are to be lost.
    epoch: u64,
    /// Rises with each change.
    version: u64,
}

/// What forwarders report.
#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    there: AtomicU64,
    back: AtomicU64,
    /// The sum over all listeners of the versions they act on.
    applied: AtomicU64,
}

impl Link {
    /// Opens a link at `address` to the same ports of `target`.
    pub fn open(address: Ipv4Addr, target: Ipv4Addr, forwards: &[Forward]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let open = Mode { condition: Condition::Open, delay: Duration::ZERO, epoch: 0, version: 0 };
        let (mode, modes) = watch::channel(open);
        let shared = Arc::new(Shared::default());
        for forward in forwards {
            let (from, to) = ((address, forward.port).into(), (target, forward.port).into());
            let listener = runtime.block_on(tokio::net::TcpListener::bind(from))?;
            // Owned by the runtime, which ends with the link.
            runtime.spawn(stream::forward(listener, from, to, modes.clone(), shared.clone()));
            if forward.datagrams {
                let socket = runtime.block_on(tokio::net::UdpSocket::bind(from))?;
                runtime.spawn(datagram::forward(socket, to, modes.clone(), shared.clone()));
            }
        }
        Ok(Self { address, mode, shared, forwarders: forwards.len(), runtime: Some(runtime) })
    }

    /// Where the link is entered.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Changes the condition; when this returns, it holds.
    pub fn set(&self, condition: Condition) -> Result<()> {
        self.change(|mode| mode.condition = condition)
    }

    /// Everything takes so much longer to arrive; a round trip takes twice that.
    pub fn delay(&self, one_way: Duration) -> Result<()> {
        self.change(|mode| mode.delay = one_way)
    }

    /// Closes all open connections; new ones pass as before.
    pub fn lose_connections(&self) -> Result<()> {
        self.change(|mode| mode.epoch += 1)
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { connections, there, back, .. } = &*self.shared;
        Traffic { connections: read(connections), there: read(there), back: read(back) }
    }

    fn change(&self, change: impl FnOnce(&mut Mode)) -> Result<()> {
        self.mode.send_modify(|mode| {
            change(mode);
            mode.version += 1;
        });
        let wanted = self.mode.borrow().version * self.forwarders as u64;
        eventually("the link changes", CHANGE_LIMIT, || {
            Ok(self.shared.applied.load(Ordering::Relaxed) >= wanted)
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Mode {
    fn passes(&self, direction: Direction) -> bool {
        match self.condition {
            Condition::Open => true,
            Condition::Refused | Condition::Silent => false,
            Condition::OnlyThere => direction == Direction::There,
            Condition::OnlyBack => direction == Direction::Back,
        }
    }
}

impl Shared {
    fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::There => &self.there,
            Direction::Back => &self.back,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    use std::time::Instant;

    use super::*;
    use crate::backend::Backend;
    use crate::host::Host;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A backend behind a link.
    fn linked() -> (Backend, Link, SocketAddr) {
        // The system chose the port for the backend; at the link's address somebody else may have it.
        for _ in 0..16 {
            let backend = Backend::start("behind", Host::loopback().address).unwrap();
            let SocketAddr::V4(target) = backend.address() else { panic!("not an address of version 4") };
            let forward = Forward { port: target.port(), datagrams: false };
            if let Ok(link) = Link::open(Host::loopback().address, *target.ip(), &[forward]) {
                let entry = (link.address(), target.port()).into();
                return (backend, link, entry);
            }
        }
        panic!("no port is free at both ends")
    }

    fn ask(entry: SocketAddr, limit: Duration) -> anyhow::Result<String> {
        let answer = crate::http::Request::new("GET", "/").send_within(entry, limit)?;
        Ok(answer.text())
    }

    #[test]
    fn an_open_link_passes_and_counts() {
        let (_backend, link, entry) = linked();
        assert_eq!(ask(entry, LIMIT).unwrap(), "behind");
        let traffic = link.traffic();
        assert_eq!(traffic.connections, 1);
        assert!(traffic.there > 0 && traffic.back > 0, "{traffic:?}");
    }

    #[test]
    fn a_refusing_link_refuses_and_heals() {
        let (_backend, link, entry) = linked();
        let mut open = TcpStream::connect(entry).unwrap();
        link.set(Condition::Refused).unwrap();
        assert!(TcpStream::connect(entry).is_err());
        open.set_read_timeout(Some(LIMIT)).unwrap();
        assert!(open.read(&mut [0; 1]).map_or(true, |length| length == 0), "it was not closed");
        link.set(Condition::Open).unwrap();
        assert_eq!(ask(entry, LIMIT).unwrap(), "behind");
    }

    #[test]
    fn a_silent_link_accepts_and_delivers_after_healing() {
        let (_backend, link, entry) = linked();
        link.set(Condition::Silent).unwrap();
        let mut stream = TcpStream::connect(entry).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err());
        link.set(Condition::Open).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("behind"), "{answer}");
    }

    #[test]
    fn one_direction_alone_brings_no_answer() {
        let (_backend, link, entry) = linked();
        for condition in [Condition::OnlyThere, Condition::OnlyBack] {
            link.set(condition).unwrap();
            assert!(ask(entry, Duration::from_millis(200)).is_err(), "{condition:?}");
        }
        link.set(Condition::Open).unwrap();
        assert_eq!(ask(entry, LIMIT).unwrap(), "behind");
    }

    #[test]
    fn a_long_link_takes_its_time_both_ways() {
        let (_backend, link, entry) = linked();
        link.delay(Duration::from_millis(60)).unwrap();
        let started = Instant::now();
        assert_eq!(ask(entry, LIMIT).unwrap(), "behind");
        assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
    }

    #[test]
    fn lost_connections_are_closed_and_new_ones_pass() {
        let (_backend, link, entry) = linked();
        let mut stream = TcpStream::connect(entry).unwrap();
        link.lose_connections().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        assert!(stream.read(&mut [0; 1]).map_or(true, |length| length == 0));
        assert_eq!(ask(entry, LIMIT).unwrap(), "behind");
    }

    #[test]
    fn datagrams_pass_are_delayed_and_are_lost() {
        let behind = UdpSocket::bind((Host::loopback().address, 0)).unwrap();
        let SocketAddr::V4(target) = behind.local_addr().unwrap() else { panic!("not version 4") };
        let forward = Forward { port: target.port(), datagrams: true };
        let link = Link::open(Host::loopback().address, *target.ip(), &[forward]).unwrap();
        let outside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        outside.connect((link.address(), target.port())).unwrap();
        for socket in [&behind, &outside] {
            socket.set_read_timeout(Some(LIMIT)).unwrap();
        }
        let mut buffer = [0; 16];
        link.delay(Duration::from_millis(50)).unwrap();
        let started = Instant::now();
        outside.send(b"there").unwrap();
        let (length, from) = behind.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"there");
        behind.send_to(b"back", from).unwrap();
        let length = outside.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"back");
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
        link.set(Condition::Silent).unwrap();
        outside.send(b"lost").unwrap();
        behind.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(behind.recv_from(&mut buffer).is_err());
    }
}
