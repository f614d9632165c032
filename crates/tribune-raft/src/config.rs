//! What a replica is told at its start: where it keeps its data, who it is, and its times and limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribune_core::{Datacenter, NodeName};

use crate::transport::{NoRoad, Transport};

/// The datacenter when none is named.
const DATACENTER: &str = "dc1";

/// The multiplier when none is set, as users of `raft_multiplier` know it.
pub const RAFT_MULTIPLIER: u8 = 5;

/// Times at multiplier 1, in milliseconds: sign of life, shortest and longest silence. A leader that dies is
/// replaced about the sum of the last two later.
const FASTEST: [u64; 3] = [50, 130, 210];

/// How much longer the times are at the multipliers 1 to 10, in percent. Up to the usual 5 they stay below a
/// second; beyond it they grow faster, for machines that stall for that long.
const STRETCH: [u64; 10] = [100, 120, 140, 170, 200, 260, 340, 440, 560, 700];

/// Settings of one replica. [`Config::new`] gives the defaults; every field may be changed before the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where log, vote and snapshots are kept.
    pub storage: Storage,
    /// This server.
    pub server: ServerInfo,
    /// The datacenter it belongs to. Calls from servers of another one are refused.
    pub datacenter: Datacenter,
    /// The road to the other servers.
    pub transport: Arc<dyn Transport>,
    /// Whether an empty replica makes itself the only voter of a new datacenter. Without it an empty replica
    /// waits to be taken into an existing one, or for [`crate::Admin::bootstrap`]. Ignored when there is data.
    pub bootstrap: bool,
    /// Time between two signs of life of a leader. Must be well below `election_timeout_min`.
    pub heartbeat_interval: Duration,
    /// Shortest silence of a leader before a server stands for election.
    pub election_timeout_min: Duration,
    /// Longest such silence; also how long a leader may answer reads without asking the others again.
    pub election_timeout_max: Duration,
    /// Log entries after which a new snapshot is due (`raft_snapshot_threshold`).
    pub snapshot_threshold: u64,
    /// Least time between two snapshots (`raft_snapshot_interval`): under a heavy load the threshold alone would
    /// keep the disk busy with nothing but snapshots.
    pub snapshot_interval: Duration,
    /// Log entries kept behind a snapshot for servers that lag (`raft_trailing_logs`).
    pub trailing_logs: u64,
    /// How long a read or a proposal waits for a leader before it fails (`rpc_hold_timeout`).
    pub rpc_hold_timeout: Duration,
    /// Log entries between two states that the servers compare by their hashes.
    pub hash_interval: u64,
}

impl Config {
    /// The defaults for a server inside one datacenter.
    pub fn new(storage: Storage, server: ServerInfo) -> Self {
        let [heartbeat_interval, election_timeout_min, election_timeout_max] = times(RAFT_MULTIPLIER);
        Self {
            storage,
            server,
            datacenter: default_datacenter(),
            transport: Arc::new(NoRoad),
            bootstrap: false,
            heartbeat_interval,
            election_timeout_min,
            election_timeout_max,
            snapshot_threshold: 16_384,
            snapshot_interval: Duration::from_secs(30),
            trailing_logs: 10_240,
            rpc_hold_timeout: Duration::from_secs(7),
            hash_interval: 4096,
        }
    }

    /// The same with the times that `raft_multiplier` stands for, 1 (fast machines, fast network) to 10. What is
    /// outside counts as the nearest of these.
    #[must_use]
    pub fn with_raft_multiplier(self, multiplier: u8) -> Self {
        let [heartbeat_interval, election_timeout_min, election_timeout_max] = times(multiplier);
        Self { heartbeat_interval, election_timeout_min, election_timeout_max, ..self }
    }

    /// Longest time without a sign of life after which a server still counts as there.
    pub(crate) fn silence_max(&self) -> Duration {
        self.election_timeout_max * 2
    }
}

/// Sign of life, shortest and longest silence at a multiplier.
fn times(multiplier: u8) -> [Duration; 3] {
    let last = STRETCH.len() - 1;
    let stretch = STRETCH[usize::from(multiplier).saturating_sub(1).min(last)];
    FASTEST.map(|millis| Duration::from_millis(millis * stretch / 100))
}

fn default_datacenter() -> Datacenter {
    match Datacenter::new(DATACENTER) {
        Ok(datacenter) => datacenter,
        Err(error) => unreachable!("{DATACENTER} is a name: {error}"),
    }
}

/// Where a replica keeps what it must remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In memory: everything is gone when the process ends.
    Memory,
    /// In this directory, which is created when it is not there.
    Directory(PathBuf),
    /// On a simulated disk.
    #[cfg(feature = "testing")]
    Simulated(crate::simulation::Disk),
}

/// A server of the datacenter as the others know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its lasting id, a UUID in lower case.
    pub id: String,
    /// The name of the node it runs on.
    pub name: NodeName,
    /// Where servers reach each other.
    pub address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_multiplier_gives_times_that_consensus_accepts_and_longer_ones_than_the_one_before() {
        let mut before = [Duration::ZERO; 3];
        for multiplier in 1..=10 {
            let times = times(multiplier);
            let [heartbeat, shortest, longest] = times;
            assert!(heartbeat * 2 < shortest && shortest < longest, "{times:?}");
            assert!(times.iter().zip(before).all(|(now, before)| *now > before), "{times:?}");
            before = times;
        }
        assert_eq!(times(0), times(1));
        assert_eq!(times(255), times(10));
    }
}
