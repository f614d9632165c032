//! Where the facts come from: our own datacenter, and the others.

use std::sync::Arc;

use tribune_core::dns::Subject;
use tribune_core::query::Query;
use tribune_core::{Authority, Datacenter, State, Topic};

/// Where the facts about our own datacenter are.
#[derive(Clone)]
pub enum Own {
    /// All of them are here: on a server.
    Held(Arc<dyn Source>),
    /// They are asked for, topic by topic: on a client agent.
    Asked(Arc<dyn TopicLookup>),
}

/// The newest state of our own datacenter that this node has.
pub trait Source: Send + Sync + 'static {
    /// Looks at the state; must neither wait nor take a lock. Called for every few questions.
    fn state(&self) -> Arc<State>;

    /// What the askers of DNS questions may see.
    fn authority(&self) -> Arc<Authority>;
}

/// Asks the servers of our own datacenter.
#[async_trait::async_trait]
pub trait TopicLookup: Send + Sync + 'static {
    /// A state that answers questions about `topic`, if one is at hand; must neither wait nor ask.
    fn peek(&self, topic: &Topic) -> Option<Arc<State>>;

    /// Fetches such a state. Given up after a few seconds.
    async fn fetch(&self, topic: &Topic) -> Result<Arc<State>, RemoteError>;

    /// What the askers of DNS questions may see.
    fn authority(&self) -> Arc<Authority>;
}

/// Asks other datacenters, and about prepared queries our own as well.
#[async_trait::async_trait]
pub trait RemoteLookup: Send + Sync + 'static {
    /// What [`RemoteLookup::fetch`] would give, if it is at hand; must neither wait nor ask.
    fn peek(&self, _datacenter: &Datacenter, _subject: &Subject) -> Option<Found> {
        None
    }

    /// Fetches what `datacenter` knows of `subject` into a state of its own, from which the answer is then made
    /// by the same rules as for our own datacenter. A prepared query may have found its instances in yet another
    /// datacenter. Given up after a few seconds.
    async fn fetch(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Found, RemoteError>;
}

/// What was fetched.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose records these are.
    pub datacenter: Datacenter,
    /// The records.
    pub state: Arc<State>,
    /// The prepared query that was asked for, if there is one.
    pub query: Option<Arc<Query>>,
}

impl Found {
    /// Records that `datacenter` has of anything but a prepared query.
    pub fn records(datacenter: &Datacenter, state: Arc<State>) -> Self {
        Self { datacenter: datacenter.clone(), state, query: None }
    }
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
    async fn fetch(&self, _datacenter: &Datacenter, _subject: &Subject) -> Result<Found, RemoteError> {
        Err(RemoteError::Unknown)
    }
}
