//! What arrives on the port between datacenters: gossip goes to the pool, everything else through the gateway.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tower::Service;
use tribune_core::Datacenter;
use tribune_gossip::{EXCHANGE_BYTES_MAX, Pool};
use tribune_net::PeerIdentity;
use tribune_wan::{DcBody, Desk, FarBody, Gateway, RpcService, far_body};

use super::door::{Answered, Door};
use super::federation::{EXCHANGE_PATH, Federation, PACKET_PATH};
use super::outbound::Arrivals;

/// How long a message of the pool may take to arrive.
const ARRIVAL_TIME: Duration = Duration::from_secs(10);

/// The service of the port. Clones share everything.
#[derive(Clone)]
pub(super) struct Gate {
    pool: Pool,
    gateway: Gateway<Door>,
    arrivals: Arrivals,
}

impl Gate {
    pub(super) fn new(own: Datacenter, door: Door, desk: Arc<dyn Desk>, federation: &Federation) -> Self {
        let forwarder = federation.forwarder.clone();
        let rpc = RpcService::new(own.clone(), desk, Some(forwarder.clone()));
        let rpc = rpc.with_seeker(federation.seeker.clone());
        Self {
            pool: federation.pool.clone(),
            gateway: Gateway::new(own, door.for_nodes(), rpc, forwarder),
            arrivals: Arrivals::default(),
        }
    }

    /// When something last came from whom.
    pub(super) fn arrivals(&self) -> Arrivals {
        self.arrivals.clone()
    }

    async fn gossip(pool: Pool, request: Request<Incoming>) -> Response<FarBody> {
        let is_packet = request.uri().path() == PACKET_PATH;
        let collecting = Limited::new(request.into_body(), EXCHANGE_BYTES_MAX).collect();
        let body = match tokio::time::timeout(ARRIVAL_TIME, collecting).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Err(_) => {
                return refusal(StatusCode::REQUEST_TIMEOUT, "the message did not arrive in time".to_owned());
            }
        };
        if is_packet {
            pool.receive_packet(&body);
            return whole(Bytes::new());
        }
        whole(pool.receive_exchange(body).await)
    }
}

impl Service<Request<Incoming>> for Gate {
    type Response = Response<DcBody<Answered>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = request.extensions().get::<PeerIdentity>() {
            self.arrivals.note(&peer.datacenter);
        }
        if [PACKET_PATH, EXCHANGE_PATH].contains(&request.uri().path()) {
            let pool = self.pool.clone();
            return Box::pin(async move { Ok(Self::gossip(pool, request).await.map(DcBody::Far)) });
        }
        Box::pin(self.gateway.call(request))
    }
}

fn refusal(status: StatusCode, text: String) -> Response<FarBody> {
    let mut response = whole(text.into());
    *response.status_mut() = status;
    response
}

fn whole(bytes: Bytes) -> Response<FarBody> {
    Response::new(far_body(Full::new(bytes)))
}
