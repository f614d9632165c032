//! Who could be asked: what this crate is told about the members of the federation, or of our own datacenter.

use std::time::Duration;

use tribune_core::Datacenter;
use tribune_net::Endpoint;

/// A node that takes requests for its datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, for logs.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How long a question there and back takes, if that was measured.
    pub round_trip: Option<Duration>,
}

/// The members as they are known now. Asked for every request: must neither wait nor be slow.
pub trait Roster: Send + Sync + 'static {
    /// The nodes of `datacenter` that take requests, without those that have left; in no particular order.
    fn gateways(&self, datacenter: &Datacenter) -> Vec<Candidate>;

    /// All datacenters that are known, our own among them, whether they can be reached or not.
    fn datacenters(&self) -> Vec<Datacenter>;
}
