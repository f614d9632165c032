//! Connections that carry requests back: a node that can only dial out (behind NAT) opens one, and then answers on
//! it what the other side asks.
//!
//! The side that dials has a [`ReverseRoad`] and serves on it; the side that was dialled is handed a
//! [`ReverseConnection`] by its acceptor and asks on it.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::Service;

use crate::acceptor::{ClientAddress, NODE_STREAMS_MAX};
use crate::body::PeerBody;
use crate::crew::Crew;
use crate::dialer::Stream;
use crate::failure::{DialError, told};
use crate::identity::{self, PeerIdentity};
use crate::line::{self, Fault, KeepAlive, Line, Origin};

/// A connection on which a request came back is never idle too long: the side that opened it decides.
const NEVER_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long answers under way are waited for when the road is given up.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes connections that were opened to carry requests back.
pub trait ReverseRegistry: Send + Sync + 'static {
    /// A connection is ready to be asked on. Keep a clone while it is of use; [`ReverseConnection::closed`] says when
    /// it is not any more.
    fn opened(&self, connection: ReverseConnection);
}

/// The asking end of a connection that the other side opened. Clones share it.
#[derive(Clone)]
pub struct ReverseConnection {
    identity: PeerIdentity,
    address: IpAddr,
    line: Line,
    closed: watch::Receiver<bool>,
}

impl ReverseConnection {
    /// Who opened it.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// Where it came from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether nothing more can be asked on it.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.line.is_over()
    }

    /// Resolves when nothing more can be asked on it.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        let _ended = closed.wait_for(|closed| *closed).await;
    }

    /// Asks the side that opened the connection; as [`Dialer::send`](crate::Dialer::send).
    pub async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<PeerBody>, DialError> {
        let whom = || format!("{} in {}, which dialled in", self.address, self.identity.datacenter.as_str());
        let turn = {
            let closed = self.closed.borrow();
            (!*closed).then(|| self.line.turn())
        };
        let Some(turn) = turn else {
            return Err(DialError::Unreachable("it has closed its connection".to_owned()).of(whom()));
        };
        turn.send(request, deadline).await.map_err(|fault| match fault {
            Fault::Failed(error) => error.of(whom()),
            Fault::NotTaken(_, true) => {
                DialError::Unreachable("it is closing its connection".to_owned()).of(whom())
            }
            Fault::NotTaken(_, false) => {
                DialError::Refused("it gave the request back unprocessed".to_owned()).of(whom())
            }
        })
    }
}

impl fmt::Debug for ReverseConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseConnection")
            .field("identity", &self.identity)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Asks on a connection that somebody opened for it, until it ends or `enough` resolves.
pub(crate) async fn ask<T: Stream + 'static>(
    stream: T,
    (identity, address): (PeerIdentity, IpAddr),
    registry: Arc<dyn ReverseRegistry>,
    enough: impl Future<Output = ()>,
) -> Result<(), DialError> {
    let name = identity::name_of(identity.role, &identity.datacenter, "peer");
    let authority = name.parse().unwrap_or_else(|_| Authority::from_static("peer"));
    let origin = Origin { scheme: Scheme::HTTPS, authority };
    let (line, driver) = line::open(stream, origin, KeepAlive::NODES).await?;
    let (closing, closed) = watch::channel(false);
    registry.opened(ReverseConnection { identity, address, line, closed });
    driver
        .run(NEVER_IDLE, enough, || {
            closing.send_replace(true);
        })
        .await;
    Ok(())
}

/// A connection that this node opened so that the other side can ask on it. It must be served.
pub struct ReverseRoad {
    stream: Box<dyn Stream>,
    identity: Option<PeerIdentity>,
    address: IpAddr,
    keep_alive: KeepAlive,
}

impl ReverseRoad {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        identity: Option<PeerIdentity>,
        address: IpAddr,
        keep_alive: KeepAlive,
    ) -> Self {
        Self { stream, identity, address, keep_alive }
    }

    /// Who answered at the other end.
    pub fn identity(&self) -> Option<&PeerIdentity> {
        self.identity.as_ref()
    }

    /// Answers what the other side asks, until the connection ends or `stop` resolves; then answers under way end
    /// within a few seconds. Requests carry the identity and the address of the other side as extensions, as those
    /// that an acceptor takes do.
    pub async fn serve<S, B>(self, service: S, stop: impl Future<Output = ()>) -> Result<(), DialError>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let crew = Crew::default();
        let mut builder = http2::Builder::new(crew.executor());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(NODE_STREAMS_MAX)
            .keep_alive_interval(self.keep_alive.interval)
            .keep_alive_timeout(self.keep_alive.timeout);
        let inner = TowerToHyperService::new(service);
        let service = Answering { inner, identity: self.identity, client: ClientAddress(self.address) };
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(self.stream), service));
        tokio::select! {
            ended = connection.as_mut() => {
                return ended.map_err(|error| DialError::Lost(told(&error)).of(self.address));
            }
            () = stop => connection.as_mut().graceful_shutdown(),
        }
        // How a connection ends that was given up is of no interest.
        let _ended = tokio::time::timeout(FAREWELL, connection).await;
        Ok(())
    }
}

impl fmt::Debug for ReverseRoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseRoad")
            .field("identity", &self.identity)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The service of a road, whose requests say who asks.
struct Answering<S> {
    inner: TowerToHyperService<S>,
    identity: Option<PeerIdentity>,
    client: ClientAddress,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = <TowerToHyperService<S> as hyper::service::Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client);
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        self.inner.call(request)
    }
}
