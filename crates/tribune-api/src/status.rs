//! Bodies of `/v1/status/…`: addresses of servers for cluster traffic.

use crate::error::ApiError;
use crate::json::{Layout, list, to_vec};

/// Body of `/v1/status/leader`: the leader's address, `""` when there is none.
pub fn leader(address: Option<&str>, layout: Layout) -> Result<Vec<u8>, ApiError> {
    to_vec(address.unwrap_or_default(), layout)
}

/// Body of `/v1/status/peers`: the addresses of all voting servers.
pub fn peers<'a>(addresses: impl IntoIterator<Item = &'a str>, layout: Layout) -> Result<Vec<u8>, ApiError> {
    list(addresses, layout)
}
