//! One HTTP/2 connection on which we are the one who asks, whoever of the two sides opened it: sending, noticing
//! that the other side is gone, and ending in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::body::PeerBody;
use crate::crew::Crew;
use crate::failure::{self, DialError, told};

/// Bytes an answer may be ahead of its reader, and all answers of a connection together. A reader that stalls must
/// not hold up the others, so the whole is many times the part.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Bytes in the header of an answer.
const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// How long the end of a connection may take on which nothing is asked.
const GOODBYE: Duration = Duration::from_millis(250);

/// How fast a dead connection is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    /// After so much silence the other side is asked whether it is there.
    pub(crate) interval: Duration,
    /// How long it has to answer that.
    pub(crate) timeout: Duration,
}

impl KeepAlive {
    /// Between nodes: a dead link is noticed within six seconds.
    pub(crate) const NODES: Self = Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(4) };
}

/// The asking end of a connection.
#[derive(Clone)]
pub(crate) struct Line {
    http: http2::SendRequest<Full<Bytes>>,
    activity: Arc<Activity>,
    origin: Origin,
}

/// What a request names as its destination.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// Why a request got no answer on this connection.
pub(crate) enum Fault {
    /// It was certainly not processed and here it is back; whether the connection is of no more use.
    NotTaken(Box<Request<Bytes>>, bool),
    /// It may have been processed.
    Failed(DialError),
}

/// The right to ask once. It must be taken while the connection is known to be in use: from then on the connection
/// waits for it.
pub(crate) struct Turn {
    line: Line,
    in_flight: InFlight,
}

impl Turn {
    pub(crate) async fn send(
        self,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<PeerBody>, Fault> {
        let Self { line, in_flight } = self;
        let (parts, body) = request.into_parts();
        let again = || Box::new(Request::from_parts(parts.clone(), body.clone()));
        let mut sent = Request::from_parts(parts.clone(), Full::new(body.clone()));
        *sent.uri_mut() = line.origin.uri(sent.uri());
        *sent.version_mut() = http::Version::HTTP_2;
        let mut http = line.http;
        match timeout_at(deadline, http.try_send_request(sent)).await {
            Err(_) => Err(Fault::Failed(DialError::TimedOut)),
            Ok(Ok(response)) => Ok(response.map(|body| PeerBody::arriving(body, deadline, in_flight))),
            Ok(Err(error)) if error.message().is_some() => Err(Fault::NotTaken(again(), true)),
            Ok(Err(error)) => Err(match refusal(error.error()) {
                Some(is_over) => Fault::NotTaken(again(), is_over),
                None => Fault::Failed(DialError::Lost(format!(
                    "the connection ended before the answer came: {}",
                    told(error.error())
                ))),
            }),
        }
    }
}

impl Line {
    pub(crate) fn turn(&self) -> Turn {
        Turn { line: self.clone(), in_flight: self.activity.begin() }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.http.is_closed()
    }

    /// Since when nothing is asked on it; `None` while something is.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        (!self.activity.is_busy()).then(|| self.activity.quiet_since())
    }
}

/// Whether the other side said that it has not looked at the request, and if so, whether it takes no more.
fn refusal(error: &hyper::Error) -> Option<bool> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            // A farewell names the last request that was looked at, and fails only those behind it.
            let said_farewell = cause.is_go_away() && cause.is_remote();
            let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
            return (said_farewell || refused).then_some(said_farewell);
        }
        source = cause.source();
    }
    None
}

impl Origin {
    fn uri(&self, written: &Uri) -> Uri {
        let mut parts = written.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_else(|_| written.clone())
    }
}

/// What keeps a connection going. It must be run; dropping it ends the connection and everything on it.
pub(crate) struct Driver {
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    greeting: watch::Receiver<Greeting>,
    activity: Arc<Activity>,
    crew: Crew,
}

/// Begins to speak HTTP/2 as the asking side.
pub(crate) async fn open<T>(
    stream: T,
    origin: Origin,
    keep_alive: KeepAlive,
) -> Result<(Line, Driver), DialError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (said, greeting) = watch::channel(Greeting::Nothing);
    let crew = Crew::default();
    let listening = Listening { stream, head: Vec::with_capacity(GREETING_BYTES), said };
    let mut builder = http2::Builder::new(crew.executor());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(keep_alive.interval)
        .keep_alive_timeout(keep_alive.timeout)
        .keep_alive_while_idle(true);
    let (http, connection) = builder
        .handshake(TokioIo::new(listening))
        .await
        .map_err(|error| DialError::Unreachable(told(&error)))?;
    let activity = Arc::new(Activity::new());
    let line = Line { http, activity: Arc::clone(&activity), origin };
    Ok((line, Driver { connection: Box::pin(connection), greeting, activity, crew }))
}

impl Driver {
    /// Waits for the first words of the other side. Only they show that it has accepted our certificate and that
    /// it speaks HTTP/2.
    pub(crate) async fn greeted(&mut self) -> Result<(), DialError> {
        let mut greeting = self.greeting.clone();
        let spoke = async {
            let _heard = greeting.wait_for(|greeting| *greeting != Greeting::Nothing).await;
        };
        let ended = tokio::select! {
            biased;
            () = spoke => Ok(()),
            ended = &mut self.connection => ended,
        };
        let heard = self.greeting.borrow().clone();
        match heard {
            Greeting::Nothing if ended.is_err() => {
                Err(DialError::Unreachable(ended.err().map(|error| told(&error)).unwrap_or_default()))
            }
            Greeting::Http2 => Ok(()),
            Greeting::Other => Err(DialError::Refused("it does not speak HTTP/2 there".to_owned())),
            Greeting::Refusal(why) => Err(why),
            Greeting::Nothing => Err(DialError::Unreachable("it closed the connection at once".to_owned())),
        }
    }

