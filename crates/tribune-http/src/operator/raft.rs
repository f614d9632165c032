//! `/v1/operator/raft/…`: who takes part in the agreement.

use std::sync::Arc;

use http::Method;
use tribune_api::ApiError;
use tribune_api::operator::{RaftConfiguration, RaftServer, Success};

use super::{Office, at_leader};
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;

const CONFIGURATION: &str = "/v1/operator/raft/configuration";
const PEER: &str = "/v1/operator/raft/peer";
const TRANSFER: &str = "/v1/operator/raft/transfer-leader";

pub(super) fn routes(office: &Arc<Office>) -> Router {
    Router::default()
        .get(CONFIGURATION, office, configuration)
        .on(Method::DELETE, PEER, office, remove_peer)
        .on(Method::POST, TRANSFER, office, transfer_leader)
        .on(Method::PUT, TRANSFER, office, transfer_leader)
}

async fn configuration(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    if !call.query.flag("stale")
        && let Some(reply) = at_leader(&office, Method::GET, CONFIGURATION, &call).await?
    {
        return Ok(reply);
    }
    let raft = office.operator.raft();
    let servers = raft.servers.into_iter().map(|server| RaftServer {
        id: server.id,
        node: server.node.unwrap_or_else(|| "(unknown)".to_owned()),
        address: server.address,
        leader: server.leader,
        protocol_version: "3".to_owned(),
        voter: server.voter,
        last_index: server.last_index.unwrap_or_default().0,
    });
    let body = RaftConfiguration { servers: servers.collect(), index: raft.index.0 };
    Ok(Reply::json(&body, call.layout)?)
}

async fn remove_peer(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    let (id, address) = (call.query.text("id"), call.query.text("address"));
    let (what, name) = match (id, address) {
        (Some(id), None) => ("id", id),
        (None, Some(address)) => ("address", address),
        (None, None) => {
            let text = "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of \
                        peer to remove";
            return Err(ApiError::bad_request(text).into());
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("Bad request: Must specify only one of ?id or ?address").into());
        }
    };
    if let Some(reply) = at_leader(&office, Method::DELETE, PEER, &call).await? {
        return Ok(reply);
    }
    let servers = office.operator.raft().servers;
    let is_meant =
        |server: &&super::RaftServer| if what == "id" { server.id == name } else { server.address == name };
    let Some(server) = servers.iter().find(is_meant) else {
        let text = format!("{what} \"{name}\" was not found in the Raft configuration");
        return Err(ApiError::server(text).into());
    };
    office.operator.remove_peer(&server.id).await?;
    Ok(Reply::empty())
}

async fn transfer_leader(office: Arc<Office>, call: Call) -> Result<Reply, Error> {
    if let Some(reply) = at_leader(&office, Method::POST, TRANSFER, &call).await? {
        return Ok(reply);
    }
    let to = call.query.text("id");
    if let Some(id) = to
        && !office.operator.raft().servers.iter().any(|server| server.id == id)
    {
        let text = format!("id \"{id}\" was not found in the Raft configuration");
        return Err(ApiError::server(text).into());
    }
    office.operator.transfer_leader(to).await?;
    Ok(Reply::json(&Success { success: true }, call.layout)?)
}
