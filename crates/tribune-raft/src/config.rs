//! What a replica is told at its start: where it keeps its data, who it is, and its times and limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tribune_core::NodeName;

/// Settings of one replica. [`Config::new`] gives the defaults; every field may be changed before the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where log, vote and snapshots are kept.
    pub storage: Storage,
    /// This server.
    pub server: ServerInfo,
    /// Whether an empty replica makes itself the only voter of a new datacenter. Without it an empty replica
    /// waits to be taken into an existing one. Ignored when there is data.
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
}

impl Config {
    /// The defaults for a server inside one datacenter.
    pub fn new(storage: Storage, server: ServerInfo) -> Self {
        Self {
            storage,
            server,
            bootstrap: false,
            heartbeat_interval: Duration::from_millis(150),
            election_timeout_min: Duration::from_millis(1000),
            election_timeout_max: Duration::from_millis(2000),
            snapshot_threshold: 16_384,
            snapshot_interval: Duration::from_secs(30),
            trailing_logs: 10_240,
            rpc_hold_timeout: Duration::from_secs(7),
        }
    }
}

/// Where a replica keeps what it must remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In memory: everything is gone when the process ends.
    Memory,
    /// In this directory, which is created when it is not there.
    Directory(PathBuf),
}

/// A server of the datacenter as the others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its lasting id, a UUID in lower case.
    pub id: String,
    /// The name of the node it runs on.
    pub name: NodeName,
    /// Where servers reach each other.
    pub address: SocketAddr,
}
