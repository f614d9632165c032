//! Proposing changes.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;
use tribune_core::{Authority, Command, Outcome};

use super::Replica;
use super::read::Consistency;
use crate::codec::{self, CodecError};
use crate::config::ServerInfo;
use crate::error::Error;
use crate::faults::Fault;
use crate::space::Space;
use crate::transport::{Method, TransportError};
use crate::types::{Proposal, Reply, TypeConfig};
use crate::wire::{PROPOSAL_BYTES_MAX, Propose, Proposed};

/// Proposals that may wait for their outcome at once. At the usual rate these are a fraction of a second of
/// work; more would only wait longer.
pub(super) const PROPOSALS_MAX: usize = 16_384;

/// What an answer may need beyond the time the leader takes.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// What one attempt to write came to.
pub(super) enum Attempt {
    /// The entry stands at this index.
    Done { index: u64, reply: Reply },
    /// It certainly did not enter the log: the server asked does not lead, or was not reached.
    NotLeader,
    /// Trying again would not help, or could write twice.
    Failed(Error),
}

impl Replica {
    /// Proposes a change and waits until it is agreed upon, safe on the disk and applied here.
    ///
    /// A change that would change nothing or be refused does not enter the log: that is looked up in a state as
    /// new as the leader's. Every error but `Unknown` means that nothing was written.
    pub async fn propose(&self, authority: &Authority, command: Command) -> Result<Outcome, Error> {
        if !authority.permits(&command) {
            return Err(Error::Denied);
        }
        if let Some(outcome) = self.foresee(&command).await? {
            return Ok(outcome);
        }
        self.check_running()?;
        let begun = Clock::now();
        metrics::counter!("raft.apply").increment(1);
        let (index, reply) = self.write(Proposal::Command(Arc::new(command))).await?;
        metrics::histogram!("raft.commitTime").record(begun.elapsed().as_secs_f64() * 1e3);
        // Whoever reads here next, however stale, finds what was just acknowledged. It is safe in any case, so a
        // server that lags beyond the hold timeout is no reason to call it a failure.
        let deadline = Instant::now() + self.0.config.rpc_hold_timeout;
        if self.wait_applied(index, deadline).await.is_err() {
            tracing::warn!(index, "this server lags: a write it passed on is not in its own state yet");
        }
        match reply {
            Reply::Outcome(outcome) => Ok(outcome),
            Reply::Nothing | Reply::Restored(_) => Err(Error::Unknown("the log gave no outcome".to_owned())),
        }
    }

    /// The outcome, when it is certain that the state would stay as it is. A look at this server's own state
    /// tells whether to ask at all: most proposals do change something.
    async fn foresee(&self, command: &Command) -> Result<Option<Outcome>, Error> {
        if self.state().preview(command).changes() {
            return Ok(None);
        }
        let state = self.read(Consistency::Default).await?;
        Ok(Some(state.preview(command)).filter(|outcome| !outcome.changes()))
    }

    /// Writes through the log, here or where the leader is; where the entry stands and what applying it gave. An
    /// attempt that was turned away before it entered the log is repeated until the hold timeout; nothing else is.
    pub(crate) async fn write(&self, proposal: Proposal) -> Result<(u64, Reply), Error> {
        let hold = self.0.config.rpc_hold_timeout;
        let deadline = Instant::now() + hold;
        loop {
            let attempt = match self.leader_elsewhere() {
                None => self.attempt_here(proposal.clone(), hold).await,
                Some(leader) => self.attempt_there(&leader, proposal.clone()).await,
            };
            match attempt {
                Attempt::Done { index, reply } => return Ok((index, reply)),
                Attempt::NotLeader => self.pause(deadline).await?,
                Attempt::Failed(error) => return Err(error),
            }
        }
    }

