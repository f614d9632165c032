//! What operators ask and change: the agreement of the servers, their health, the keys of gossip.

use http::Method;

pub use tribune_api::operator::{
    AutopilotConfiguration, AutopilotServer, AutopilotState, KeyringPool, RaftConfiguration, RaftServer,
};

use tribune_api::operator::KeyRequest;

use crate::client::Client;
use crate::error::Error;
use crate::question::Question;
use crate::request::Request;

/// The servers that take part in the agreement of a datacenter.
pub fn raft_configuration() -> Question<RaftConfiguration> {
    Question::new(Request::get(&["operator", "raft", "configuration"]))
}

/// What is decided about servers.
pub fn autopilot_configuration() -> Question<AutopilotConfiguration> {
    Question::new(Request::get(&["operator", "autopilot", "configuration"]))
}

/// How the servers are.
pub fn autopilot_state() -> Question<AutopilotState> {
    Question::new(Request::get(&["operator", "autopilot", "state"]))
}

/// The keys of gossip in all pools, or only in that of the agent's datacenter.
pub fn keyring(relay_factor: u8, local_only: bool) -> Question<Vec<KeyringPool>> {
    let request = relayed(Request::get(&["operator", "keyring"]), relay_factor);
    Question::new(if local_only { request.with("local-only", "true") } else { request })
}

/// A server of the agreement by one of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// Its stable id.
    Id(&'a str),
    /// `ip:port`.
    Address(&'a str),
}

/// What is to become of a key of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// Packets can be read with it.
    Install,
    /// Packets are written with it.
    Use,
    /// It is forgotten.
    Remove,
}

impl Client {
    /// Puts a server out of the agreement, of this or another datacenter.
    pub async fn remove_peer(&self, peer: Peer<'_>, datacenter: Option<&str>) -> Result<(), Error> {
        let request = Request::new(Method::DELETE, &["operator", "raft", "peer"]);
        let request = match peer {
            Peer::Id(id) => request.with("id", id),
            Peer::Address(address) => request.with("address", address),
        };
        self.change(&at(request, datacenter)).await
    }

    /// Hands the leadership to a server, or to any.
    pub async fn transfer_leader(&self, id: Option<&str>, datacenter: Option<&str>) -> Result<(), Error> {
        let request = Request::new(Method::POST, &["operator", "raft", "transfer-leader"]);
        let request = if let Some(id) = id { request.with("id", id) } else { request };
        self.change(&at(request, datacenter)).await
    }

    /// Changes what is decided about servers, unless that has changed since it was read: then `false`.
    pub async fn set_autopilot(
        &self,
        config: &AutopilotConfiguration,
        datacenter: Option<&str>,
    ) -> Result<bool, Error> {
        let request = Request::put(&["operator", "autopilot", "configuration"]);
        let request = request.with("cas", config.modify_index.to_string()).json(config)?;
        self.change_with_answer(&at(request, datacenter)).await
    }

    /// Changes the keys of gossip on all members of all pools. A key is given in base64.
    pub async fn change_key(&self, change: KeyChange, key: &str, relay_factor: u8) -> Result<(), Error> {
        let method = match change {
            KeyChange::Install => Method::POST,
            KeyChange::Use => Method::PUT,
            KeyChange::Remove => Method::DELETE,
        };
        let request =
            Request::new(method, &["operator", "keyring"]).json(&KeyRequest { key: key.to_owned() })?;
        self.change(&relayed(request, relay_factor)).await
    }
}

fn relayed(request: Request, relay_factor: u8) -> Request {
    if relay_factor > 0 { request.with("relay-factor", relay_factor.to_string()) } else { request }
}

/// A request to another datacenter.
pub(crate) fn at(request: Request, datacenter: Option<&str>) -> Request {
    match datacenter.filter(|name| !name.is_empty()) {
        Some(name) => request.with("dc", name),
        None => request,
    }
}
