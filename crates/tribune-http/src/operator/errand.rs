//! A request that another server answers: how it is carried there, and how its answer becomes ours.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tribune_api::ApiError;
use tribune_api::error::{NO_CLUSTER_LEADER, NO_PATH_TO_DATACENTER};

use super::Operator;
use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::reply::Reply;

/// Set on a request that was sent to whom its sender takes for the leader, so that two servers which take each
/// other for it do not send it to and fro.
const FOR_LEADER: HeaderName = HeaderName::from_static("x-tribune-for-leader");

/// What of a request's headers the other server needs.
const CARRIED: [&str; 3] = ["x-consul-token", "authorization", "content-type"];

/// Headers that belong to one connection and are not passed on.
const NOT_PASSED: [&str; 6] =
    ["connection", "content-length", "date", "keep-alive", "transfer-encoding", "vary"];

/// A request of the API for another server.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Its method.
    pub method: Method,
    /// From `/v1/` on, with its parameters.
    pub path_and_query: String,
    /// To be sent with it.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

/// What the other server said.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

/// What handlers need that ask more than the state.
pub(crate) struct Office {
    pub(crate) dc: Arc<Datacenter>,
    pub(crate) operator: Arc<dyn Operator>,
}

impl Errand {
    /// A question with a body, on behalf of a caller. It changes nothing, and so may be asked again elsewhere when no
    /// answer comes, which a POST may not.
    pub(crate) fn ask(path_and_query: String, call: &Call, body: Bytes) -> Self {
        Self { method: Method::GET, path_and_query, headers: carried(call), body }
    }
}

/// Has another datacenter answer a write whose body names it; `None` when the body names this one, or none.
pub(crate) async fn at_datacenter(
    office: &Office,
    named: &str,
    route: &str,
    call: &Call,
) -> Result<Option<Reply>, Error> {
    if named.is_empty() || named.eq_ignore_ascii_case(office.dc.name()) {
        return Ok(None);
    }
    let unknown = |_| ApiError::server(NO_PATH_TO_DATACENTER);
    let datacenter = tribune_core::Datacenter::new(named.to_lowercase()).map_err(unknown)?;
    let (headers, body) = (carried(call), call.body.clone());
    let errand = Errand { method: Method::PUT, path_and_query: route.to_owned(), headers, body };
    Ok(Some(office.operator.ask_datacenter(&datacenter, errand).await?.into()))
}

/// Has the leader answer the call; `None` when that is this server and it should do so itself.
pub(crate) async fn at_leader(
    office: &Office,
    method: Method,
    route: &str,
    call: &Call,
) -> Result<Option<Reply>, Error> {
    if office.operator.leads() {
        return Ok(None);
    }
    if call.headers.contains_key(FOR_LEADER) {
        return Err(ApiError::server(NO_CLUSTER_LEADER).into());
    }
    let mut headers = carried(call);
    headers.insert(FOR_LEADER, HeaderValue::from_static("1"));
    let path_and_query = match call.query.to_string() {
        query if query.is_empty() => route.to_owned(),
        query => format!("{route}?{query}"),
    };
    let errand = Errand { method, path_and_query, headers, body: call.body.clone() };
    Ok(Some(office.operator.ask_leader(errand).await?.into()))
}

fn carried(call: &Call) -> HeaderMap {
    let carried = CARRIED.iter().filter_map(|&name| {
        let value = call.headers.get(name)?.clone();
        Some((HeaderName::from_static(name), value))
    });
    carried.collect()
}

impl From<Answered> for Reply {
    fn from(answered: Answered) -> Self {
        let mut headers = answered.headers;
        for name in NOT_PASSED {
            headers.remove(name);
        }
        Self::passed_on(answered.status, headers, answered.body)
    }
}
