//! The accept loop: admission, the handshake, limits on what a connection may do, and the graceful end.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::Service;
use tracing::{debug, warn};

use crate::admission::{Admission, Excess, Ticket};
use crate::certificates::{Tls, TlsError};
use crate::handshake::{self, Gate, GateError};
use crate::identity::PeerIdentity;
use crate::pulse::{Answering, InFlight, Lapse, Observed, Pulse};
use crate::refusal;
use crate::reverse::{self, ReverseRegistry};
use crate::socket;
use crate::told::Told;
use crate::trust::ClientAuth;

/// How long the loop rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After this much silence the kernel asks whether a client is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a client may leave sent bytes unacknowledged, or its window closed, before it counts as gone.
const TCP_UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);
/// Requests at a time on one HTTP/2 connection: room for a watch on each service of a large application.
const HTTP2_STREAMS_MAX: u32 = 1024;
/// The same for another node, which asks for all its clients at once, each with watches of its own.
pub(crate) const NODE_STREAMS_MAX: u32 = 16 * 1024;
/// Handshakes under way at a time: those who begin one and stall must leave room for others.
const HANDSHAKES_MAX: usize = 1024;
/// Bytes that all requests of an HTTP/2 connection together may be ahead of their readers. For nodes it is many times
/// what one request may be ahead, so that a large body nobody reads does not hold up the others.
const HTTP2_WINDOW: u32 = 1 << 20;
const NODE_WINDOW: u32 = 16 << 20;

/// What clients may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in total.
    pub connections_max: usize,
    /// Open connections from one address; `None` for any number.
    pub per_client_max: Option<usize>,
    /// Whether the limit per client holds for this machine itself too.
    pub loopback_limited: bool,
    /// What a client beyond its share is told, with status 429.
    pub excess_text: &'static str,
    /// Within this time the whole header of a request must arrive.
    pub header_timeout: Duration,
    /// A connection on which nothing is asked for this long is closed.
    pub idle_timeout: Duration,
    /// Bytes in the header of one request; at least 8192. More is answered with 431.
    pub header_bytes_max: usize,
    /// Number of header fields of one request. More is answered with 431.
    pub header_fields_max: usize,
    /// How long requests in flight may go on after the stop.
    pub stop_grace: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Bytes that all requests of an HTTP/2 connection together may be ahead of their readers.
    pub http2_window: u32,
    /// After so much silence the other side of an HTTP/2 connection is asked whether it is there.
    pub keep_alive_interval: Duration,
    /// Within this time a TLS handshake must end.
    pub handshake_timeout: Duration,
    /// TLS handshakes under way at a time.
    pub handshakes_max: usize,
}

impl Limits {
    /// Limits for a server that holds thousands of parked watchers, with Consul's share per client.
    pub fn new(excess_text: &'static str) -> Self {
        Self {
            connections_max: 65_536,
            per_client_max: Some(200),
            loopback_limited: false,
            excess_text,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(15 * 60),
            header_bytes_max: 64 * 1024,
            header_fields_max: 100,
            stop_grace: Duration::from_secs(5),
            http2_streams_max: HTTP2_STREAMS_MAX,
            http2_window: HTTP2_WINDOW,
            keep_alive_interval: TCP_KEEPALIVE,
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: HANDSHAKES_MAX,
        }
    }

    /// Limits for traffic between nodes: thousands of them with a few connections each, on which much is asked at
    /// once and which are kept while they are of use to the other side.
    pub fn nodes() -> Self {
        Self {
            connections_max: 16_384,
            per_client_max: Some(100),
            idle_timeout: Duration::from_secs(10 * 60),
            http2_streams_max: NODE_STREAMS_MAX,
            http2_window: NODE_WINDOW,
            keep_alive_interval: Duration::from_secs(10),
            ..Self::new(
                "this node has as many connections from your address as it takes; use one for many requests",
            )
        }
    }
}

/// Takes connections from one bound socket and answers their requests.
pub struct Acceptor {
    listener: TcpListener,
    limits: Limits,
    gate: Option<Gate>,
    reverse: Option<Arc<dyn ReverseRegistry>>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .field("tls", &self.gate.is_some())
            .finish_non_exhaustive()
    }
}

