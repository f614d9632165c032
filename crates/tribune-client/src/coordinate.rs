//! Where nodes lie in the network: `/v1/coordinate/…`.

pub use tribune_api::coordinate::{Coordinate, DatacenterMap, Entry};

use crate::question::Question;
use crate::request::Request;

/// The places of the nodes of a datacenter.
pub fn nodes() -> Question<Vec<Entry>> {
    Question::new(Request::get(&["coordinate", "nodes"]))
}

/// The places of the servers of all datacenters. They cannot be compared with those of nodes.
pub fn datacenters() -> Question<Vec<DatacenterMap>> {
    Question::new(Request::get(&["coordinate", "datacenters"]))
}
