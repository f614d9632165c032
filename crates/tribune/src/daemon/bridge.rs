//! This server's replica in the words of the crates that use it without knowing it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tribune_core::{Authority, Command, Index, Outcome, State, Topic};
use tribune_dns::Source;
use tribune_local::{Catalog, CatalogError};
use tribune_raft::{Error, Replica};

/// The catalog of a node that is a server itself.
pub(super) struct OwnCatalog {
    replica: Replica,
    authority: Authority,
}

impl OwnCatalog {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, authority: Authority::unrestricted() }
    }
}

#[async_trait]
impl Catalog for OwnCatalog {
    async fn state(&self) -> Result<Arc<State>, CatalogError> {
        self.replica.read(tribune_raft::Consistency::Default).await.map_err(translated)
    }

    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError> {
        self.replica.propose(&self.authority, command).await.map_err(translated)
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        self.replica.changed(topic, after, until).await
    }
}

fn translated(error: Error) -> CatalogError {
    match error {
        Error::NoLeader(_) => CatalogError::NoLeader,
        Error::Unknown(why) => CatalogError::Unknown(why),
        other => CatalogError::Unavailable(other.to_string()),
    }
}

/// What DNS answers from.
pub(super) struct OwnState {
    replica: Replica,
    authority: Arc<Authority>,
}

impl OwnState {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, authority: Arc::new(Authority::unrestricted()) }
    }
}

impl Source for OwnState {
    fn state(&self) -> Arc<State> {
        self.replica.state()
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }
}
