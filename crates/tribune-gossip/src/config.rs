//! What a pool is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tribune_core::Datacenter;

use crate::keyring::Keyring;
use crate::pool::Pool;

/// What a pool is started with. [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's name: the node's, or `node.dc` in the pool of all servers.
    pub name: String,
    /// The node's id, a UUID.
    pub id: String,
    /// The datacenter the node belongs to.
    pub datacenter: Datacenter,
    /// The address the others reach this node under.
    pub address: SocketAddr,
    /// What the member says of itself.
    pub tags: BTreeMap<String, String>,
    /// In the pool of all servers: the pool of this datacenter. Whoever says to be of this datacenter and is no
    /// member of it belongs to another one of the same name, and may not join.
    pub siblings: Option<Pool>,
    /// How fast everything goes. Default: [`Timing::lan`].
    pub timing: Timing,
    /// The keys; without, nothing is encrypted, and with them everything is, and nothing in clear text is taken.
    /// Not used in the pool of all servers, which lies inside TLS.
    pub keyring: Option<Keyring>,
    /// Where the keys are kept when they change; nowhere by default (`disable_keyring_file`).
    pub keyring_file: Option<PathBuf>,
    /// Where addresses of members and the clock of user events are kept; nowhere by default.
    pub state_file: Option<PathBuf>,
    /// Whether the members in the state file are joined at the start although this node had left
    /// (`rejoin_after_leave`). Default: false.
    pub rejoin_after_leave: bool,
    /// After what time a failed member is forgotten (`reconnect_timeout`). Default: 72 h.
    pub reconnect_timeout: Duration,
    /// After what time a member that left is forgotten. Default: 24 h.
    pub left_timeout: Duration,
    /// Which life of this node it is: it must be higher than that of the life before. Default: milliseconds
    /// since 1970.
    pub generation: u64,
    /// What chance is drawn from. Random by default; a simulation sets it.
    pub seed: u64,
}

impl Config {
    /// The defaults, for a node.
    pub fn new(
        name: impl Into<String>,
        id: impl Into<String>,
        datacenter: Datacenter,
        address: SocketAddr,
    ) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            name: name.into(),
            id: id.into(),
            datacenter,
            address,
            tags: BTreeMap::new(),
            siblings: None,
            timing: Timing::lan(),
            keyring: None,
            keyring_file: None,
            state_file: None,
            rejoin_after_leave: false,
            reconnect_timeout: Duration::from_secs(72 * 3600),
            left_timeout: Duration::from_secs(24 * 3600),
            generation: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX / 2),
            seed: rand::random(),
        }
    }
}

/// How fast a pool does what it does: Consul's `gossip_lan` and `gossip_wan`, and what goes with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Every so often one member is probed (`probe_interval`).
    pub probe_interval: Duration,
    /// So long a direct answer is waited for before others are asked to probe (`probe_timeout`); less than
    /// `probe_interval`.
    pub probe_timeout: Duration,
    /// So many others are asked to probe.
    pub indirect_probes: usize,
    /// A suspected member has this many probe intervals to object (`suspicion_mult`).
    pub suspicion_mult: u32,
    /// News is sent this many times the logarithm of the number of members (`retransmit_mult`).
    pub retransmit_mult: u32,
    /// Every so often news is sent (`gossip_interval`).
    pub gossip_interval: Duration,
    /// To so many members at a time (`gossip_nodes`).
    pub gossip_nodes: usize,
    /// Every so often the full state is exchanged with a random member; longer in pools of more than 32.
    pub sync_interval: Duration,
    /// Every so often failed members are tried again.
    pub reconnect_interval: Duration,
    /// So long an answer over a stream is waited for when it is about life and death.
    pub stream_timeout: Duration,
    /// Members that fail within this time of one another fail together (see [`Brake`](crate::Brake)).
    pub brake_window: Duration,
    /// So long the brake holds at most.
    pub brake_bound: Duration,
}

impl Timing {
    /// Inside a datacenter: a death is known everywhere after 5 to 9 seconds.
    pub fn lan() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_probes: 3,
            suspicion_mult: 4,
            retransmit_mult: 4,
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            sync_interval: Duration::from_secs(30),
            reconnect_interval: Duration::from_secs(10),
            stream_timeout: Duration::from_secs(1),
            brake_window: Duration::from_secs(10),
            brake_bound: Duration::from_secs(180),
        }
    }

    /// Between datacenters: a death is known 25 to 30 seconds after a probe failed, later where this node itself
    /// does badly; a link that heals is known within 5.
    pub fn wan() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            indirect_probes: 3,
            suspicion_mult: 6,
            retransmit_mult: 4,
            gossip_interval: Duration::from_millis(500),
            gossip_nodes: 4,
            sync_interval: Duration::from_secs(60),
            reconnect_interval: Duration::from_secs(3),
            stream_timeout: Duration::from_secs(5),
            brake_window: Duration::from_secs(60),
            brake_bound: Duration::from_secs(300),
        }
    }

    /// On one machine (`-dev`, tests): a death is known after about 2 seconds.
    pub fn local() -> Self {
        Self {
            probe_interval: Duration::from_millis(200),
            probe_timeout: Duration::from_millis(100),
            indirect_probes: 3,
            suspicion_mult: 6,
            retransmit_mult: 4,
            gossip_interval: Duration::from_millis(50),
            gossip_nodes: 3,
            sync_interval: Duration::from_secs(5),
            reconnect_interval: Duration::from_secs(1),
            stream_timeout: Duration::from_secs(1),
            brake_window: Duration::from_secs(2),
            brake_bound: Duration::from_secs(20),
        }
    }

    /// How long a suspected member has to object in a pool of so many. News needs time that grows with the
    /// logarithm of the number; up to a hundred members the multiplier alone leaves enough of it.
    pub(crate) fn suspicion(&self, members: usize) -> Duration {
        let scale = ((members.max(1) as f64).log10() - 1.0).max(1.0);
        (self.probe_interval * self.suspicion_mult).mul_f64(scale)
    }

    /// How often each piece of news is sent by each member in a pool of so many.
    pub(crate) fn transmissions(&self, members: usize) -> u8 {
        let scale = ((members + 1) as f64).log10().ceil().max(1.0);
        (f64::from(self.retransmit_mult) * scale).min(255.0) as u8
    }

    /// The time between two full exchanges in a pool of so many: one step longer per doubling beyond 32.
    pub(crate) fn sync_after(&self, members: usize) -> Duration {
        let doublings = (members.max(1) as f64 / 32.0).log2().ceil().max(0.0);
        self.sync_interval.mul_f64(1.0 + doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_consistent() {
        for timing in [Timing::lan(), Timing::wan(), Timing::local()] {
            assert!(timing.probe_timeout < timing.probe_interval);
            assert!(
                timing.stream_timeout < timing.suspicion(2),
                "a suspicion leaves time for the last question"
            );
        }
    }

    #[test]
    fn times_grow_slowly_with_the_pool() {
        let lan = Timing::lan();
        let seconds: Vec<f64> = [1, 10, 100, 1000].map(|n| lan.suspicion(n).as_secs_f64()).into();
        assert_eq!(seconds, [4.0, 4.0, 4.0, 8.0]);
        assert_eq!([1, 9, 50, 200].map(|n| lan.transmissions(n)), [4, 4, 8, 12]);
        assert_eq!(lan.sync_after(32), Duration::from_secs(30));
        assert_eq!(lan.sync_after(200), Duration::from_secs(120));
    }
}
