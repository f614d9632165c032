//! The body of an answer from another node.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::failure::{DialError, told};
use crate::line::InFlight;

/// The body of an answer, as it arrives. The deadline of the request holds for it too: what has not come by then
/// ends it with [`DialError::TimedOut`].
pub struct PeerBody(Content);

enum Content {
    Whole(Option<Bytes>),
    Arriving { frames: Incoming, deadline: Pin<Box<Sleep>>, _request: InFlight },
}

impl PeerBody {
    pub(crate) fn arriving(frames: Incoming, deadline: Instant, request: InFlight) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        Self(Content::Arriving { frames, deadline, _request: request })
    }

    /// Everything in one piece, if it is at most so long; a longer one is [`DialError::Lost`].
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, DialError> {
        let too_long = || DialError::Lost(format!("the answer is longer than {bytes_max} bytes"));
        if self.size_hint().lower() > bytes_max as u64 {
            return Err(too_long());
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.len() + all.len() + data.len() > bytes_max {
                return Err(too_long());
            }
            // Most answers are one frame, which needs no copy.
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

/// A body that is there already: for answers that come from no network.
impl From<Bytes> for PeerBody {
    fn from(whole: Bytes) -> Self {
        Self(Content::Whole(Some(whole).filter(|it| !it.is_empty())))
    }
}

impl Body for PeerBody {
    type Data = Bytes;
    type Error = DialError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DialError>>> {
        match &mut self.0 {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Arriving { frames, deadline, .. } => match Pin::new(frames).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.map(|it| {
                    it.map_err(|error| DialError::Lost(format!("the answer broke off: {}", told(&error))))
                })),
                Poll::Pending => deadline.as_mut().poll(cx).map(|()| Some(Err(DialError::TimedOut))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Arriving { frames, .. } => frames.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |it| it.len() as u64)),
            Content::Arriving { frames, .. } => frames.size_hint(),
        }
    }
}

impl std::fmt::Debug for PeerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