impl Acceptor {
    /// An acceptor on a socket that is listening already.
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, limits, gate: None, reverse: None }
    }

    /// The same acceptor with TLS. Handshakes are performed beside the accept loop, in a bounded number and time;
    /// requests over a connection whose other end showed a valid certificate of a node carry a [`PeerIdentity`].
    /// Fails when there is no certificate to show, or no CA to judge others by where they are asked for theirs.
    pub fn with_tls(mut self, tls: Tls, auth: ClientAuth) -> Result<Self, TlsError> {
        let limits = &self.limits;
        let mut gate = Gate::new(tls, auth, limits.handshakes_max, limits.handshake_timeout)?;
        if self.reverse.is_some() {
            gate.take_reverse();
        }
        self.gate = Some(gate);
        Ok(self)
    }

    /// The same acceptor, which also takes connections that were opened to carry requests back, and hands them to
    /// the registry. They need TLS and a certificate that names its holder.
    #[must_use]
    pub fn with_reverse(mut self, registry: Arc<dyn ReverseRegistry>) -> Self {
        self.reverse = Some(registry);
        if let Some(gate) = &mut self.gate {
            gate.take_reverse();
        }
        self
    }

    /// The address of the socket.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves; then accepts nothing more, lets requests in flight end within the grace
    /// time, and returns when every connection is closed.
    pub async fn serve<S, B>(self, service: S, stop: impl Future<Output = ()>)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let (stopping, stopped) = watch::channel(false);
        let limits = &self.limits;
        let admission =
            Admission::new(limits.connections_max, limits.per_client_max, limits.loopback_limited);
        let server = Arc::new(Server {
            http: http_builder(limits),
            limits: limits.clone(),
            gate: self.gate,
            reverse: self.reverse,
            stopped,
            told: Told::default(),
        });
        let mut hall = Hall {
            admission: Arc::new(admission),
            refusals: Arc::new(Semaphore::new(refusal::REFUSALS_MAX)),
            tasks: JoinSet::new(),
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = hall.tasks.join_next(), if !hall.tasks.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, client)) => hall.receive(&server, stream, client.ip(), &service).await,
                    Err(error) => pause_after(&error).await,
                },
            }
        }
        drop(self.listener);
        stopping.send_replace(true);
        let all_done = async { while hall.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.stop_grace, all_done).await.is_err() {
            hall.tasks.shutdown().await;
        }
    }
}

