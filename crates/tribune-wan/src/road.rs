//! How requests get to other nodes. A trait, so that everything above it is tested without a network.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tribune_net::{DialError, Dialer, Endpoint};

use crate::body::{FarBody, far_body};

/// Sends one request to one node.
#[async_trait]
pub trait Road: Send + Sync + 'static {
    /// Sends `request`, whose URI is a path with a query, and gives the head of the answer with its body still to
    /// come. Gives up at `deadline`, by which the body must have arrived too.
    async fn send(
        &self,
        to: &Endpoint,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError>;
}

/// Why a request brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoadError {
    /// It was certainly not processed.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It was certainly not processed: whoever is there does not know our datacenter, or not yet.
    #[error("not known there: {0}")]
    Strange(String),
    /// It may have been processed.
    #[error("no answer: {0}")]
    Lost(String),
}

impl From<DialError> for RoadError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreachable(_) | DialError::Refused(_) => Self::NotSent(error.to_string()),
            DialError::Lost(_) | DialError::TimedOut => Self::Lost(error.to_string()),
        }
    }
}

#[async_trait]
impl Road for Dialer {
    async fn send(
        &self,
        to: &Endpoint,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        Ok(Dialer::send(self, to, request, deadline).await?.map(far_body))
    }
}
