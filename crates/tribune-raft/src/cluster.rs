//! What a replica knows of its datacenter's servers at one moment.

use std::time::Duration;

use tribune_core::Index;

use crate::config::ServerInfo;

/// The servers, who leads, and how far this replica has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// The leader as this server knows it.
    pub leader: Option<ServerInfo>,
    /// Whether this server leads.
    pub is_leader: bool,
    /// All servers, sorted by id.
    pub servers: Vec<ClusterServer>,
    /// The election this server is in.
    pub term: u64,
    /// The first entry this server's log still has; those before are in a snapshot.
    pub first_log: Index,
    /// The last entry in this server's log.
    pub last_log: Index,
    /// The last entry known to be agreed upon.
    pub commit: Index,
    /// The last entry applied to the state.
    pub applied: Index,
    /// The last entry covered by a snapshot.
    pub snapshot: Index,
    /// How long ago this server last had word from the leader, zero on the leader itself; `None` when it never
    /// had.
    pub last_contact: Option<Duration>,
    /// The servers whose states were not what the others' were at the same index when this server last compared them;
    /// none unless it leads.
    pub diverged: Vec<ServerInfo>,
    /// Why this replica has stopped, if it has.
    pub stopped: Option<String>,
}

/// A server and its part in the agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterServer {
    /// Who it is.
    pub server: ServerInfo,
    /// Whether its vote counts.
    pub voter: bool,
}

/// How a server stands to its leader: what every read tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Whether it knows who leads.
    pub known_leader: bool,
    /// How long ago it last had word from the leader, zero on the leader itself; `None` when it never had.
    pub last_contact: Option<Duration>,
}

/// Who leads, as told by [`crate::Leadership`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This server leads and has applied everything agreed upon before.
    Leader {
        /// Of this election.
        term: u64,
    },
    /// Another server leads, or none.
    Other,
}
