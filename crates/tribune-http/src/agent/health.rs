//! `/v1/agent/health/service/…`: the health of this node's services as a status code, for load balancers that ask
//! the node itself.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use tribune_api::render::{AgentServiceJson, ServiceHealthJson, aggregated};
use tribune_api::{ApiError, Layout, headers, json};
use tribune_core::Folded;
use tribune_local::{LocalService, Snapshot};

use super::Node;
use super::checks::Shown;
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;

const REASON: HeaderName = HeaderName::from_static(headers::REASON);

pub(super) fn routes(node: &Arc<Node>) -> Router {
    Router::default().get("/v1/agent/health/service/id/", node, by_id).get(
        "/v1/agent/health/service/name/",
        node,
        by_name,
    )
}

/// One service with the checks that bear on it: its own, then the node's.
struct Health<'a> {
    service: &'a LocalService,
    checks: Vec<Shown<'a>>,
    status: &'static str,
    code: u16,
}

impl<'a> Health<'a> {
    fn new(snapshot: &'a Snapshot, service: &'a LocalService) -> Self {
        let own = snapshot.checks_of(service.instance.id.as_str());
        let checks: Vec<_> =
            own.chain(snapshot.node_checks()).map(|check| Shown::new(snapshot, check)).collect();
        let (status, code) = aggregated(checks.iter().map(|shown| &shown.check));
        Self { service, checks, status, code }
    }

    fn with_json<T>(&self, node: &Node, write: impl FnOnce(&ServiceHealthJson<'_>) -> T) -> T {
        let checks: Vec<_> = self.checks.iter().map(|shown| shown.json(node)).collect();
        let service = AgentServiceJson { service: &self.service.instance, content_hash: None };
        write(&ServiceHealthJson { status: self.status, service: Some(service), checks: &checks })
    }
}

async fn by_id(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let id = call.argument("Missing serviceID")?;
    let snapshot = node.agent.services();
    let Some(service) = snapshot.service(id) else {
        let nothing = ServiceHealthJson { status: "critical", service: None, checks: &[] };
        let body = json::to_vec(&nothing, call.layout)?;
        return Ok(not_found(&call, format!("ServiceId {id} not found"), body));
    };
    let health = Health::new(&snapshot, service);
    let body = health.with_json(&node, |shown| json::to_vec(shown, call.layout))?;
    Ok(reply(&call, health.status, health.code, body))
}

async fn by_name(node: Arc<Node>, call: Call) -> Result<Reply, Error> {
    let name = call.argument("Missing service Name")?;
    let key = Folded::new(name);
    let snapshot = node.agent.services();
    let named = snapshot.services().filter(|service| service.instance.name.folded() == key);
    let all: Vec<_> = named.map(|service| Health::new(&snapshot, service)).collect();
    let Some(worst) = all.iter().max_by_key(|health| severity(health.status)) else {
        let body = json::list(std::iter::empty::<()>(), call.layout)?;
        return Ok(not_found(&call, format!("ServiceName {name} Not Found"), body));
    };
    let body = list(&node, &all, call.layout)?;
    Ok(reply(&call, worst.status, worst.code, body))
}

fn list(node: &Node, all: &[Health<'_>], layout: Layout) -> Result<Vec<u8>, ApiError> {
    let checks: Vec<Vec<_>> =
        all.iter().map(|health| health.checks.iter().map(|shown| shown.json(node)).collect()).collect();
    let entries = all.iter().zip(&checks).map(|(health, checks)| {
        let service = AgentServiceJson { service: &health.service.instance, content_hash: None };
        ServiceHealthJson { status: health.status, service: Some(service), checks }
    });
    json::list(entries, layout)
}

/// Maintenance stands above all.
fn severity(status: &str) -> u8 {
    match status {
        "passing" => 0,
        "warning" => 1,
        "critical" => 2,
        _ => 3,
    }
}

fn reply(call: &Call, status: &'static str, code: u16, body: Vec<u8>) -> Reply {
    let reply = if wants_text(call) { Reply::text(status) } else { Reply::bytes(body.into()) };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    reply.with_status(code).with_header(REASON, HeaderValue::from_static(status))
}

fn not_found(call: &Call, reason: String, body: Vec<u8>) -> Reply {
    let header = HeaderValue::from_str(&reason).unwrap_or(HeaderValue::from_static("not found"));
    let reply = if wants_text(call) { Reply::text(reason) } else { Reply::bytes(body.into()) };
    reply.with_status(StatusCode::NOT_FOUND).with_header(REASON, header)
}

fn wants_text(call: &Call) -> bool {
    call.query.get("format") == Some("text") || call.header("accept") == Some("text/plain")
}
