//! One request as a handler sees it: the rest of its path, its parameters, its body.

use bytes::Bytes;
use http::HeaderMap;
use tribune_api::{Addresses, ApiError, Layout, Query};
use tribune_core::Authority;

/// A request that found its handler. The body has arrived in full.
#[derive(Debug)]
pub(crate) struct Call {
    /// What follows the route's path, percent-decoded; empty for routes that take nothing.
    pub(crate) argument: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How JSON is laid out for this caller.
    pub(crate) layout: Layout,
}

impl Call {
    /// The rest of the path, or 400 with this text when there is none.
    pub(crate) fn argument(&self, missing: &str) -> Result<&str, ApiError> {
        if self.argument.is_empty() {
            return Err(ApiError::bad_request(missing));
        }
        Ok(&self.argument)
    }

    /// What the caller may read and write.
    pub(crate) fn authority(&self) -> Authority {
        Authority::unrestricted()
    }

    /// Under which addresses nodes and instances are shown.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses::asked(&self.query)
    }

    /// A request header, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
