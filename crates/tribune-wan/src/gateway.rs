//! The inward side: requests of other datacenters, held to what their certificates say.
//!
//! ```text
//!  who asks? ─▶ a server ─▶ of a datacenter we know ─▶ that claims no other name ─▶ not in a loop ─▶ for us: answer
//!                                                                                              └─▶ for others: relay once
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Service, ServiceExt};
use tribune_api::params::routed_path;
use tribune_core::Datacenter;
use tribune_net::{PeerIdentity, PeerRole};

use crate::body::DcBody;
use crate::failure::Failure;
use crate::forward::Forwarder;
use crate::parcel::{self, FROM, Parcel};
use crate::rpc::{PROPOSE_PATH, RPC_PREFIX, RpcService, waiting_kind};

/// Most requests of one other datacenter at a time, those that wait included.
const REQUESTS_MAX: usize = 4096;
/// What may be asked from elsewhere.
const API_PREFIX: &str = "/v1/";
/// What concerns one agent only.
const AGENT_PREFIX: &str = "/v1/agent/";

/// The inward side, in front of the HTTP service of this datacenter. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Gateway<S> {
    inner: S,
    own: Datacenter,
    forwarder: Forwarder,
    rpc: RpcService,
    places: Arc<Mutex<HashMap<Datacenter, Arc<Semaphore>>>>,
}

/// Where a request that was let in is to go.
enum Way {
    Here,
    Relay(Datacenter),
}

impl<S> Gateway<S> {
    /// A gateway of datacenter `own`. `inner` answers `/v1/…` for this datacenter, `rpc` what nodes ask; requests
    /// for other datacenters go out through `forwarder`.
    pub fn new(own: Datacenter, inner: S, rpc: RpcService, forwarder: Forwarder) -> Self {
        Self { inner, own, forwarder, rpc, places: Arc::default() }
    }

    /// Whether the other side may ask at all.
    fn admit(&self, peer: Option<&PeerIdentity>) -> Result<Datacenter, Failure> {
        let forbidden = |text: String| Failure::refused(StatusCode::FORBIDDEN, text);
        let Some(peer) = peer else {
            return Err(forbidden(
                "other datacenters are answered only over TLS with a certificate".to_owned(),
            ));
        };
        let from = &peer.datacenter;
        if peer.role != PeerRole::Server {
            return Err(forbidden(format!(
                "a client certificate of datacenter {from} may not speak for it: ask through one of its servers"
            )));
        }
        if *from == self.own {
            return Err(forbidden(format!(
                "this is datacenter {from} already; if another datacenter has that name too, one of the two must be \
                 given a new one (`datacenter`) and new certificates"
            )));
        }
        if !self.forwarder.datacenters().contains(from) {
            return Err(Failure::Stranger { from: from.clone(), there: self.own.clone() });
        }
        Ok(from.clone())
    }

