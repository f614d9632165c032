//! `/v1/query/…`: prepared queries, kept and executed.

mod execute;

use std::sync::Arc;

use http::Method;
use tribune_api::query::{Created, Explained, PreparedQuery, QueryMeta};
use tribune_api::{ApiError, json};
use tribune_core::{Command, Topic};

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::operator::Office;
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reading::Reading;
use crate::reply::Reply;
use crate::router::Router;

const LIST: &str = "/v1/query";
const ONE: &str = "/v1/query/";

/// Where a server of another datacenter has a query answered that it holds itself.
const FOREIGN: &str = "/v1/internal/query/execute";

/// Length of a UUID.
const ID_BYTES: usize = 36;

pub(crate) fn routes(office: &Arc<Office>) -> Router {
    Router::default()
        .get(LIST, office, list)
        .on(Method::POST, LIST, office, create)
        .get(ONE, office, one)
        .put(ONE, office, update)
        .on(Method::DELETE, ONE, office, delete)
        .get(FOREIGN, office, execute::foreign)
}

async fn list(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(&office.dc, &call)?;
    let question = Question::new(LIST, "", call.layout, Topics::One(Topic::Queries));
    read.answer(question, |view| json::list(view.state().queries().map(PreparedQuery::shown), call.layout))
        .await
}

async fn create(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let body = PreparedQuery::from_body(&call.body)?;
    if !body.id.is_empty() {
        return Err(ApiError::server("ID must be empty when creating a new prepared query").into());
    }
    let id = uuid::Uuid::new_v4().to_string();
    put(&office.dc, &call, body, &id, true).await?;
    Ok(Reply::json(&Created { id }, call.layout)?)
}

async fn update(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let body = PreparedQuery::from_body(&call.body)?;
    put(&office.dc, &call, body, &call.argument, false).await?;
    Ok(Reply::empty())
}

async fn put(dc: &Datacenter, call: &Call, body: PreparedQuery, id: &str, is_new: bool) -> Result<(), Error> {
    let query = Box::new(body.into_query(id)?);
    dc.apply(&call.authority(), Command::PutQuery { query, is_new }).await
}

async fn delete(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let (read, _) = Read::new(&office.dc, &call)?;
    let id = &call.argument;
    if read.state().await?.query(id).is_none() {
        let text = format!("Cannot modify non-existent prepared query: '{id}'");
        return Err(ApiError::server(text).into());
    }
    let command = Command::DeleteQuery(id.to_lowercase().into());
    office.dc.apply(&call.authority(), command).await?;
    Ok(Reply::empty())
}

/// A query by its id, or what is to be done with one.
async fn one(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    if let Some(name) = call.argument.strip_suffix("/execute") {
        return execute::execute(&office, &call, name).await;
    }
    if let Some(name) = call.argument.strip_suffix("/explain") {
        return explain(&office.dc, &call, name).await;
    }
    show(&office.dc, &call).await
}

async fn show(dc: &Datacenter, call: &Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(dc, call)?;
    let id = &call.argument;
    if id.len() != ID_BYTES {
        let text = "failed prepared query lookup: index error: UUID must be 36 characters";
        return Err(ApiError::server(text).into());
    }
    let state = read.state().await?;
    if state.query(id).is_none() {
        return Err(unknown());
    }
    let question = Question::new(ONE, id, call.layout, Topics::One(Topic::Queries));
    read.answer_from(state, question, |view| {
        json::list(view.state().query(id).map(PreparedQuery::shown), call.layout)
    })
    .await
}

async fn explain(dc: &Datacenter, call: &Call, name: &str) -> Result<Reply, Error> {
    let options = call.query.read_options(dc.config.waits)?;
    let reading = Reading::new(call, &options, &dc.config)?;
    let state = dc.read(&reading).await?;
    let found = state.find_query(name).ok_or_else(unknown)?;
    let body = Explained { query: PreparedQuery::shown(&found), meta: meta(dc, &reading) };
    let mut reply = Reply::json(&body, call.layout)?;
    dc.describe(&mut reply.headers, state.index_of(&Topic::Queries).max(tribune_core::Index(1)), &reading);
    Ok(reply)
}

fn unknown() -> Error {
    ApiError::not_found("Query not found").into()
}

/// What an answer says of itself in its body.
fn meta(dc: &Datacenter, reading: &Reading) -> QueryMeta {
    let contact = dc.replica.contact();
    let behind = contact.last_contact.unwrap_or_default().as_nanos();
    QueryMeta {
        index: 0,
        last_contact: u64::try_from(behind).unwrap_or(u64::MAX),
        known_leader: contact.known_leader,
        consistency_level: reading.consistency.as_header().to_owned(),
    }
}
