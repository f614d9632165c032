//! `/v1/operator/autopilot/…`: what operators decided about servers, and how the servers are.

use std::sync::Arc;

use http::{Method, StatusCode};
use tribune_api::ApiError;
use tribune_api::operator::{self as api, AutopilotConfiguration, AutopilotHealth, AutopilotState};
use tribune_core::autopilot::Report;
use tribune_core::{Command, Index, Outcome, Refusal};

use super::{Office, at_leader};
use crate::call::Call;
use crate::error::Error;
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";
const HEALTH: &str = "/v1/operator/autopilot/health";
const STATE: &str = "/v1/operator/autopilot/state";

pub(super) fn routes(office: &Arc<Office>) -> Router {
    Router::default()
        .get(CONFIGURATION, office, configuration)
        .put(CONFIGURATION, office, configure)
        .get(HEALTH, office, health)
        .get(STATE, office, state)
}

async fn configuration(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(&office.dc, &call)?;
    let state = read.state().await?;
    let Some(config) = state.autopilot() else {
        return Err(ApiError::server("autopilot config not initialized yet").into());
    };
    Ok(Reply::json(&AutopilotConfiguration::from(config), call.layout)?)
}

async fn configure(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let config = AutopilotConfiguration::from_body(&call.body)?;
    let expected = match call.query.text("cas") {
        None => None,
        Some(text) => Some(Index(text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "Bad request: Error parsing cas value: strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })?)),
    };
    let command = Command::SetAutopilot { config: config.into(), expected };
    match office.dc.replica.propose(&call.authority(), command).await? {
        Outcome::Applied | Outcome::Unchanged | Outcome::Transacted { .. } => {
            Ok(Reply::json(&true, call.layout)?)
        }
        Outcome::Refused(Refusal::AutopilotMoved) => Ok(Reply::json(&false, call.layout)?),
        Outcome::Refused(refusal) => Err(ApiError::from(refusal).into()),
    }
}

async fn health(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    if let Some(reply) = at_leader(&office, Method::GET, HEALTH, &call).await? {
        return Ok(reply);
    }
    let report = report(&office);
    let status = if report.healthy { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    Ok(Reply::json(&AutopilotHealth::from(&report), call.layout)?.with_status(status))
}

async fn state(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    if let Some(reply) = at_leader(&office, Method::GET, STATE, &call).await? {
        return Ok(reply);
    }
    let report = report(&office);
    let meta = api::ServerMeta::of(&office.dc.replica.state(), &report);
    Ok(Reply::json(&AutopilotState::new(&report, &meta), call.layout)?)
}

/// Before its first round the autopilot vouches for nobody.
fn report(office: &Office) -> Report {
    office.operator.health().unwrap_or_default()
}