    /// Runs the connection until it ends. When `enough` resolves, or after so long without a request, `farewell` is
    /// called, after which nobody may take a [`Turn`] any more; then the answers under way are waited for.
    pub(crate) async fn run(
        self,
        idle_timeout: Duration,
        enough: impl Future<Output = ()>,
        farewell: impl FnOnce(),
    ) {
        let (activity, crew) = (Arc::clone(&self.activity), self.crew);
        let mut connection = self.connection;
        let has_ended = {
            let idle = activity.idle(idle_timeout);
            tokio::pin!(enough, idle);
            tokio::select! {
                _ended = &mut connection => true,
                () = enough => false,
                () = idle => false,
            }
        };
        farewell();
        // The dispatcher ends as soon as the other side says farewell; the tasks see the answers through. It must be
        // gone then, or requests that were handed to it too late would never come back.
        let still_asking = match has_ended {
            true => {
                drop(connection);
                None
            }
            false => Some(connection),
        };
        let finishing = async {
            if let Some(connection) = still_asking {
                let _ended = connection.await;
            }
            crew.dismissed().await;
        };
        tokio::pin!(finishing);
        tokio::select! {
            () = &mut finishing => return,
            () = activity.idle(Duration::ZERO) => {}
        }
        // Nobody asks any more: the other side is told so, if it still listens.
        let _told = tokio::time::timeout(GOODBYE, finishing).await;
    }
}

/// What is being asked on a connection, and since when nothing is.
#[derive(Debug)]
struct Activity {
    born: Instant,
    in_flight: AtomicUsize,
    quiet_since_ms: AtomicU64,
    ended: tokio::sync::Notify,
}

impl Activity {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            in_flight: AtomicUsize::new(0),
            quiet_since_ms: AtomicU64::new(0),
            ended: tokio::sync::Notify::new(),
        }
    }

    fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    fn quiet_since(&self) -> Instant {
        self.born + Duration::from_millis(self.quiet_since_ms.load(Relaxed))
    }

    /// Resolves when nothing has been asked for so long.
    async fn idle(&self, timeout: Duration) {
        loop {
            let ended = self.ended.notified();
            if self.is_busy() {
                ended.await;
                continue;
            }
            let due = self.quiet_since() + timeout;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// One request whose answer has not ended.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since_ms.store(now, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.ended.notify_one();
    }
}

/// What the other side said first.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Greeting {
    Nothing,
    Http2,
    Other,
    Refusal(DialError),
}

/// Bytes until the kind of the first frame is known: three of its length, one of its kind.
const GREETING_BYTES: usize = 4;
/// The frame with which everyone who speaks HTTP/2 begins.
const SETTINGS: u8 = 4;

/// A stream whose first words are listened to.
struct Listening<T> {
    stream: T,
    head: Vec<u8>,
    said: watch::Sender<Greeting>,
}

impl<T> Listening<T> {
    fn hear(&mut self, bytes: &[u8]) {
        if self.head.len() >= GREETING_BYTES || bytes.is_empty() {
            return;
        }
        let missing = GREETING_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        if self.head.len() == GREETING_BYTES {
            let is_http2 = self.head[GREETING_BYTES - 1] == SETTINGS;
            self.said.send_replace(if is_http2 { Greeting::Http2 } else { Greeting::Other });
        }
    }

    fn fail(&mut self, error: &io::Error) {
        if self.head.len() < GREETING_BYTES && failure::of_tls(error).is_some() {
            self.said.send_replace(Greeting::Refusal(failure::of_handshake(error)));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Listening<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) => self.hear(&buf.filled()[before..]),
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listening<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http2 as server;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;

    use super::*;

    #[tokio::test]
    async fn a_turn_taken_before_a_farewell_and_used_after_it_is_given_back() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (asked, was_asked) = tokio::sync::oneshot::channel::<()>();
        let asked = parking_lot::Mutex::new(Some(asked));
        let service = service_fn(move |_request| {
            drop(asked.lock().take());
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        let serving = server::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(far), service);
        let server = tokio::spawn(async move {
            let mut serving = std::pin::pin!(serving);
            tokio::select! {
                _ended = serving.as_mut() => return,
                _asked = was_asked => serving.as_mut().graceful_shutdown(),
            }
            let _ended = serving.await;
        });
        let origin = Origin { scheme: Scheme::HTTP, authority: Authority::from_static("peer") };
        let (line, mut driver) = open(near, origin, KeepAlive::NODES).await.unwrap();
        driver.greeted().await.unwrap();
        let running = tokio::spawn(driver.run(Duration::from_secs(60), std::future::pending(), || {}));
        let deadline = Instant::now() + Duration::from_secs(20);
        // Its answer never comes, so that the connection stays open after the farewell.
        let first = tokio::spawn(line.turn().send(Request::new(Bytes::new()), deadline));
        let late = line.turn();
        // One thread and no network: after these rounds the farewell has arrived.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            late.send(Request::new(Bytes::new()), deadline).await,
            Err(Fault::NotTaken(_, true))
        ));
        first.abort();
        running.abort();
        server.abort();
    }
}
