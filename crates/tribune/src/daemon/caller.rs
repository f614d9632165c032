//! Calls to other nodes of the datacenter over the cluster port, and the roads of the agreement on top of them.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tribune_core::Datacenter;
use tribune_gossip::Pool;
use tribune_net::{DialError, Dialer, Endpoint};
use tribune_raft::{BODY_BYTES_MAX, Method, ServerInfo, Transport, TransportError};

use crate::membership;

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It was certainly not processed.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It may have been processed.
    #[error("the answer was lost: {0}")]
    Lost(String),
    /// The other node did not want to answer.
    #[error("{0}")]
    Refused(String),
}

/// Calls nodes of one datacenter.
#[derive(Clone)]
pub(crate) struct Caller {
    dialer: Dialer,
    datacenter: Datacenter,
}

impl Caller {
    pub(crate) fn new(dialer: Dialer, datacenter: Datacenter) -> Self {
        Self { dialer, datacenter }
    }

    /// Sends a request and gives the whole answer, whatever its status.
    pub(crate) async fn request(
        &self,
        address: SocketAddr,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<(StatusCode, HeaderMap, Bytes), CallError> {
        let endpoint = Endpoint { address, datacenter: self.datacenter.clone() };
        let (head, body) = self.dialer.send(&endpoint, request, deadline).await?.into_parts();
        Ok((head.status, head.headers, body.collect(BODY_BYTES_MAX).await?))
    }

    /// Sends bytes and gives the bytes of a good answer.
    async fn bytes(
        &self,
        address: SocketAddr,
        path: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let request =
            Request::post(path).body(body).map_err(|error| CallError::Refused(error.to_string()))?;
        match self.request(address, request, deadline).await? {
            (StatusCode::OK, _, body) => Ok(body),
            (_, _, body) => Err(CallError::Refused(String::from_utf8_lossy(&body).into_owned())),
        }
    }

    /// Asks a question and reads the answer.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        address: SocketAddr,
        path: &str,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, CallError> {
        let body =
            rmp_serde::to_vec_named(question).map_err(|error| CallError::Refused(error.to_string()))?;
        let answer = self.bytes(address, path, body.into(), deadline).await?;
        rmp_serde::from_slice(&answer).map_err(|error| CallError::Lost(format!("an odd answer: {error}")))
    }
}

impl From<DialError> for CallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreachable(_) | DialError::Refused(_) => Self::Unreachable(error.to_string()),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// How servers of a datacenter reach each other. Signs of life, entries and snapshots take connections of their
/// own, so that none waits behind another.
pub(crate) struct Roads {
    pub(crate) pool: Pool,
    pub(crate) usual: Caller,
    pub(crate) signs_of_life: Caller,
    pub(crate) snapshots: Caller,
}

#[async_trait]
impl Transport for Roads {
    async fn call(
        &self,
        server: &ServerInfo,
        method: Method,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, TransportError> {
        let caller = match method {
            Method::Vote | Method::PreVote | Method::Heartbeat => &self.signs_of_life,
            Method::Snapshot => &self.snapshots,
            _ => &self.usual,
        };
        let path = format!("/raft/{}", method.as_str());
        caller.bytes(membership::current_address(&self.pool, server), &path, body, deadline).await.map_err(
            |error| match error {
                CallError::Unreachable(why) => TransportError::Unreachable(why),
                CallError::Lost(why) => TransportError::Lost(why),
                CallError::Refused(why) => TransportError::Refused(why),
            },
        )
    }
}
