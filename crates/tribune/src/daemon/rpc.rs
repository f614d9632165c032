//! The cluster port of a server: calls of the agreement, of client agents, and requests that they pass on.
//!
//! | path | who may call | what it does |
//! |---|---|---|
//! | `/raft/<method>` | servers | a call of the agreement |
//! | `/rpc/found` | servers | asks for this server's word on founding the datacenter |
//! | `/rpc/propose` | servers and client agents | has a command written |
//! | `/rpc/slice` | servers and client agents | a part of the catalog, now or when it has changed |
//! | `/rpc/query` | servers and client agents | what a prepared query finds, now or when that has changed |
//! | `/v1/…` | servers and client agents | the HTTP API, as if asked here |

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method as Verb, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::Service;
use tribune_core::Datacenter;
use tribune_net::{PeerIdentity, PeerRole};
use tribune_raft::{BODY_BYTES_MAX, Method, Replica, ServeError};
use tribune_wan::{DcBody, RpcService, far_body};

use super::door::{Answered, Door};
use crate::founding::{Promise, Proposal};

/// Asks for this server's word.
pub(crate) const FOUND_PATH: &str = "/rpc/found";

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Answers on the cluster port. Clones are the same desk.
#[derive(Clone)]
pub(super) struct Rpc(Arc<Inner>);

pub(super) struct Inner {
    pub(super) datacenter: Datacenter,
    pub(super) replica: Replica,
    pub(super) promise: Arc<Promise>,
    /// For nodes.
    pub(super) door: Door,
    /// What nodes ask besides.
    pub(super) asked: RpcService,
    /// Whether callers come over TLS. Without it, everybody who reaches the port counts as a server.
    pub(super) uses_tls: bool,
}

/// Why a call is not answered: a status and what to say.
struct Refusal(StatusCode, String);

impl Rpc {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Service<Request<Incoming>> for Rpc {
    type Response = Response<DcBody<Answered>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            Ok(inner.answer(request).await.unwrap_or_else(|Refusal(status, text)| {
                let mut response = Response::new(whole(Bytes::from(text)));
                *response.status_mut() = status;
                response
            }))
        })
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<DcBody<Answered>>, Refusal> {
        let role = self.role(&request)?;
        let path = request.uri().path().to_owned();
        if path.starts_with("/v1/") {
            let answered = self.door.clone().call(request).await.unwrap_or_else(|never| match never {});
            return Ok(answered.map(DcBody::Near));
        }
        if request.method() != Verb::POST {
            return Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "calls between nodes are made with POST".to_owned(),
            ));
        }
        let for_servers = path.starts_with("/raft/") || path == FOUND_PATH;
        if for_servers && role != PeerRole::Server {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                format!("the certificate is not one of a server of {}", self.datacenter),
            ));
        }
        if path == FOUND_PATH {
            let proposal: Proposal = unpacked(&body(request).await?)?;
            return packed(&self.promise.answer(&proposal, &self.replica));
        }
        match path.strip_prefix("/raft/").map(Method::parse) {
            Some(Some(method)) => {
                let answer = self.replica.serve(method, body(request).await?).await.map_err(refused)?;
                Ok(Response::new(whole(answer)))
            }
            Some(None) => {
                Err(Refusal(StatusCode::NOT_FOUND, format!("there is no call {path} in this version")))
            }
            None => Ok(self.asked.answer(request).await.map(DcBody::Far)),
        }
    }

    /// Who calls. Over TLS only a certificate makes a server.
    fn role(&self, request: &Request<Incoming>) -> Result<PeerRole, Refusal> {
        match request.extensions().get::<PeerIdentity>() {
            Some(peer) if peer.datacenter == self.datacenter => Ok(peer.role),
            Some(peer) => Err(Refusal(
                StatusCode::FORBIDDEN,
                format!(
                    "this is datacenter {}, the certificate is one of {}",
                    self.datacenter, peer.datacenter
                ),
            )),
            None if self.uses_tls => Ok(PeerRole::Client),
            None => Ok(PeerRole::Server),
        }
    }
}

fn refused(error: ServeError) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let collected =
        tokio::time::timeout(BODY_TIME, Limited::new(request.into_body(), BODY_BYTES_MAX).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())),
        Err(_) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned())),
    }
}

fn unpacked<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    rmp_serde::from_slice(body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))
}

fn packed<T: Serialize>(answer: &T) -> Result<Response<DcBody<Answered>>, Refusal> {
    let packed = rmp_serde::to_vec_named(answer);
    let packed = packed.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Response::new(whole(packed.into())))
}

fn whole(bytes: Bytes) -> DcBody<Answered> {
    DcBody::Far(far_body(Full::new(bytes)))
}
