//! Where a node lives: an address of its own, and ports on it that nobody else has.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// Ports that the system does not hand out by itself, so that no client's connection takes one in the meantime.
const PORTS: std::ops::Range<u32> = 10_240..32_768;
/// Loopback addresses given to hosts: 127.64.0.0 and above, away from those that people and other tests use.
const LOOPBACK_FROM: u32 = 0x7f40_0000;
const LOOPBACK_COUNT: u32 = 1 << 22;
/// Addresses between the first hosts of two test processes with neighbouring process ids.
const PER_PROCESS: u32 = 256;

/// An address and the command that runs a program there.
#[derive(Debug, Clone)]
pub struct Host {
    /// The address on which everything of the node listens.
    pub address: Ipv4Addr,
    /// Executes the command appended to it on this host; empty for this machine itself.
    pub wrapper: Vec<String>,
}

/// The ports of one agent, the same over all its restarts.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// HTTP API.
    pub http: u16,
    /// DNS, UDP and TCP.
    pub dns: u16,
    /// Requests between agents of one datacenter.
    pub server: u16,
    /// LAN gossip.
    pub serf_lan: u16,
    /// Between datacenters; closed unless the node is federated.
    pub serf_wan: u16,
}

impl Host {
    /// 127.0.0.1, shared with everyone.
    pub fn local() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, wrapper: Vec::new() }
    }

    /// A loopback address that no other host of this process has.
    pub fn loopback() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let at =
            std::process::id().wrapping_mul(PER_PROCESS).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        // The last byte is never 0 or 255, which look like a network's and a broadcast's address.
        let at = at % LOOPBACK_COUNT;
        let address = LOOPBACK_FROM + (at & !0xff) + (at & 0xff).clamp(1, 254);
        Self { address: Ipv4Addr::from(address), wrapper: Vec::new() }
    }
}

impl Ports {
    /// Ports that are free on `host`; in a namespace of its own all are.
    pub fn choose(host: &Host) -> Result<Self> {
        if !host.wrapper.is_empty() {
            return Ok(Self { http: 8500, dns: 8600, server: 8300, serf_lan: 8301, serf_wan: 8302 });
        }
        let port = || free_port_on(host.address);
        Ok(Self { http: port()?, dns: port()?, server: port()?, serf_lan: port()?, serf_wan: port()? })
    }

    /// As the key `ports` of a configuration; without federation the WAN port stays closed.
    pub fn configuration(&self, federated: bool) -> Value {
        let wan = if federated { i32::from(self.serf_wan) } else { -1 };
        json!({
            "http": self.http, "dns": self.dns, "server": self.server, "serf_lan": self.serf_lan,
            "serf_wan": wan, "https": -1, "grpc": -1,
        })
    }
}

/// A port of 127.0.0.1 that was free a moment ago, for programs that cannot take port 0 and say which they got.
pub fn free_port() -> Result<u16> {
    free_port_on(Ipv4Addr::LOCALHOST)
}

/// A port that was free a moment ago. No two calls in a process give the same one, and processes begin at
/// different places.
pub(crate) fn free_port_on(address: Ipv4Addr) -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    for _ in 0..count {
        let at =
            std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(PORTS.start + at)?;
        if TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port of {address} from {} to {} is taken", PORTS.start, PORTS.end - 1)
}