    /// Writes to this server's log, if it leads. Waits for a majority no longer than `patience`.
    pub(super) async fn attempt_here(&self, proposal: Proposal, patience: Duration) -> Attempt {
        let Ok(_place) = self.0.proposals.try_acquire() else { return Attempt::Failed(Error::Busy) };
        let checked = self
            .check_running()
            .and_then(|()| check_length(&proposal))
            .and_then(|()| self.0.space.as_ref().map_or(Ok(()), Space::check));
        if let Err(error) = checked {
            return Attempt::Failed(error);
        }
        if Fault::AcknowledgedEarly.is_planted() {
            return self.acknowledge_early(proposal).await;
        }
        match tokio::time::timeout(patience, self.0.raft.client_write(proposal)).await {
            Ok(Ok(written)) => Attempt::Done { index: written.log_id.index, reply: written.data },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Attempt::NotLeader,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a write has no outcome that this server knows");
                let known = self.0.log.failure().reason().map(str::to_owned);
                Attempt::Failed(Error::Unknown(known.unwrap_or_else(|| unsure(&error).to_owned())))
            }
            Err(_) => {
                Attempt::Failed(Error::Unknown(format!("no majority has confirmed it within {patience:?}")))
            }
        }
    }

    /// Passes a proposal on to the leader. What certainly did not arrive may be tried again.
    async fn attempt_there(&self, leader: &ServerInfo, proposal: Proposal) -> Attempt {
        let Ok(_place) = self.0.passed_on.try_acquire() else { return Attempt::Failed(Error::Busy) };
        if let Err(error) = check_length(&proposal) {
            return Attempt::Failed(error);
        }
        let hold = self.0.config.rpc_hold_timeout;
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        let question = Propose { proposal, hold_ms };
        // The leader answers within the hold timeout; a little more lets its answer arrive.
        let deadline = Instant::now() + hold + ANSWER_PATIENCE;
        match self.0.caller.call(leader, Method::Propose, question, deadline).await {
            Ok(Proposed::Done { index, reply }) => Attempt::Done { index, reply },
            Ok(Proposed::NotLeader) => Attempt::NotLeader,
            Ok(Proposed::Busy) => Attempt::Failed(Error::Busy),
            Ok(Proposed::TooLong) => Attempt::Failed(Error::TooLong(PROPOSAL_BYTES_MAX)),
            Ok(Proposed::DiskFull { directory, available, needed }) => {
                Attempt::Failed(Error::DiskFull { directory: directory.into(), available, needed })
            }
            Ok(Proposed::Unknown(reason)) => Attempt::Failed(Error::Unknown(reason)),
            Err(TransportError::Unreachable(_) | TransportError::Refused(_)) => Attempt::NotLeader,
            Err(TransportError::Lost(_)) if Fault::ResentBlindly.is_planted() => Attempt::NotLeader,
            Err(TransportError::Lost(reason)) => Attempt::Failed(Error::Unknown(format!(
                "the leader {} gave no answer: {reason}",
                leader.name
            ))),
        }
    }

    /// What [`Fault::AcknowledgedEarly`] stands for: the entry is in this server's log, and that is all.
    async fn acknowledge_early(&self, proposal: Proposal) -> Attempt {
        match self.0.raft.client_write_ff(proposal, None).await {
            Ok(()) if self.is_leader_now() => {
                Attempt::Done { index: 0, reply: Reply::Outcome(Outcome::Applied) }
            }
            _ => Attempt::NotLeader,
        }
    }

    pub(super) fn describe(&self, error: &dyn Display) -> String {
        self.0.log.failure().reason().map_or_else(|| error.to_string(), str::to_owned)
    }

    fn check_running(&self) -> Result<(), Error> {
        if self.has_stopped() { Err(self.stopped_error()) } else { Ok(()) }
    }
}

/// An entry that no call can carry would keep the log from reaching the other servers for ever.
fn check_length(proposal: &Proposal) -> Result<(), Error> {
    codec::check_length(proposal, PROPOSAL_BYTES_MAX).map_err(|error| match error {
        CodecError::Long(bytes_max) => Error::TooLong(bytes_max),
        other => Error::Unknown(other.to_string()),
    })
}

/// Why the outcome of a write is unknown, in words that are shown to clients.
pub(crate) fn unsure(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> &'static str {
    match error {
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            "another server took over the leadership before a majority had confirmed the write; look whether it is \
             there before you repeat it"
        }
        RaftError::APIError(_) => {
            "the leader did not carry the write out; look whether it is there before you repeat it"
        }
        RaftError::Fatal(_) => {
            "this server stopped before a majority had confirmed the write; look whether it is there before you \
             repeat it"
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::errors::ForwardToLeader;

    use super::*;

    #[test]
    fn a_write_lost_to_a_new_leader_is_told_of_in_our_words() {
        let discarded = ClientWriteError::LogEntryDiscarded(ForwardToLeader::<TypeConfig>::empty());
        let text = Error::Unknown(unsure(&RaftError::APIError(discarded)).to_owned()).to_string();
        assert!(
            text.starts_with("the outcome of the write is unknown, it may still come into effect"),
            "{text}"
        );
        for internal in ["openraft", "ServerNode", "log entry", "forward"] {
            assert!(!text.contains(internal), "{text}");
        }
    }
}
