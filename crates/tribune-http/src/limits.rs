//! What one request may cost: constants with their reasons, and the reading of a body within them.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tribune_api::ApiError;

/// Longest request body in bytes. The largest honest one, a service with 64 metadata pairs, a hundred checks and
/// their scripts, stays far below.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Within this time a request body must have arrived, so that slow senders do not hold requests open.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest archive of a snapshot in bytes. A state of a million instances packs into less.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Within this time an archive must have arrived; it may come over a slow line.
pub(crate) const SNAPSHOT_BODY_TIMEOUT: Duration = Duration::from_secs(600);

/// Memory for rendered answers, plain and compressed. At 100,000 instances the largest list takes about 60 MB.
pub const RENDERED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Answers shorter than this are not compressed: a packet is sent either way.
pub(crate) const GZIP_BYTES_MIN: usize = 1400;

/// Answers longer than this are compressed on a thread that may block: a list of tens of megabytes would keep a
/// thread of the runtime, and everybody it serves, waiting. Shorter ones are done before a thread could take over.
pub(crate) const GZIP_INLINE_BYTES_MAX: usize = 64 * 1024;

/// How long the bodies of a route may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BodyLimit {
    /// [`REQUEST_BYTES_MAX`].
    #[default]
    Usual,
    /// So many bytes, which a configuration key sets.
    Set { bytes_max: usize, setting: &'static str },
    /// So many bytes.
    Large(usize),
}

impl BodyLimit {
    /// This one, unless it is the usual one.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::Usual { other } else { self }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Usual => REQUEST_BYTES_MAX,
            Self::Set { bytes_max, .. } | Self::Large(bytes_max) => bytes_max,
        }
    }

    fn refuse(self, bytes: u64) -> ApiError {
        match self {
            Self::Usual | Self::Large(_) => too_large(bytes, self.bytes_max()),
            Self::Set { bytes_max, setting } => tribune_api::kv::too_large(bytes, bytes_max, setting),
        }
    }
}

/// Reads the whole body, or says which limit it breaks.
pub(crate) async fn read_body<B>(body: B, limit: BodyLimit, timeout: Duration) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit.bytes_max() as u64 {
        return Err(limit.refuse(body.size_hint().lower()));
    }
    match tokio::time::timeout(timeout, collect(body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(
            408,
            format!("Request body did not arrive within {} seconds: send it faster", timeout.as_secs()),
        )),
    }
}

async fn collect<B: Body<Data = Bytes>>(body: B, limit: BodyLimit) -> Result<Bytes, ApiError> {
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("Request body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        let total = first.len() + whole.len() + data.remaining();
        if total > limit.bytes_max() {
            return Err(limit.refuse(total as u64));
        }
        // Nearly every body comes in one piece, which is then not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn too_large(bytes: u64, bytes_max: usize) -> ApiError {
    ApiError::new(413, format!("Request body({bytes} bytes) too large, max size: {bytes_max} bytes."))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    async fn read(chunks: &'static [&'static str], bytes_max: usize) -> Result<Bytes, u16> {
        let frames = chunks.iter().map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(*chunk))));
        let body = StreamBody::new(stream::iter(frames));
        let limit = BodyLimit::Set { bytes_max, setting: "the limit" };
        read_body(body, limit, Duration::from_secs(5)).await.map_err(|error| error.status)
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        assert_eq!(read(&[], 3).await, Ok(Bytes::new()));
        assert_eq!(read(&["abc"], 3).await, Ok(Bytes::from("abc")));
        assert_eq!(read(&["a", "b", "c"], 3).await, Ok(Bytes::from("abc")));
        assert_eq!(read(&["ab", "cd"], 3).await, Err(413));
        let limit = BodyLimit::Set { bytes_max: 3, setting: "the limit" };
        let announced =
            read_body(Full::new(Bytes::from("abcd")), limit, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(announced.message, "Request body(4 bytes) too large, max size: 3 bytes. See the limit.");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(
            read_body(body, BodyLimit::Usual, Duration::from_millis(20)).await.unwrap_err().status,
            408
        );
    }
}