/// Where connections arrive: some are served, some refused; all are waited for in the end.
struct Hall {
    admission: Arc<Admission>,
    refusals: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Hall {
    async fn receive<S, B>(&mut self, server: &Arc<Server>, stream: TcpStream, client: IpAddr, service: &S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        if let Err(error) = socket::tune(&stream, TCP_KEEPALIVE, TCP_UNACKNOWLEDGED_MAX) {
            debug!(%client, %error, "a connection could not be tuned");
        }
        match self.admission.admit(client) {
            Ok(ticket) => {
                let (server, service) = (Arc::clone(server), service.clone());
                self.tasks.spawn(async move { server.arrival(stream, client, service, ticket).await });
            }
            // Before a handshake there is nothing that could be said in HTTP.
            Err(excess) if server.gate.is_some() => refuse_silently(client, excess),
            Err(excess) => self.refuse(stream, client, excess, server.limits.excess_text).await,
        }
    }

    async fn refuse(&mut self, stream: TcpStream, client: IpAddr, excess: Excess, text: &'static str) {
        metrics::counter!("tribune.http.connections_refused").increment(1);
        warn!(%client, limit = ?excess, "refused a connection with 429; raise limits.http_max_conns_per_client or let the client reuse connections");
        let Ok(turn) = Arc::clone(&self.refusals).acquire_owned().await else { return };
        self.tasks.spawn(async move {
            refusal::speak(stream, excess, text).await;
            drop(turn);
        });
    }
}

fn refuse_silently(client: IpAddr, excess: Excess) {
    metrics::counter!("tribune.http.connections_refused").increment(1);
    warn!(%client, limit = ?excess, "closed a connection; this port holds as many as it may");
}

/// What all connections of one acceptor share.
struct Server {
    http: auto::Builder<TokioExecutor>,
    limits: Limits,
    gate: Option<Gate>,
    reverse: Option<Arc<dyn ReverseRegistry>>,
    stopped: watch::Receiver<bool>,
    told: Told,
}

/// Who is at the other end of a connection, and what ends it early.
struct Caller {
    address: IpAddr,
    identity: Option<PeerIdentity>,
    /// Changes when the certificates that the connection was made with are not those in force any more.
    changes: Option<watch::Receiver<u64>>,
}

impl Caller {
    /// Resolves when the connection must be made anew: certificates were loaded, or that of the other end is over.
    async fn is_outdated(mut changes: Option<watch::Receiver<u64>>, identity: Option<PeerIdentity>) {
        let changed = async {
            match &mut changes {
                Some(changes) => drop(changes.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = handshake::until_expired(identity.as_ref()) => {}
            () = changed => {}
        }
    }
}

impl Server {
    /// A connection from its first packet on: the handshake, if there is one, and then its requests.
    async fn arrival<S, B>(self: Arc<Self>, stream: TcpStream, client: IpAddr, service: S, ticket: Ticket)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let Some(gate) = &self.gate else {
            let caller = Caller { address: client, identity: None, changes: None };
            return self.connection(stream, caller, service, ticket).await;
        };
        let mut stopped = self.stopped.clone();
        let passed = tokio::select! {
            passed = Box::pin(gate.pass(stream)) => passed,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let secured = match passed {
            Ok(secured) => secured,
            Err(error) => return self.tell_of(&error, client),
        };
        let (identity, changes) = (secured.identity, Some(secured.changes));
        if !secured.is_reverse {
            let caller = Caller { address: client, identity, changes };
            return Box::pin(Arc::clone(&self).connection(secured.stream, caller, service, ticket)).await;
        }
        let (Some(identity), Some(registry)) = (identity, self.reverse.clone()) else {
            warn!(%client, "closed a connection that should carry requests back: its certificate does not say whose it is");
            return;
        };
        let enough = async {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = Caller::is_outdated(changes, Some(identity.clone())) => {}
            }
        };
        let asked = reverse::ask(secured.stream, (identity.clone(), client), registry, enough);
        if let Err(error) = Box::pin(asked).await {
            debug!(%client, %error, "a connection that carries requests back came to nothing");
        }
    }

    async fn connection<T, S, B>(self: Arc<Self>, stream: T, caller: Caller, service: S, _ticket: Ticket)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let Caller { address: client, identity, changes } = caller;
        let pulse = Pulse::new();
        let mut outdated = std::pin::pin!(Caller::is_outdated(changes, identity.clone()));
        let io = TokioIo::new(Observed { stream, pulse: Arc::clone(&pulse) });
        let inner = TowerToHyperService::new(service);
        let service = Counted { inner, client: ClientAddress(client), identity, pulse: Arc::clone(&pulse) };
        let mut connection = std::pin::pin!(self.http.serve_connection(io, service));
        let mut stopped = self.stopped.clone();
        let mut stopping = false;
        let mut lapse = std::pin::pin!(pulse.lapse(self.limits.header_timeout, self.limits.idle_timeout));
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%client, %error, "a connection ended badly");
                    }
                    return;
                }
                lapse = &mut lapse => {
                    if lapse == Lapse::SlowHeader {
                        metrics::counter!("tribune.http.slow_headers").increment(1);
                        debug!(%client, "closed a connection whose request header did not come in time");
                    }
                    return;
                }
                _ = stopped.wait_for(|stopped| *stopped), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = outdated.as_mut(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// Refusals are told to the log: otherwise nobody learns why a node cannot join.
    fn tell_of(&self, error: &GateError, client: IpAddr) {
        metrics::counter!("tribune.net.handshakes_failed").increment(1);
        match error {
            GateError::TimedOut | GateError::Failed(_) => {
                debug!(%client, %error, "closed a connection before it was secured")
            }
            _ => match self.told.speak(client, Instant::now()) {
                Some(more) => warn!(%client, %error, more, "refused a connection"),
                None => debug!(%client, %error, "refused a connection"),
            },
        }
    }
}

fn http_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .title_case_headers(true)
        .max_headers(limits.header_fields_max)
        .max_buf_size(limits.header_bytes_max)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .initial_connection_window_size(limits.http2_window)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.keep_alive_interval);
    builder
}

/// Clients that went away before they were accepted are nothing to rest for; a lack of descriptors is.
async fn pause_after(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        warn!(%error, "a connection could not be accepted; if descriptors ran out, raise the limit of open files");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Where a request came from; every request that is served carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The service of one connection, with its requests noted in the pulse.
struct Counted<S> {
    inner: TowerToHyperService<S>,
    client: ClientAddress,
    identity: Option<PeerIdentity>,
    pulse: Arc<Pulse>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<Answering<B>>;
    type Error = Infallible;
    type Future = Counting<<TowerToHyperService<S> as hyper::service::Service<Request<Incoming>>>::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client);
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        let in_flight = self.pulse.request_came(request.version());
        Counting { answer: Box::pin(self.inner.call(request)), in_flight: Some(in_flight) }
    }
}

/// An answer in the making.
struct Counting<F> {
    answer: Pin<Box<F>>,
    in_flight: Option<InFlight>,
}

impl<F, B> Future for Counting<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Answering<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.answer.as_mut().poll(cx) else { return Poll::Pending };
        let Some(request) = self.in_flight.take() else { return Poll::Pending };
        Poll::Ready(Ok(response.map(|body| Answering { body, _request: request })))
    }
}
