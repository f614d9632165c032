//! The catalog as this crate sees it: something to read, to propose to and to wait for.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tribune_core::{Command, Index, Outcome, State, Topic};

/// Access to the datacenter's catalog. A server has its replica behind it, a client agent its servers.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// The catalog as far as it is known here; at least this node with all that is on it.
    async fn state(&self) -> Result<Arc<State>, CatalogError>;

    /// Has a command written. Returns when it is decided, or with an error that tells whether it may still be.
    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError>;

    /// The catalog once `topic` has an index above `after`, or whatever there is at `until`.
    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State>;
}

/// Why the catalog could not be asked or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// Nobody leads the datacenter at present. Nothing was written. The wording is what operators look for.
    #[error("No cluster leader")]
    NoLeader,
    /// The answer was lost: it may or may not have been written.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The servers could not be reached, or did not accept it. Nothing was written.
    #[error("{0}")]
    Unavailable(String),
}
