//! What only the leader can answer, such as whether a lease still runs.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;

/// Answers the questions that servers put to their leader.
#[async_trait]
pub trait LeaderService: Send + Sync {
    /// The answer. Only called on a leader that has applied all that was acknowledged before its election.
    async fn ask(&self, question: Bytes) -> Result<Bytes, String>;
}

/// The place of the one service, filled after the start.
#[derive(Default)]
pub(crate) struct Service(OnceLock<Arc<dyn LeaderService>>);

impl Service {
    /// Whether this was the first.
    pub(crate) fn set(&self, service: Arc<dyn LeaderService>) -> bool {
        self.0.set(service).is_ok()
    }

    pub(crate) fn get(&self) -> Option<&Arc<dyn LeaderService>> {
        self.0.get()
    }
}
