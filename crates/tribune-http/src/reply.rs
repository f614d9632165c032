//! What a handler gives back, and how it becomes a response: content type, compression, headers for all.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use tribune_api::{ApiError, Layout, json};

use crate::body::Body;
use crate::limits::{GZIP_BYTES_MIN, GZIP_INLINE_BYTES_MAX};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// 200 with nothing, not even JSON: how Consul says that it was done.
    Empty,
    Plain(HeaderValue, Bytes),
    /// JSON in gzip.
    Compressed(Bytes),
    Lines(mpsc::Receiver<Bytes>),
    /// With the headers that it came with.
    Foreign(Bytes),
}

impl Reply {
    fn new(content: Content) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), content }
    }

    /// Done, with nothing to say.
    pub(crate) fn empty() -> Self {
        Self::new(Content::Empty)
    }

    /// A value as JSON.
    pub(crate) fn json<T: Serialize + ?Sized>(value: &T, layout: Layout) -> Result<Self, ApiError> {
        Ok(Self::bytes(json::to_vec(value, layout)?.into()))
    }

    /// JSON that is rendered already.
    pub(crate) fn bytes(json: Bytes) -> Self {
        Self::new(Content::Plain(JSON, json))
    }

    /// JSON that is rendered and compressed already, for a client that takes it so.
    pub(crate) fn compressed(json: Bytes) -> Self {
        Self::new(Content::Compressed(json))
    }

    /// The same, or 404 when there is nothing in it.
    pub(crate) fn or_not_found(self) -> Self {
        match &self.content {
            Content::Plain(_, bytes) if bytes.is_empty() => {
                Self { status: StatusCode::NOT_FOUND, content: Content::Empty, ..self }
            }
            _ => self,
        }
    }

    /// The same reply, never compressed: it is already.
    pub(crate) fn uncompressed(mut self) -> Self {
        if let Content::Plain(content_type, bytes) = self.content {
            self.headers.insert(CONTENT_TYPE, content_type);
            self.content = Content::Foreign(bytes);
        }
        self
    }

    /// Text for people.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::new(Content::Plain(TEXT, Bytes::from(text.into())))
    }

    /// Bytes of another type.
    pub(crate) fn of_type(content_type: HeaderValue, bytes: impl Into<Bytes>) -> Self {
        Self::new(Content::Plain(content_type, bytes.into()))
    }

    /// Lines as they come.
    pub(crate) fn lines(lines: mpsc::Receiver<Bytes>) -> Self {
        Self::new(Content::Lines(lines))
    }

    /// What another server answered, as it is.
    pub(crate) fn passed_on(status: StatusCode, headers: HeaderMap, bytes: Bytes) -> Self {
        Self { status, headers, content: Content::Foreign(bytes) }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The response, compressed when the client takes that and it is worth it.
    pub(crate) async fn into_response(self, takes_gzip: bool) -> Response<Body> {
        let mut headers = self.headers;
        headers.insert(VARY, ENCODING);
        let body = match self.content {
            Content::Empty => Body::whole(Bytes::new()),
            Content::Foreign(bytes) => Body::whole(bytes),
            Content::Plain(content_type, bytes) => {
                headers.insert(CONTENT_TYPE, content_type);
                let compressed = if takes_gzip { compressed(&bytes).await } else { None };
                if compressed.is_some() {
                    headers.insert(CONTENT_ENCODING, GZIP);
                }
                Body::whole(compressed.unwrap_or(bytes))
            }
            Content::Compressed(bytes) => {
                headers.insert(CONTENT_TYPE, JSON);
                headers.insert(CONTENT_ENCODING, GZIP);
                Body::whole(bytes)
            }
            Content::Lines(lines) => {
                headers.insert(CONTENT_TYPE, TEXT);
                Body::lines(lines)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

impl From<ApiError> for Reply {
    /// An error's message is its whole body.
    fn from(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content = if error.message.is_empty() {
            Content::Empty
        } else {
            Content::Plain(TEXT, Bytes::from(error.message))
        };
        let mut reply = Self::new(content).with_status(status);
        if status == StatusCode::TOO_MANY_REQUESTS {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}

/// The bytes in gzip; `None` when they are better sent as they are.
pub(crate) async fn compressed(bytes: &Bytes) -> Option<Bytes> {
    if bytes.len() < GZIP_BYTES_MIN {
        return None;
    }
    if bytes.len() <= GZIP_INLINE_BYTES_MAX {
        return gzip(bytes);
    }
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || gzip(&bytes)).await.ok().flatten()
}

/// At the speed that suits an answer made once and sent often. Writing to memory does not fail.
fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).ok().map(Bytes::from)
}

/// Whether a client asks for gzip. A quality of zero refuses it.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let refused = |parameters: &str| {
        let quality = parameters.split(';').find_map(|part| part.trim().strip_prefix("q="));
        quality.is_some_and(|quality| quality.trim().parse() == Ok(0.0_f32))
    };
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip") && !refused(parameters)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_asked_for_by_name() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip"));
        assert!(takes("deflate, GZIP;q=0.5, br"));
        assert!(!takes("gzip;q=0"));
        assert!(!takes("identity"));
        assert!(!takes("*"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn errors_are_plain_text() {
        let response = Reply::from(ApiError::bad_request("Invalid index")).into_response(true).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(response.headers()[VARY], "Accept-Encoding");
    }
}
