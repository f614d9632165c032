//! `/v1/agent/service…`: what this node runs.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tribune_api::agent::ServiceDefinition;
use tribune_api::convert::LocalService;
use tribune_api::render::{AgentServiceJson, content_hash};
use tribune_api::{ApiError, headers, json};
use tribune_core::InstanceId;

use super::Node;
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;
use crate::selection::Sieve;

const CONTENT_HASH: HeaderName = HeaderName::from_static(headers::CONTENT_HASH);

pub(super) fn routes(node: &Arc<Node>) -> Router {
    Router::default()
        .get("/v1/agent/services", node, services)
        .get("/v1/agent/service/", node, service)
        .put("/v1/agent/service/register", node, register)
        .put("/v1/agent/service/deregister/", node, deregister)
        .put("/v1/agent/service/maintenance/", node, maintenance)
}

async fn services(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let sieve = Sieve::new::<AgentServiceJson<'_>>(call.query.text("filter"))?;
    let snapshot = node.agent.services();
    let entries = snapshot
        .services()
        .map(|service| AgentServiceJson { service: &service.instance, content_hash: None });
    let mut kept: Vec<_> = entries.filter(|entry| sieve.keeps(entry)).collect();
    kept.sort_by(|a, b| a.service.id.cmp(&b.service.id));
    let pairs = kept.into_iter().map(|entry| (entry.service.id.as_str(), entry));
    Ok(Reply::bytes(json::object(pairs, call.layout)?.into()))
}

async fn service(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let unknown = || ApiError::not_found(format!("unknown service ID: {}", call.argument));
    let id = InstanceId::new(call.argument.as_str()).map_err(|_| unknown())?;
    let mut found = node.agent.services().service(id.as_str()).cloned().ok_or_else(unknown)?;
    if let Some(seen) = call.query.text("hash")
        && content_hash(&found.instance)? == seen
    {
        let until = Instant::now() + node.jitter.stretch(call.query.wait(node.config.waits)?);
        found = node.agent.service_changed(&id, Some(&found), until).await.ok_or_else(unknown)?;
    }
    let hash = content_hash(&found.instance)?;
    let shown = AgentServiceJson { service: &found.instance, content_hash: Some(&hash) };
    let value = HeaderValue::from_str(&hash).unwrap_or(HeaderValue::from_static(""));
    Ok(Reply::json(&shown, call.layout)?.with_header(CONTENT_HASH, value))
}

async fn register(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let service = LocalService::try_from(ServiceDefinition::from_body(&call.body)?)?;
    let replace = match call.query.get("replace-existing-checks") {
        None => false,
        Some("") => true,
        Some(text) => tribune_api::params::parse_bool(text)
            .ok_or_else(|| ApiError::bad_request("Invalid value for replace-existing-checks"))?,
    };
    node.agent.register_service(service.instance, service.checks, replace).await?;
    Ok(Reply::empty())
}

async fn deregister(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    node.agent.deregister_service(&service_id(&call)?).await?;
    Ok(Reply::empty())
}

async fn maintenance(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let id = service_id(&call)?;
    let enable = call.query.enable()?;
    let reason = call.query.get("reason").unwrap_or_default();
    node.agent.service_maintenance(&id, enable, reason).await.map_err(|error| match error {
        tribune_local::Error::UnknownService(id) => {
            ApiError::not_found(format!("No service registered with ID \"{id}\"")).into()
        }
        other => Error::from(other),
    })?;
    Ok(Reply::empty())
}

fn service_id(call: &Call) -> Result<InstanceId, ApiError> {
    let text = call.argument("Missing service ID")?;
    InstanceId::new(text).map_err(|why| ApiError::bad_request(format!("Invalid service ID: {why}")))
}
