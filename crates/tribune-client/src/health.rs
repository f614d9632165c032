//! Questions about what works: `/v1/health/…`.

pub use tribune_api::catalog::{Node, NodeService};
pub use tribune_api::health::{HealthCheck, ServiceEntry};

use crate::question::Question;
use crate::request::Request;

/// The instances of a service, each with its node and all checks that concern it. This is the question to find a
/// service with, mostly together with [`Question::passing`].
pub fn service(name: &str) -> Question<Vec<ServiceEntry>> {
    Question::new(Request::get(&["health", "service", name]))
}

/// The checks of a service's instances, without those of their nodes.
pub fn checks(service: &str) -> Question<Vec<HealthCheck>> {
    Question::new(Request::get(&["health", "checks", service]))
}

/// The checks of a node and of everything on it.
pub fn node(name: &str) -> Question<Vec<HealthCheck>> {
    Question::new(Request::get(&["health", "node", name]))
}

/// All checks in a state: `passing`, `warning`, `critical`, or `any`.
pub fn state(name: &str) -> Question<Vec<HealthCheck>> {
    Question::new(Request::get(&["health", "state", name]))
}
