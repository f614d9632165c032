//! Reading: how new an answer must be, and making sure it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::{Instant as _, RaftMetrics, ReadPolicy, ServerState};
use tokio::time::Instant;
use tribune_core::State;

use super::Replica;
use crate::error::Error;
use crate::types::TypeConfig;

/// Between two attempts while there is no leader, unless something happens earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How new the state given to a reader must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// As new as the leader's, trusting its lease: clocks may differ in speed only a little.
    #[default]
    Default,
    /// As new as the leader's, which asks a majority whether it still leads.
    Consistent,
    /// Whatever this server has.
    Stale,
}

impl Replica {
    /// The state, at least as new as `consistency` asks for. Waits for a leader up to the hold timeout.
    pub async fn read(&self, consistency: Consistency) -> Result<Arc<State>, Error> {
        if consistency == Consistency::Stale || self.answers_at_once(consistency) {
            return Ok(self.state());
        }
        let policy = match consistency {
            Consistency::Consistent => ReadPolicy::ReadIndex,
            Consistency::Default | Consistency::Stale => ReadPolicy::LeaseRead,
        };
        let deadline = Instant::now() + self.0.config.rpc_hold_timeout;
        loop {
            let attempt = self.0.raft.ensure_linearizable(policy.clone());
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(_)) => return Ok(self.state()),
                Ok(Err(RaftError::Fatal(_))) => return self.state_of_the_stopped(),
                Ok(Err(RaftError::APIError(_))) => self.pause(deadline).await?,
                Err(_) => return Err(Error::NoLeader(self.0.config.rpc_hold_timeout)),
            }
        }
    }

    /// Whether this server can vouch for its state by itself: it leads, has applied an entry of its own
    /// election, and its lease runs, or nobody else could lead.
    ///
    /// Everything acknowledged before the call is in the state by then, since proposers are answered after the
    /// state is published; and no other leader can have acknowledged anything while the lease runs.
    fn answers_at_once(&self, consistency: Consistency) -> bool {
        let metrics = self.0.metrics.borrow_watched();
        metrics.running_state.is_ok()
            && metrics.state == ServerState::Leader
            && metrics.vote.is_committed()
            && metrics.last_applied.is_some_and(|id| id.committed_leader_id().term == metrics.current_term)
            && (self.is_sole_voter(&metrics)
                || (consistency == Consistency::Default && self.lease_runs(&metrics)))
    }

    /// The figures lag behind by one round of consensus and never run ahead of it.
    fn lease_runs(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        let acknowledged = metrics.last_quorum_acked.as_ref();
        acknowledged.is_some_and(|at| at.elapsed() < self.0.config.election_timeout_min)
    }

    /// What a reader gets when this replica has stopped because of its disk. The only voter of a datacenter
    /// still has everything that was ever acknowledged; any other server may have been overtaken.
    fn state_of_the_stopped(&self) -> Result<Arc<State>, Error> {
        let by_storage = {
            let metrics = self.0.metrics.borrow_watched();
            matches!(metrics.running_state, Err(Fatal::StorageError(_))) && self.is_sole_voter(&metrics)
        };
        if by_storage && self.0.recovered.load(Ordering::Acquire) {
            return Ok(self.state());
        }
        Err(self.stopped_error())
    }

    /// Waits until something about the servers changes, or a little while; fails at the deadline.
    pub(super) async fn pause(&self, deadline: Instant) -> Result<(), Error> {
        if Instant::now() >= deadline {
            return Err(Error::NoLeader(self.0.config.rpc_hold_timeout));
        }
        let mut servers = self.0.raft.server_metrics();
        let until = deadline.min(Instant::now() + RETRY_PAUSE);
        // Either way the caller tries again.
        let _ = tokio::time::timeout_at(until, servers.changed()).await;
        Ok(())
    }
}
