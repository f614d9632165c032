//! Bodies from afar: streamed through within limits, or collected.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// The body of an answer that came over a [`Road`](crate::Road).
pub type FarBody = UnsyncBoxBody<Bytes, BodyError>;

/// Longest answer that is passed on, in bytes: several times the largest list of a large datacenter.
pub(crate) const STREAMED_BYTES_MAX: u64 = 1 << 30;
/// How long an answer that has begun may stand still before it is given up.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Why a body ended before its end. Whoever is being sent it sees the connection break, never a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyError(String);

impl BodyError {
    /// An error with a reason for the log.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BodyError {}

/// Any body as a [`FarBody`].
pub fn far_body<B>(body: B) -> FarBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    body.map_err(BodyError::new).boxed_unsync()
}

/// A body that is here in full.
pub(crate) fn whole(bytes: Bytes) -> FarBody {
    far_body(Full::new(bytes))
}

/// Why a body was not collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotCollected {
    /// It is longer than allowed.
    TooLong,
    /// It broke off, stood still or took too long.
    Broken(String),
}

/// Collects a body of at most `bytes_max` bytes within `time_max`.
pub(crate) async fn collect<B>(body: B, bytes_max: usize, time_max: Duration) -> Result<Bytes, NotCollected>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(NotCollected::TooLong);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(time_max, gather(body, bytes_max)).await {
        Ok(collected) => collected,
        Err(_) => Err(NotCollected::Broken("the body did not arrive in time".to_owned())),
    }
}

async fn gather<B>(body: B, bytes_max: usize) -> Result<Bytes, NotCollected>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut gathered = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NotCollected::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = first.as_ref().map_or(gathered.len(), Bytes::len);
        if length + data.remaining() > bytes_max {
            return Err(NotCollected::TooLong);
        }
        // Most bodies come in one piece, which is kept as it is.
        match first.take() {
            None if gathered.is_empty() => first = Some(data),
            None => gathered.extend_from_slice(&data),
            Some(held) => {
                gathered.extend_from_slice(&held);
                gathered.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| gathered.freeze()))
}

/// A body on its way through: it must keep coming, and end before it has become too long.
pub(crate) fn streamed(body: FarBody) -> FarBody {
    far_body(Streamed { body, left: STREAMED_BYTES_MAX, stall: stall() })
}

struct Streamed {
    body: FarBody,
    left: u64,
    stall: BoxFuture<'static, ()>,
}

fn stall() -> BoxFuture<'static, ()> {
    Box::pin(tokio::time::sleep(STALL_MAX))
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.stall = stall();
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(length) {
                    Some(left) => this.left = left,
                    None => return Poll::Ready(Some(Err(BodyError::new("the answer is too long")))),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => match this.stall.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::new("the answer stood still")))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body made here, or one from afar.
#[derive(Debug)]
pub enum DcBody<B> {
    /// From the service behind the layer.
    Near(B),
    /// From another node.
    Far(FarBody),
}

impl<B: From<String>> From<String> for DcBody<B> {
    fn from(text: String) -> Self {
        Self::Near(B::from(text))
    }
}

impl<B> Body for DcBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Near(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::new)))
            }
            Self::Far(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Near(body) => body.is_end_stream(),
            Self::Far(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Near(body) => body.size_hint(),
            Self::Far(body) => body.size_hint(),
        }
    }
}
