//! `/v1/status/…`: who leads, and who votes.

use std::sync::Arc;

use tribune_api::status;

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    Router::default().get("/v1/status/leader", dc, leader).get("/v1/status/peers", dc, peers)
}

async fn leader(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let address = dc.replica.cluster().leader.map(|leader| leader.address.to_string());
    Ok(Reply::bytes(status::leader(address.as_deref(), call.layout)?.into()))
}

async fn peers(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let servers = dc.replica.cluster().servers;
    let voters = servers.iter().filter(|server| server.voter);
    let addresses: Vec<String> = voters.map(|server| server.server.address.to_string()).collect();
    Ok(Reply::bytes(status::peers(addresses.iter().map(String::as_str), call.layout)?.into()))
}
