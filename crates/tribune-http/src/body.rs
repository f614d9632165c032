//! The body of a response: bytes that may be shared with other responses, or lines as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// What is sent after the headers.
#[derive(Debug)]
pub struct Body(Content);

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Lines(mpsc::Receiver<Bytes>),
}

impl Body {
    /// A body of known length.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(bytes))
    }

    /// A body that goes on until the sender of its pieces ends it.
    pub(crate) fn lines(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Content::Lines(pieces))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::whole(Bytes::from(text))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Lines(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Lines(_) => SizeHint::default(),
        }
    }
}
