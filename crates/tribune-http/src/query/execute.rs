//! Executing a prepared query: here, and when no instance is here, in other datacenters one after the other.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::warn;
use tribune_api::addresses::{ADDRESSES, WAN};
use tribune_api::query::{Dns, Executed, PreparedQuery};
use tribune_api::render::HealthEntryJson;
use tribune_api::{Addresses, ApiError, Layout, json};
use tribune_core::query::{Near, Query, failover, select};
use tribune_core::state::View;
use tribune_core::{Folded, Index, State, Topic};

use super::{FOREIGN, meta, unknown};
use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::operator::{Errand, Office};
use crate::question::Topics;
use crate::reading::Reading;
use crate::reply::Reply;

/// Executes a query by id or name. With an index it waits, as other reads do, until the query or the instances here
/// have changed.
pub(super) async fn execute(office: &Office, call: &Call, name: &str) -> Result<Reply, Error> {
    let dc = &office.dc;
    let options = call.query.read_options(dc.config.waits)?;
    let reading = Reading::new(call, &options, &dc.config)?;
    let limit = limit(call)?;
    let mut state = dc.read(&reading).await?;
    let mut query = found(&state, name, call)?;
    if reading.index > Index(0) && topics(&query).index(&state) <= reading.index {
        let until = Instant::now() + dc.stretch(reading.wait);
        state = topics(&query).changed(&dc.replica, reading.index, until).await;
        query = found(&state, name, call)?;
    }
    let index = topics(&query).index(&state);
    let mut answer = here(dc, call, &state, &query, &reading, limit)?;
    if answer.is_empty() {
        answer = elsewhere(office, call, &query, limit, answer).await;
    }
    let mut reply = Reply::json(&answer, call.layout)?;
    dc.describe(&mut reply.headers, index, &reading);
    Ok(reply)
}

/// Executes a query that a server of another datacenter holds. It is not sent on.
pub(super) async fn foreign(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let dc = &office.dc;
    let options = call.query.read_options(dc.config.waits)?;
    let reading = Reading::new(&call, &options, &dc.config)?;
    let body = PreparedQuery::from_body(&call.body)?;
    let id = body.id.clone();
    let query = body.into_query(&id)?;
    let state = dc.read(&reading).await?;
    let answer = here(dc, &call, &state, &query, &reading, limit(&call)?)?;
    Ok(Reply::json(&answer, call.layout)?)
}

/// The query, with what the call wants of it.
fn found(state: &State, name: &str, call: &Call) -> Result<Query, Error> {
    let mut query = state.find_query(name).ok_or_else(unknown)?.value;
    // `?connect` narrows a query that was not written for the mesh.
    query.service.connect |= call.query.flag("connect");
    Ok(query)
}

fn topics(query: &Query) -> Topics {
    let mut topics = Topics::Both(Topic::Queries, Topic::Service(Folded::new(&query.service.service)));
    if !query.service.near.is_empty() {
        topics.add(Topic::Coordinates);
    }
    topics
}

fn limit(call: &Call) -> Result<usize, ApiError> {
    let Some(text) = call.query.text("limit") else { return Ok(usize::MAX) };
    let limit: i64 = text.parse().map_err(|_| {
        ApiError::server(format!("Bad limit: strconv.Atoi: parsing \"{text}\": invalid syntax"))
    })?;
    Ok(usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX))
}

/// The answer of this datacenter.
fn here(
    dc: &Datacenter,
    call: &Call,
    state: &State,
    query: &Query,
    reading: &Reading,
    limit: usize,
) -> Result<Executed, Error> {
    let authority = call.authority();
    let view = state.view(&authority);
    let near = near(dc, call, view, &query.service.near);
    let mut instances = select(view, &query.service, near.as_ref(), dc.chance());
    instances.truncate(limit);
    let (datacenter, addresses) = (dc.name(), call.addresses());
    let entries = instances.iter().map(|&instance| HealthEntryJson { instance, datacenter, addresses });
    Ok(Executed {
        service: query.service.service.clone(),
        nodes: raw(json::list(entries, Layout::Compact)?)?,
        dns: Dns { ttl: query.dns_ttl.to_string() },
        datacenter: dc.name().to_owned(),
        failovers: 0,
        meta: meta(dc, reading),
    })
}

fn raw(json: Vec<u8>) -> Result<Box<RawValue>, ApiError> {
    let text = String::from_utf8(json).map_err(unwritable)?;
    RawValue::from_string(text).map_err(unwritable)
}

fn unwritable(error: impl ToString) -> ApiError {
    ApiError::server("the answer could not be written as JSON").with_detail(error)
}

/// From where instances are near: as the request says, else as the query does.
fn near(dc: &Datacenter, call: &Call, view: View<'_>, of_query: &str) -> Option<Near> {
    match call.query.text("near").unwrap_or(of_query) {
        "" => None,
        "_agent" => dc.config.node.as_ref().map(|node| Near::node(view, node.as_str())),
        "_ip" => {
            let forwarded = call.header("x-forwarded-for")?.split(',').next()?;
            let ip: IpAddr = forwarded.trim().parse().ok()?;
            view.node_at(ip).map(|node| Near::node(view, node.name().as_str()))
        }
        name => Some(Near::node(view, name)),
    }
}

/// The answer of the first other datacenter that has one, else the empty one of this. A datacenter that cannot be
/// reached, or is known to have nothing, is passed over.
async fn elsewhere(office: &Office, call: &Call, query: &Query, limit: usize, empty: Executed) -> Executed {
    let known: Vec<_> =
        office.operator.datacenters().into_iter().map(|it| (it.datacenter, it.round_trip)).collect();
    let mut failovers = 0;
    let manner = manner(call, limit);
    for datacenter in failover(&query.service, &office.dc.config.name, &known) {
        failovers += 1;
        if !query.service.counts_critical() && office.operator.lacks(&datacenter, &query.service.service) {
            continue;
        }
        let Ok(body) = serde_json::to_vec(&PreparedQuery::from(query)) else { break };
        let errand = Errand::ask(format!("{FOREIGN}{manner}"), call, body.into());
        let asked = office.operator.ask_datacenter(&datacenter, errand).await;
        let answer = asked.map_err(|error| error.to_string()).and_then(|answered| {
            if !answered.status.is_success() {
                return Err(format!("it answered {}", answered.status));
            }
            serde_json::from_slice::<Executed>(&answered.body).map_err(|error| error.to_string())
        });
        match answer {
            Ok(answer) if !answer.is_empty() => {
                return Executed {
                    failovers,
                    datacenter: datacenter.to_string(),
                    meta: empty.meta,
                    ..answer
                };
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%datacenter, service = query.service.service, error, "a datacenter could not be asked");
            }
        }
    }
    Executed { failovers, ..empty }
}

/// How the other datacenter is to answer, as parameters. Where this one translates addresses, that is asked for on the way.
fn manner(call: &Call, limit: usize) -> String {
    let limited = (limit != usize::MAX).then(|| format!("limit={limit}"));
    let for_others = (call.addresses() == Addresses::Wan).then(|| format!("{ADDRESSES}={WAN}"));
    let parameters: Vec<String> = limited.into_iter().chain(for_others).collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}
