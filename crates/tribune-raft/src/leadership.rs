//! Following who leads.

use std::fmt;

use openraft::ServerState;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use crate::cluster::Role;
use crate::types::TypeConfig;

/// Tells when this server begins and ceases to lead. A leader counts as one once it has applied the first entry
/// of its own election: only then does its state hold everything that was acknowledged before.
#[derive(Clone)]
pub struct Leadership {
    servers: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    applied_term: watch::Receiver<u64>,
    told: Option<Role>,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("role", &self.role()).finish()
    }
}

impl Leadership {
    pub(crate) fn new(
        servers: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
        applied_term: watch::Receiver<u64>,
    ) -> Self {
        Self { servers, applied_term, told: None }
    }

    /// This server's part now.
    pub fn role(&self) -> Role {
        let servers = self.servers.borrow_watched();
        let term = servers.vote.leader_id().term;
        let leads = servers.state == ServerState::Leader && servers.vote.is_committed();
        let applied_term = *self.applied_term.borrow();
        if leads && applied_term == term { Role::Leader { term } } else { Role::Other }
    }

    /// The part of this server, as soon as it is another than the last call told; the first call tells it at
    /// once. `None` when the replica has ended.
    pub async fn next(&mut self) -> Option<Role> {
        loop {
            let role = self.role();
            if self.told != Some(role) {
                self.told = Some(role);
                return Some(role);
            }
            tokio::select! {
                changed = self.servers.changed() => changed.ok()?,
                changed = self.applied_term.changed() => changed.ok()?,
            }
        }
    }
}
