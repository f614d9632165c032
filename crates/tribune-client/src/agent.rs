//! What one agent runs and says of itself: `/v1/agent/…`. The questions have no index and cannot be watched.
//!
//! Registrations belong to the agent they are sent to, so a client that registers should know one agent: the one
//! on its own host.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::Stream;
use serde_json::Value;

pub use tribune_api::agent::{AgentSelf, AgentService, CheckDefinition, Member, Metrics, ServiceDefinition};
pub use tribune_api::catalog::{TaggedAddress, Weights};
pub use tribune_api::health::HealthCheck;
pub use tribune_core::Status;

use crate::client::Client;
use crate::error::Error;
use crate::question::Question;
use crate::request::Request;

/// The agent's configuration, its member entry and its statistics.
pub fn info() -> Question<AgentSelf> {
    Question::new(Request::get(&["agent", "self"]))
}

/// The members of the agent's datacenter, or with [`Question::wan`] the servers of all datacenters.
pub fn members() -> Question<Vec<Member>> {
    Question::new(Request::get(&["agent", "members"]))
}

/// The figures of the agent's last whole interval.
pub fn metrics() -> Question<Metrics> {
    Question::new(Request::get(&["agent", "metrics"]))
}

/// What the agent says of the machine it is on.
pub fn host() -> Question<BTreeMap<String, Value>> {
    Question::new(Request::get(&["agent", "host"]))
}

/// The services registered with the agent, by id.
pub fn services() -> Question<BTreeMap<String, AgentService>> {
    Question::new(Request::get(&["agent", "services"]))
}

/// The checks registered with the agent, by id.
pub fn checks() -> Question<BTreeMap<String, HealthCheck>> {
    Question::new(Request::get(&["agent", "checks"]))
}

impl Client {
    /// Registers a service with the agent, or changes the registration that has the same id.
    ///
    /// ```no_run
    /// # async fn run(client: tribune_client::Client) -> Result<(), tribune_client::Error> {
    /// use tribune_client::agent::ServiceDefinition;
    ///
    /// let web = ServiceDefinition { name: "web".into(), port: 8080, ..ServiceDefinition::default() };
    /// client.register(&web).await
    /// # }
    /// ```
    pub async fn register(&self, service: &ServiceDefinition) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "service", "register"]).json(service)?).await
    }

    /// Removes a service and its checks from the agent.
    pub async fn deregister(&self, service_id: &str) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "service", "deregister", service_id])).await
    }

    /// Registers a check with the agent, or changes the one that has the same id.
    pub async fn register_check(&self, check: &CheckDefinition) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "check", "register"]).json(check)?).await
    }

    /// Removes a check from the agent.
    pub async fn deregister_check(&self, check_id: &str) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "check", "deregister", check_id])).await
    }

    /// Renews a TTL check with a status and a sentence for people.
    pub async fn renew_check(&self, check_id: &str, status: Status, note: &str) -> Result<(), Error> {
        let verb = match status {
            Status::Passing => "pass",
            Status::Warning => "warn",
            Status::Critical => "fail",
        };
        self.change(&Request::put(&["agent", "check", verb, check_id]).with("note", note)).await
    }

    /// Takes the agent's node out of service for a reason, which may be empty, or with `None` brings it back.
    pub async fn maintain_node(&self, reason: Option<&str>) -> Result<(), Error> {
        self.change(&maintenance(Request::put(&["agent", "maintenance"]), reason)).await
    }

    /// Takes one service out of service for a reason, which may be empty, or with `None` brings it back.
    pub async fn maintain_service(&self, service_id: &str, reason: Option<&str>) -> Result<(), Error> {
        let request = Request::put(&["agent", "service", "maintenance", service_id]);
        self.change(&maintenance(request, reason)).await
    }

    /// Has the agent read its configuration files again.
    pub async fn reload(&self) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "reload"])).await
    }

    /// Has the agent leave its datacenter and stop.
    pub async fn leave(&self) -> Result<(), Error> {
        self.change(&Request::put(&["agent", "leave"])).await
    }

    /// Has the agent join the pool that the member at `address` is in; with `wan` that of all datacenters' servers.
    pub async fn join(&self, address: &str, wan: bool) -> Result<(), Error> {
        let request = Request::put(&["agent", "join", address]);
        self.change(&if wan { request.with("wan", "1") } else { request }).await
    }

    /// Declares a failed member to have left; with `prune` it is forgotten altogether.
    pub async fn force_leave(&self, node: &str, prune: bool, wan: bool) -> Result<(), Error> {
        let mut request = Request::put(&["agent", "force-leave", node]);
        if prune {
            request = request.with("prune", "1");
        }
        if wan {
            request = request.with("wan", "1");
        }
        self.change(&request).await
    }

    /// The agent's log from now on, in pieces as they come; ends with the connection. `level` is the lowest that
    /// is wanted: `trace`, `debug`, `info`, `warn` or `error`.
    pub async fn monitor(
        &self,
        level: &str,
        json: bool,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let request = Request::get(&["agent", "monitor"]).with("loglevel", level);
        self.stream(&if json { request.with("logjson", "true") } else { request }).await
    }
}

fn maintenance(request: Request, reason: Option<&str>) -> Request {
    request.with("enable", reason.is_some().to_string()).with("reason", reason.unwrap_or_default())
}
