//! Why a request could not be answered from elsewhere, and what its sender is told.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tribune_api::ApiError;
use tribune_api::error::{NO_KNOWN_SERVERS, NO_PATH_TO_DATACENTER, REMOTE_DC_UNREACHABLE};
use tribune_core::Datacenter;

use crate::body::{FarBody, whole};

/// Tells a node that the failure is the road's and not the answer; never shown to clients.
pub(crate) const FAILURE: HeaderName = HeaderName::from_static("x-tribune-failure");
/// The word of a gateway that does not know the asker's datacenter.
const STRANGER: &str = "stranger";

/// What went wrong on the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such datacenter is known.
    #[error("{NO_PATH_TO_DATACENTER}")]
    Unknown,
    /// The datacenter is known, but nobody there answers now. Nothing was done.
    #[error("{REMOTE_DC_UNREACHABLE}")]
    Unreachable,
    /// The datacenter is known, but its servers do not know ours: not yet, when they have just started, or because
    /// nobody has introduced it. Nothing was done.
    #[error(
        "datacenter {from} is not federated with {there}: have one of its servers join (`tribune join -wan`)"
    )]
    Stranger {
        /// Whom they do not know.
        from: Datacenter,
        /// Whose servers they are.
        there: Datacenter,
    },
    /// A client agent reaches none of its servers. Nothing was done.
    #[error("{NO_KNOWN_SERVERS}")]
    NoServers,
    /// The answer was lost: a write may or may not have been done.
    #[error(
        "rpc error making call: the answer was lost and it is not known whether this was carried out ({0}); look before you repeat it"
    )]
    Unsure(String),
    /// The other side refused or the request cannot be passed on, with a status and a text.
    #[error("{1}")]
    Refused(StatusCode, String),
}

impl Failure {
    /// A refusal of what cannot be passed on.
    pub(crate) fn refused(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Refused(status, text.into())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(status, _) => *status,
            Self::Stranger { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word that stands for the failure between nodes.
    fn word(&self) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("unknown"),
            Self::Unreachable | Self::NoServers | Self::Stranger { .. } => Some("unreachable"),
            Self::Unsure(_) | Self::Refused(..) => None,
        }
    }

    /// The failure that an answer of another node stands for, if any.
    pub(crate) fn in_response<B>(response: &Response<B>) -> Option<Self> {
        match response.headers().get(FAILURE)?.as_bytes() {
            b"unknown" => Some(Self::Unknown),
            _ => Some(Self::Unreachable),
        }
    }

    /// Whether a gateway has answered that it does not know the datacenter it was asked from.
    pub(crate) fn is_strange_to<B>(response: &Response<B>) -> bool {
        response.headers().get(FAILURE).is_some_and(|word| word.as_bytes() == STRANGER.as_bytes())
    }

    /// What a gateway tells one whose datacenter it does not know.
    pub(crate) fn to_stranger(&self) -> Response<FarBody> {
        let mut response = self.to_response();
        response.headers_mut().insert(FAILURE, HeaderValue::from_static(STRANGER));
        response
    }

    /// What a client is told.
    pub(crate) fn to_response(&self) -> Response<FarBody> {
        text(self.status(), self.to_string())
    }

    /// What another node is told.
    pub(crate) fn to_peer(&self) -> Response<FarBody> {
        let mut response = self.to_response();
        if let Some(word) = self.word() {
            response.headers_mut().insert(FAILURE, HeaderValue::from_static(word));
        }
        response
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::Refused(status, error.message)
    }
}

/// A plain text, as Consul answers with errors.
pub(crate) fn text(status: StatusCode, text: String) -> Response<FarBody> {
    let mut response = Response::new(whole(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
