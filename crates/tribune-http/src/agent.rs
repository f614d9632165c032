//! `/v1/agent/…`: this node, its process, its services and checks.

mod checks;
mod health;
mod services;

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use tribune_api::params::WaitLimits;
use tribune_api::{ApiError, json};
use tribune_core::NodeName;
use tribune_local::LocalAgent;

use crate::call::Call;
use crate::error::Error;
use crate::host::{Host, LogLevel};
use crate::reading::Jitter;
use crate::reply::Reply;
use crate::router::Router;

/// The content type of Prometheus' text format.
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What the agent's endpoints need to know besides the agent.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// This node's name.
    pub name: NodeName,
    /// Default and longest wait of blocking queries.
    pub waits: WaitLimits,
    /// Determines the random additions to the waits of blocking queries.
    pub seed: u64,
}

/// What the handlers of the agent share.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) agent: LocalAgent,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) jitter: Jitter,
}

pub(crate) fn routes(node: &Arc<Node>) -> Router {
    Router::default()
        .get("/", node, root)
        .get("/v1/agent/self", node, about)
        .get("/v1/agent/version", node, version)
        .get("/v1/agent/host", node, host)
        .get("/v1/agent/members", node, members)
        .get("/v1/agent/metrics", node, metrics)
        .get("/v1/agent/monitor", node, monitor)
        .put("/v1/agent/reload", node, reload)
        .put("/v1/agent/leave", node, leave)
        .put("/v1/agent/join/", node, join)
        .put("/v1/agent/force-leave/", node, force_leave)
        .put("/v1/agent/maintenance", node, maintenance)
        .put("/v1/agent/token/", node, token)
        .merge(services::routes(node))
        .merge(checks::routes(node))
        .merge(health::routes(node))
}

/// What people see who open the address in a browser.
async fn root(_: Arc<Node>, _: Call) -> Result<Reply, Error> {
    Ok(Reply::text("Tribune Agent"))
}

async fn about(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    Ok(Reply::json(&node.host.about(), call.layout)?)
}

async fn version(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    Ok(Reply::json(&node.host.version(), call.layout)?)
}

async fn host(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    Ok(Reply::json(&node.host.machine(), call.layout)?)
}

async fn members(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let wan = call.query.text("wan").is_some();
    Ok(Reply::bytes(json::list(node.host.members(wan), call.layout)?.into()))
}

async fn metrics(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let accept = call.header("accept").unwrap_or_default();
    let by_type = accept.contains("application/openmetrics-text") || accept.contains("version=0.0.4");
    if call.query.get("format") != Some("prometheus") && !by_type {
        return Ok(Reply::json(&node.host.metrics(), call.layout)?);
    }
    match node.host.prometheus() {
        Some(text) => Ok(Reply::of_type(PROMETHEUS, text)),
        None => {
            let text = "Prometheus is not enabled since its retention time is not positive";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(), text).into())
        }
    }
}

async fn monitor(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let name = call.query.text("loglevel").unwrap_or("info");
    let level =
        LogLevel::parse(name).ok_or_else(|| ApiError::bad_request(format!("Unknown log level: {name}")))?;
    Ok(Reply::lines(node.host.monitor(level, call.query.flag("logjson"))))
}

async fn reload(node: Arc<Node>, _: Call) -> Result<Reply, Error> {
    node.host.reload().await?;
    Ok(Reply::empty())
}

async fn leave(node: Arc<Node>, _: Call) -> Result<Reply, Error> {
    node.host.leave().await?;
    Ok(Reply::empty())
}

async fn join(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let address = call.argument("Missing address to join")?;
    node.host.join(address, call.query.text("wan").is_some()).await?;
    Ok(Reply::empty())
}

async fn force_leave(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing node name")?;
    let (prune, wan) = (call.query.flag("prune"), call.query.text("wan").is_some());
    node.host.force_leave(name, prune, wan).await?;
    Ok(Reply::empty())
}

async fn maintenance(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let enable = call.query.enable()?;
    node.agent.node_maintenance(enable, call.query.get("reason").unwrap_or_default()).await?;
    Ok(Reply::empty())
}

/// Without access control there are no tokens to set.
async fn token(_: Arc<Node>, _: Call) -> Result<Reply, Error> {
    Err(ApiError::new(401, "ACL support disabled").into())
}
