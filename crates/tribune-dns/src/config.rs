//! What an operator can set about the DNS server, and the handle that changes it while it runs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tribune_core::dns::Zone;

/// Settings of the DNS server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The zone and how it is answered for.
    pub zone: Zone,
    /// Who is asked about names that are not ours, in this order (`recursors`; default none: such questions are
    /// refused). Our own addresses are left out.
    pub recursors: Vec<SocketAddr>,
    /// Where the list of recursors is begun (`recursor_strategy`).
    pub recursor_strategy: RecursorStrategy,
    /// How long one recursor may take (`recursor_timeout`; default 2 s).
    pub recursor_timeout: Duration,
    /// For whom recursors are asked; everyone else is refused, so that nobody can use us against others.
    /// Default: loopback, private and link-local networks.
    pub recursion_allowed: Vec<IpNet>,
    /// How many answers a stranger gets over UDP, whose address may be forged.
    pub rate_limit: RateLimit,
    /// Whether answers about other datacenters give addresses tagged `wan` (`translate_wan_addrs`; default no).
    pub translate_wan_addrs: bool,
    /// Most TCP connections at a time (default 1024); further ones are closed at once.
    pub tcp_connections_max: usize,
    /// How long a TCP connection may be silent (default 10 s).
    pub tcp_idle: Duration,
}

/// Which recursor is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecursorStrategy {
    /// The first of the list.
    #[default]
    Sequential,
    /// Any.
    Random,
}

/// Response rate limiting: bounds what forged questions can send to a victim.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// Answers per second to one network (default 200; 0 turns the limit off). TCP is not limited: its addresses
    /// cannot be forged.
    pub answers_per_second: u32,
    /// Every how many answers beyond the limit one is sent that only says "ask over TCP", so that a real client
    /// behind a forged address still gets through (default 2; 0 for never).
    pub slip: u32,
    /// Length of an IPv4 network that is counted as one (default 24).
    pub ipv4_prefix: u8,
    /// Length of an IPv6 network that is counted as one (default 56).
    pub ipv6_prefix: u8,
    /// Networks without limit. Default: loopback, private and link-local networks, where forged addresses are
    /// the operator's own to stop and a single resolver may ask for thousands of clients.
    pub exempt: Vec<IpNet>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { answers_per_second: 200, slip: 2, ipv4_prefix: 24, ipv6_prefix: 56, exempt: inside() }
    }
}

impl Config {
    /// Every setting but the zone at its default.
    pub fn new(zone: Zone) -> Self {
        Self {
            zone,
            recursors: Vec::new(),
            recursor_strategy: RecursorStrategy::default(),
            recursor_timeout: Duration::from_secs(2),
            recursion_allowed: inside(),
            rate_limit: RateLimit::default(),
            translate_wan_addrs: false,
            tcp_connections_max: 1024,
            tcp_idle: Duration::from_secs(10),
        }
    }

    /// Whether recursors are asked on behalf of `client`.
    pub(crate) fn recurses_for(&self, client: IpAddr) -> bool {
        !self.recursors.is_empty() && contains(&self.recursion_allowed, client)
    }
}

/// Whether one of `networks` holds `address`; IPv4 written as IPv6 counts as IPv4.
pub(crate) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Loopback, private (RFC 1918, RFC 4193) and link-local networks.
fn inside() -> Vec<IpNet> {
    let v4 = |a, b, length| IpNet::new_assert(IpAddr::from([a, b, 0, 0]), length);
    let v6 = |first: u16, last: u16, length| {
        IpNet::new_assert(IpAddr::from([first, 0, 0, 0, 0, 0, 0, last]), length)
    };
    vec![
        v4(127, 0, 8),
        v4(10, 0, 8),
        v4(172, 16, 12),
        v4(192, 168, 16),
        v4(169, 254, 16),
        v6(0, 1, 128),
        v6(0xfc00, 0, 7),
        v6(0xfe80, 0, 10),
    ]
}

/// The settings in force; replaced as a whole when the configuration is loaded again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveConfig(Arc<ArcSwap<Config>>);

impl LiveConfig {
    /// Starts with `config`.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// Puts `config` into force; questions that arrive from now on are answered by it. Connection limits keep
    /// the values they had at the start.
    pub fn replace(&self, config: Config) {
        self.0.store(Arc::new(config));
    }

    pub(crate) fn load(&self) -> Arc<Config> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_neither_recursed_for_nor_exempt() {
        let inside = inside();
        for (address, expected) in [
            ("127.0.0.1", true),
            ("10.255.0.1", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.3.4", true),
            ("::ffff:192.168.3.4", true),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(contains(&inside, address.parse().unwrap()), expected, "{address}");
        }
    }
}
