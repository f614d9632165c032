//! Proposing changes.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant as Clock;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;
use tribune_core::{Authority, Command, Outcome};

use super::Replica;
use super::read::Consistency;
use crate::error::Error;
use crate::types::Proposal;

/// Proposals that may wait for their outcome at once. At the usual rate these are a fraction of a second of
/// work; more would only wait longer.
pub(super) const PROPOSALS_MAX: usize = 16_384;

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
        let _place = self.0.proposals.try_acquire().map_err(|_| Error::Busy)?;
        self.check_running()?;
        if let Some(space) = &self.0.space {
            space.check()?;
        }
        let begun = Clock::now();
        metrics::counter!("raft.apply").increment(1);
        let outcome = self.write(Proposal(Arc::new(command))).await?;
        metrics::histogram!("raft.commitTime").record(begun.elapsed().as_secs_f64() * 1e3);
        Ok(outcome)
    }

    /// The outcome, when it is certain that the state would stay as it is. A look at this server's own state
    /// tells whether to ask at all: most proposals do change something.
    async fn foresee(&self, command: &Command) -> Result<Option<Outcome>, Error> {
        if self.state().preview(command) == Outcome::Applied {
            return Ok(None);
        }
        let state = self.read(Consistency::Default).await?;
        Ok(Some(state.preview(command)).filter(|outcome| *outcome != Outcome::Applied))
    }

    /// Writes through the log. An attempt that is turned away before it entered the log is repeated until the
    /// hold timeout; nothing else is.
    async fn write(&self, proposal: Proposal) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.0.config.rpc_hold_timeout;
        loop {
            match self.0.raft.client_write(proposal.clone()).await {
                Ok(written) => {
                    let outcome = written.data.0;
                    return outcome.ok_or_else(|| Error::Unknown("the log gave no outcome".to_owned()));
                }
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    self.pause(deadline).await?
                }
                Err(error) => return Err(Error::Unknown(self.describe(&error))),
            }
        }
    }

    fn describe(&self, error: &dyn Display) -> String {
        self.0.log.failure().reason().map_or_else(|| error.to_string(), str::to_owned)
    }

    fn check_running(&self) -> Result<(), Error> {
        let stopped = self.0.metrics.borrow_watched().running_state.is_err();
        if stopped { Err(self.stopped_error()) } else { Ok(()) }
    }
}
