//! Reading: how new an answer must be, and making sure it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::{Instant as _, RaftMetrics, ReadPolicy, ServerState};
use tokio::time::Instant;
use tribune_core::State;

use super::Replica;
use crate::error::Error;
use crate::faults::Fault;
use crate::transport::Method;
use crate::types::TypeConfig;
use crate::wire::{ReadFrom, ReadIndex};

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

/// What a question for the read index came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadIndexed {
    /// A state that has come this far is new enough.
    From(u64),
    /// No leader answered.
    NoLeader,
    /// This replica has stopped.
    Stopped,
}

impl Replica {
    /// The state, at least as new as `consistency` asks for. Waits for a leader up to the hold timeout.
    pub async fn read(&self, consistency: Consistency) -> Result<Arc<State>, Error> {
        if consistency == Consistency::Stale
            || self.answers_at_once(consistency)
            || Fault::StaleServedAsDefault.is_planted()
        {
            return Ok(self.state());
        }
        let confirmed = consistency == Consistency::Consistent;
        let questions = if confirmed { &self.0.confirmed_reads } else { &self.0.reads };
        let deadline = Instant::now() + self.0.config.rpc_hold_timeout;
        loop {
            let asked = questions.ask(|| self.read_index(confirmed));
            match tokio::time::timeout_at(deadline, asked).await {
                Ok(ReadIndexed::From(index)) => {
                    if !Fault::ReadBeforeApplied.is_planted() {
                        self.wait_applied(index, deadline).await?;
                    }
                    return Ok(self.state());
                }
                Ok(ReadIndexed::Stopped) => return self.state_of_the_stopped(),
                Ok(ReadIndexed::NoLeader) => self.pause(deadline).await?,
                Err(_) => return Err(Error::NoLeader(self.0.config.rpc_hold_timeout)),
            }
        }
    }

    /// How far a state must have come to be as new as the leader's, asked of the leader.
    async fn read_index(&self, confirmed: bool) -> ReadIndexed {
        let Some(leader) = self.leader_elsewhere() else { return self.read_index_here(confirmed).await };
        if self.has_stopped() {
            return ReadIndexed::Stopped;
        }
        // A question may be repeated freely, so one that a dead leader does not answer is given up early.
        let until = Instant::now() + self.0.config.silence_max();
        let question = ReadIndex { confirmed };
        match self.0.caller.call(&leader, Method::ReadIndex, question, until).await {
            Ok(ReadFrom::Index(index)) => ReadIndexed::From(index),
            Ok(ReadFrom::NotLeader) | Err(_) => ReadIndexed::NoLeader,
        }
    }

    /// The same for another server's question: those of all servers share one to the majority.
    pub(super) async fn read_index_for_others(&self, confirmed: bool) -> ReadIndexed {
        match confirmed {
            true => self.0.confirmed_for_others.ask(|| self.read_index_here(true)).await,
            false => self.read_index_here(false).await,
        }
    }

    /// The same on the leader.
    ///
    /// One that vouches for its state by its lease need not ask consensus: all that was acknowledged before the
    /// question, here or on another server, has been published here by then, so the state has come far enough. The
    /// place is looked up after the lease and may only be later than needed.
    pub(super) async fn read_index_here(&self, confirmed: bool) -> ReadIndexed {
        let unasked = Fault::ConfirmationLeftOut.is_planted() && self.is_leader_now();
        if unasked || (!confirmed && self.answers_at_once(Consistency::Default)) {
            return ReadIndexed::From(*self.0.applied.borrow());
        }
        let policy = if confirmed { ReadPolicy::ReadIndex } else { ReadPolicy::LeaseRead };
        match self.0.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => ReadIndexed::From(linearizer.read_log_id().index()),
            Err(RaftError::Fatal(_)) => ReadIndexed::Stopped,
            Err(RaftError::APIError(_)) => ReadIndexed::NoLeader,
        }
    }

    /// Waits until everything up to `index` is in this server's state.
    pub(super) async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), Error> {
        let mut applied = self.0.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stopped_error()),
            Err(_) => Err(Error::NoLeader(self.0.config.rpc_hold_timeout)),
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
            && (self.0.yielded.load(Ordering::SeqCst) < metrics.current_term
                || Fault::LeaseKeptInHandover.is_planted())
            && (self.is_sole_voter(&metrics)
                || (consistency == Consistency::Default && self.lease_runs(&metrics)))
    }

    /// The figures lag behind by one round of consensus and never run ahead of it.
    fn lease_runs(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        let acknowledged = metrics.last_quorum_acked.as_ref();
        acknowledged.is_some_and(|at| at.elapsed() < self.0.config.election_timeout_min)
            || Fault::LeaseWithoutEnd.is_planted()
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
    pub(crate) async fn pause(&self, deadline: Instant) -> Result<(), Error> {
        if Instant::now() >= deadline {
            return Err(Error::NoLeader(self.0.config.rpc_hold_timeout));
        }
        let mut servers = self.0.raft.server_metrics();
        // A new receiver has not seen what it begins with; that is no change.
        let _ = servers.changed().now_or_never();
        let until = deadline.min(Instant::now() + RETRY_PAUSE);
        match tokio::time::timeout_at(until, servers.changed()).await {
            Ok(Err(_)) => Err(self.stopped_error()),
            // Either way the caller tries again.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}
