//! `/v1/agent/check…`: the checks of this node and its services.

use std::sync::Arc;

use tribune_api::agent::{CheckDefinition, CheckUpdate};
use tribune_api::convert::check_status;
use tribune_api::render::CheckJson;
use tribune_api::{ApiError, json};
use tribune_core::{Check, CheckId, CheckSpec, ServiceInstance, Status};
use tribune_local::{LocalCheck, Snapshot};

use super::Node;
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;
use crate::selection::Sieve;

pub(super) fn routes(node: &Arc<Node>) -> Router {
    Router::default()
        .get("/v1/agent/checks", node, checks)
        .put("/v1/agent/check/register", node, register)
        .put("/v1/agent/check/deregister/", node, deregister)
        .put("/v1/agent/check/pass/", node, pass)
        .put("/v1/agent/check/warn/", node, warn)
        .put("/v1/agent/check/fail/", node, fail)
        .put("/v1/agent/check/update/", node, update)
}

/// A check of this node with the service it belongs to, as lists show it.
pub(super) struct Shown<'a> {
    pub(super) check: Check,
    service: Option<&'a ServiceInstance>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, check: &LocalCheck) -> Self {
        let owner = check.spec.service_id.as_ref();
        let service = owner.and_then(|id| snapshot.service(id.as_str())).map(|service| &service.instance);
        Self { check: check.to_check(), service }
    }

    pub(super) fn json<'b>(&'b self, node: &'b Node) -> CheckJson<'b> {
        CheckJson {
            node: node.config.name.as_str(),
            check: &self.check,
            service: self.service,
            indexes: (0, 0),
        }
    }
}

async fn checks(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let sieve = Sieve::new::<CheckJson<'_>>(call.query.text("filter"))?;
    let snapshot = node.agent.checks();
    let mut shown: Vec<_> = snapshot.checks().map(|check| Shown::new(&snapshot, check)).collect();
    shown.sort_by(|a, b| a.check.id.cmp(&b.check.id));
    let entries = shown.iter().map(|shown| shown.json(&node)).filter(|entry| sieve.keeps(entry));
    Ok(Reply::bytes(json::object(entries.map(|entry| (entry.check.id.as_str(), entry)), call.layout)?.into()))
}

async fn register(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let spec = CheckSpec::try_from(CheckDefinition::from_body(&call.body)?)?;
    node.agent.register_check(spec).await.map_err(|error| match error {
        tribune_local::Error::UnknownService(id) => {
            ApiError::server(format!("ServiceID \"{id}\" does not exist")).into()
        }
        other => Error::from(other),
    })?;
    Ok(Reply::empty())
}

async fn deregister(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let text = call.argument("Missing check ID")?;
    let id = CheckId::new(text).map_err(|why| ApiError::bad_request(format!("Invalid check ID: {why}")))?;
    node.agent.deregister_check(&id).await?;
    Ok(Reply::empty())
}

async fn pass(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    renew(&node, &call, Status::Passing, call.query.get("note").unwrap_or_default()).await
}

async fn warn(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    renew(&node, &call, Status::Warning, call.query.get("note").unwrap_or_default()).await
}

async fn fail(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    renew(&node, &call, Status::Critical, call.query.get("note").unwrap_or_default()).await
}

async fn update(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let body = CheckUpdate::from_body(&call.body)?;
    renew(&node, &call, check_status(&body.status)?, &body.output).await
}

/// Only checks with a TTL are set by hand; Consul says the same of those that do not exist.
async fn renew(node: &Node, call: &Call, status: Status, output: &str) -> Result<Reply, Error> {
    let not_ttl = || ApiError::server(format!("CheckID \"{}\" does not have associated TTL", call.argument));
    let id = CheckId::new(call.argument.as_str()).map_err(|_| not_ttl())?;
    node.agent.update_ttl(&id, status, output).await.map_err(|error| match error {
        tribune_local::Error::UnknownCheck(_) | tribune_local::Error::NotTtl(_) => not_ttl().into(),
        other => Error::from(other),
    })?;
    Ok(Reply::empty())
}