    /// A place for one request of that datacenter.
    fn place(&self, from: &Datacenter) -> Result<OwnedSemaphorePermit, Failure> {
        let places = {
            let mut places = self.places.lock();
            places.entry(from.clone()).or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_MAX))).clone()
        };
        places.try_acquire_owned().map_err(|_| {
            metrics::counter!("tribune.wan.refused", "datacenter" => from.to_string()).increment(1);
            let text = format!(
                "datacenter {from} has more than {REQUESTS_MAX} requests under way here; try again shortly, or ask \
                 with ?cached"
            );
            Failure::refused(StatusCode::TOO_MANY_REQUESTS, text)
        })
    }

    /// Where the request goes, given the datacenters it says it has come through.
    fn way(&self, from: &Datacenter, via: &[String], parcel: &Parcel) -> Result<Way, Failure> {
        let forbidden = |text: String| Failure::refused(StatusCode::FORBIDDEN, text);
        match via.last() {
            Some(last) if last == from.as_str() => {}
            Some(last) => {
                return Err(forbidden(format!(
                    "a server of datacenter {from} may not speak for datacenter {last}"
                )));
            }
            None => {
                return Err(forbidden("the request does not say which datacenter it comes from".to_owned()));
            }
        }
        if via.iter().any(|name| name == self.own.as_str()) {
            let text = format!("the request went in a circle: {} and back to {}", via.join(", "), self.own);
            return Err(Failure::refused(StatusCode::LOOP_DETECTED, text));
        }
        let path = routed_path(&parcel.path);
        let is_api = path.starts_with(API_PREFIX) && !path.starts_with(AGENT_PREFIX);
        if !(is_api || parcel.path.starts_with(RPC_PREFIX)) || parcel.path == PROPOSE_PATH {
            return Err(forbidden(format!("{} is not answered for other datacenters", parcel.path)));
        }
        let Some(named) = parcel::named_datacenter(&parcel.query).map(|name| name.to_lowercase()) else {
            return Ok(Way::Here);
        };
        match Datacenter::new(named) {
            Ok(datacenter) if datacenter == self.own => Ok(Way::Here),
            // One detour is enough: whoever is asked to make a second one knows less than the asker.
            Ok(_) if via.len() > 1 => Err(Failure::Unreachable),
            Ok(datacenter) => Ok(Way::Relay(datacenter)),
            Err(_) => Err(Failure::Unknown),
        }
    }
}

impl<S, B> Gateway<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send,
{
    async fn answer<A>(self, request: Request<A>) -> Response<DcBody<B>>
    where
        A: Body<Data = Bytes> + Send,
        A::Error: fmt::Display,
    {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let answered = match self.admit(peer.as_ref()) {
            Ok(from) => self.clone().answer_peer(&from, request).await,
            Err(failure) => Err(failure),
        };
        let mut response = answered.unwrap_or_else(|failure| {
            let from = peer.map(|peer| peer.datacenter.to_string());
            tracing::debug!(?from, error = %failure, "a request of another datacenter was not answered");
            let told = match failure {
                Failure::Stranger { .. } => failure.to_stranger(),
                _ => failure.to_peer(),
            };
            told.map(DcBody::Far)
        });
        if let Ok(own) = HeaderValue::from_str(self.own.as_str()) {
            response.headers_mut().insert(FROM, own);
        }
        response
    }

    async fn answer_peer<A>(
        self,
        from: &Datacenter,
        request: Request<A>,
    ) -> Result<Response<DcBody<B>>, Failure>
    where
        A: Body<Data = Bytes> + Send,
        A::Error: fmt::Display,
    {
        let _place = self.place(from)?;
        metrics::counter!("tribune.wan.answered", "datacenter" => from.to_string()).increment(1);
        let via = parcel::came_via(request.headers());
        let mut parcel = parcel::collect(request).await?;
        let way = self.way(from, &via, &parcel)?;
        let is_rpc = parcel.path.starts_with(RPC_PREFIX);
        if is_rpc {
            parcel.kind = waiting_kind(&parcel);
        }
        match way {
            Way::Relay(datacenter) => {
                let parcel = parcel.come_via(&via);
                self.forwarder.relay(&datacenter, parcel).await.map(|response| response.map(DcBody::Far))
            }
            Way::Here if is_rpc => self.rpc.here(&parcel).await.map(|response| response.map(DcBody::Far)),
            Way::Here => {
                parcel.query = parcel::without(&parcel.query, &["dc"]);
                let request = parcel.to_request()?.map(Full::new);
                match self.inner.oneshot(request).await {
                    Ok(response) => Ok(response.map(DcBody::Near)),
                    Err(never) => match never {},
                }
            }
        }
    }
}

impl<S, A, B> Service<Request<A>> for Gateway<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    A: Body<Data = Bytes> + Send + 'static,
    A::Error: fmt::Display,
    B: Send + 'static,
{
    type Response = Response<DcBody<B>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.answer(request).await) })
    }
}
