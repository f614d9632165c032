//! Where the facts come from: our own datacenter, and the others.

use std::sync::Arc;

use tribune_core::dns::Subject;
use tribune_core::{Authority, Datacenter, State};

/// The newest state of our own datacenter that this node has.
pub trait Source: Send + Sync + 'static {
    /// Looks at the state; must neither wait nor take a lock. Called for every few questions.
    fn state(&self) -> Arc<State>;

    /// What the askers of DNS questions may see.
    fn authority(&self) -> Arc<Authority>;
}

/// Asks other datacenters.
#[async_trait::async_trait]
pub trait RemoteLookup: Send + Sync + 'static {
    /// Fetches what `datacenter` knows of `subject` into a state of its own, from which the answer is then made
    /// by the same rules as for our own datacenter. Given up after a few seconds.
    async fn fetch(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Arc<State>, RemoteError>;
}

/// Why another datacenter did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteError {
    /// There is no such datacenter; the client is told that the name does not exist.
    Unknown,
    /// It cannot be reached now; the client is told to try again.
    Unreachable,
}

/// For a datacenter that is not federated: there are no others.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOtherDatacenters;

#[async_trait::async_trait]
impl RemoteLookup for NoOtherDatacenters {
    async fn fetch(&self, _datacenter: &Datacenter, _subject: &Subject) -> Result<Arc<State>, RemoteError> {
        Err(RemoteError::Unknown)
    }
}
