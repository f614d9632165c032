//! Signs of life of one connection: when its head began to arrive, whether a request is being answered, since
//! when it is quiet. The HTTP library's own header timer cannot tell a client that sends its header byte by byte
//! from one that keeps an idle connection, so both are watched from here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a client that speaks HTTP/2 sends first.
const HTTP2_PREFACE_START: &[u8] = b"PRI";

/// Marks the absence of a time.
const NEVER: u64 = u64::MAX;

/// Shared by the byte stream, the service and the watchdog of one connection. Times are milliseconds since
/// `born`.
#[derive(Debug)]
pub(crate) struct Pulse {
    born: Instant,
    head_since: AtomicU64,
    quiet_since: AtomicU64,
    in_flight: AtomicU64,
    served: AtomicBool,
    http2: AtomicBool,
}

/// Why a connection is closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// The header of a request did not arrive in time.
    SlowHeader,
    /// Nothing was asked for a long time.
    Idle,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            head_since: AtomicU64::new(NEVER),
            quiet_since: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            served: AtomicBool::new(false),
            http2: AtomicBool::new(false),
        })
    }

    /// Resolves when the connection has outlived a limit.
    pub(crate) async fn lapse(&self, header_timeout: Duration, idle_timeout: Duration) -> Lapse {
        loop {
            let (due, lapse) = self.due(header_timeout, idle_timeout);
            if due <= Instant::now() {
                return lapse;
            }
            // An idle connection may at any time begin a header that it does not finish.
            tokio::time::sleep_until(due.min(Instant::now() + header_timeout)).await;
        }
    }

    /// When to look again, and what it means if nothing has happened by then.
    fn due(&self, header_timeout: Duration, idle_timeout: Duration) -> (Instant, Lapse) {
        let at = |millis: u64| self.born + Duration::from_millis(millis);
        if self.in_flight.load(Relaxed) > 0 {
            return (Instant::now() + header_timeout, Lapse::Idle);
        }
        match self.head_since.load(Relaxed) {
            NEVER if self.served.load(Relaxed) || self.http2.load(Relaxed) => {
                (at(self.quiet_since.load(Relaxed)) + idle_timeout, Lapse::Idle)
            }
            NEVER => (self.born + header_timeout, Lapse::SlowHeader),
            since => (at(since) + header_timeout, Lapse::SlowHeader),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn bytes_came(&self, bytes: &[u8]) {
        if !self.served.load(Relaxed) && bytes.starts_with(HTTP2_PREFACE_START) {
            self.http2.store(true, Relaxed);
        }
        let waiting = self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == NEVER;
        if waiting && !self.http2.load(Relaxed) {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Notes that a whole header has arrived; the request counts as in flight until the guard is dropped.
    pub(crate) fn request_came(self: &Arc<Self>, version: http::Version) -> InFlight {
        if version == http::Version::HTTP_2 {
            self.http2.store(true, Relaxed);
        }
        self.in_flight.fetch_add(1, Relaxed);
        self.served.store(true, Relaxed);
        self.head_since.store(NEVER, Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// One request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Pulse>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.now(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A response body that keeps its request in flight until its last byte was taken.
#[derive(Debug)]
pub(crate) struct Answering<B> {
    pub(crate) body: B,
    pub(crate) _request: InFlight,
}

impl<D: Buf, B: Body<Data = D> + Unpin> Body for Answering<B> {
    type Data = D;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<D>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A byte stream whose reads are noted.
#[derive(Debug)]
pub(crate) struct Observed<T> {
    pub(crate) stream: T,
    pub(crate) pulse: Arc<Pulse>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.bytes_came(&buf.filled()[before..]);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
