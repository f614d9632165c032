//! What is registered in a datacenter: `/v1/catalog/…`.

use std::collections::BTreeMap;

pub use tribune_api::catalog::{
    CatalogService, Deregistration, Node, NodeService, NodeServices, Registration, ServiceRegistration,
};

use crate::client::Client;
use crate::error::Error;
use crate::question::Question;
use crate::request::Request;

/// The names of all known datacenters, the nearest first. Cannot be watched.
pub fn datacenters() -> Question<Vec<String>> {
    Question::new(Request::get(&["catalog", "datacenters"]))
}

/// All nodes.
pub fn nodes() -> Question<Vec<Node>> {
    Question::new(Request::get(&["catalog", "nodes"]))
}

/// One node with its services; `None` when there is none of that name.
pub fn node(name: &str) -> Question<Option<NodeServices>> {
    Question::new(Request::get(&["catalog", "node", name]))
}

/// All services with the tags that their instances have.
pub fn services() -> Question<BTreeMap<String, Vec<String>>> {
    Question::new(Request::get(&["catalog", "services"]))
}

/// The instances of a service, whatever their health.
pub fn service(name: &str) -> Question<Vec<CatalogService>> {
    Question::new(Request::get(&["catalog", "service", name]))
}

impl Client {
    /// Writes a node, with a service and checks if given, straight into the catalog: for things that no agent
    /// runs, such as a database that is bought as a service. An agent removes what others put on its own node.
    pub async fn register_external(&self, registration: &Registration) -> Result<(), Error> {
        self.change(&Request::put(&["catalog", "register"]).json(registration)?).await
    }

    /// Removes a service, a check, or a node with everything on it from the catalog.
    pub async fn deregister_external(&self, deregistration: &Deregistration) -> Result<(), Error> {
        self.change(&Request::put(&["catalog", "deregister"]).json(deregistration)?).await
    }
}
