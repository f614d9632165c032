//! `/v1/session/…`: sessions, which hold keys.

use std::sync::Arc;

use tribune_api::kv::BAD_SESSION_ID;
use tribune_api::session::{SessionCreated, SessionJson, SessionRequest};
use tribune_api::{ApiError, json};
use tribune_core::lease::Renewal;
use tribune_core::{Command, Folded, SessionChange, SessionId, Topic};
use tribune_raft::Consistency;
use uuid::Uuid;

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::question::{Question, Topics};
use crate::read::Read;
use crate::reply::Reply;
use crate::router::Router;

const MISSING_SESSION: &str = "Missing session";
const MISSING_NODE: &str = "Missing node name";

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    Router::default()
        .put("/v1/session/create", dc, create)
        .put("/v1/session/destroy/", dc, destroy)
        .put("/v1/session/renew/", dc, renew)
        .get("/v1/session/info/", dc, info)
        .get("/v1/session/node/", dc, on_node)
        .get("/v1/session/list", dc, list)
}

async fn create(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let request = SessionRequest::from_body(&call.body)?;
    let Some(node) = &dc.config.node else {
        return Err(
            ApiError::bad_request("Missing node name: name the node that the session belongs to").into()
        );
    };
    let id = Uuid::new_v4().to_string();
    let id = SessionId::new(&id).map_err(|why| ApiError::server(why.to_string()))?;
    let created = SessionCreated { id: id.as_str().to_owned() };
    let session = request.into_session(id, node, dc.config.session_ttl_min)?;
    let command = Command::Session(Box::new(SessionChange::Create(session)));
    dc.apply(&call.authority(), command).await?;
    Ok(Reply::json(&created, call.layout)?)
}

async fn destroy(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let id = named(&call)?;
    dc.write(&call.authority(), Command::Session(Box::new(SessionChange::Destroy(id))), call.layout).await
}

/// Starts the time of a session anew. That is the leader's memory: nothing is written.
async fn renew(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let id = named(&call)?;
    let gone = || ApiError::not_found(format!("Session id '{id}' not found"));
    let state = dc.replica.read(Consistency::Default).await?;
    let authority = call.authority();
    let session = state.view(&authority).session(&id).ok_or_else(gone)?;
    if session.value.ttl.is_some() {
        let answer = dc.replica.ask_leader(Renewal::question(&id).into()).await?;
        match Renewal::from_word(&answer) {
            Some(Renewal::Renewed) => {}
            Some(Renewal::TooLate | Renewal::Unknown) => return Err(gone().into()),
            None => {
                return Err(ApiError::server("the leader did not understand the renewal: try again").into());
            }
        }
    }
    Ok(Reply::json(&[SessionJson(session)], call.layout)?)
}

async fn info(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let id = named(&call)?;
    let (read, _) = Read::new(&dc, &call)?;
    let topic = Topics::One(Topic::Session(id.clone()));
    let question = Question::new("/v1/session/info/", id.as_str(), call.layout, topic);
    read.answer_plainly(question, |view| json::list(view.session(&id).map(SessionJson), call.layout)).await
}

async fn on_node(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let node = call.argument(MISSING_NODE)?;
    let (read, _) = Read::new(&dc, &call)?;
    let key = Folded::new(node);
    let topic = Topics::One(Topic::NodeSessions(key.clone()));
    let question = Question::new("/v1/session/node/", key.as_str(), call.layout, topic);
    read.answer_plainly(question, |view| json::list(view.sessions_on(node).map(SessionJson), call.layout))
        .await
}

async fn list(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let (read, _) = Read::new(&dc, &call)?;
    let question = Question::new("/v1/session/list", "", call.layout, Topics::One(Topic::Sessions));
    read.answer_plainly(question, |view| json::list(view.sessions().map(SessionJson), call.layout)).await
}

/// The session that a path names.
fn named(call: &Call) -> Result<SessionId, ApiError> {
    SessionId::new(call.argument(MISSING_SESSION)?).map_err(|_| ApiError::server(BAD_SESSION_ID))
}
