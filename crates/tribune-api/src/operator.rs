//! Bodies of `/v1/operator/…`: the agreement, the health of servers, the keys of gossip.

mod autopilot;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{Object, or_default, parse};
use crate::error::ApiError;

pub use autopilot::{
    AutopilotConfiguration, AutopilotHealth, AutopilotServer, AutopilotState, ServerHealth, ServerMeta,
};

/// Body of `/v1/operator/raft/configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RaftConfiguration {
    /// All servers with a part in the agreement.
    #[serde(deserialize_with = "or_default")]
    pub servers: Vec<RaftServer>,
    /// Where in the log it was made.
    pub index: u64,
}

/// A server in the agreement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RaftServer {
    /// Its stable id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its node name, or `(unknown)`.
    pub node: String,
    /// Where other servers reach it.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// The version of the protocol it speaks.
    pub protocol_version: String,
    /// Whether its vote counts.
    pub voter: bool,
    /// Its last entry; of later versions of Consul.
    pub last_index: u64,
}

/// Body of `/v1/operator/raft/transfer-leader`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Success {
    /// Whether it was done.
    pub success: bool,
}

/// Body of a change at `/v1/operator/keyring`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyRequest {
    /// The key in base64.
    pub key: String,
}

impl KeyRequest {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let read = || {
            let mut object = Object::new(parse(body)?)?;
            let read = Self { key: object.text(&["Key"])? };
            object.finish().map(|()| read)
        };
        read().map_err(|error| ApiError::bad_request(format!("Bad request: Request decode failed: {error}")))
    }
}

/// One pool in the body of `GET /v1/operator/keyring`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyringPool {
    /// Whether it is the pool of all servers of all datacenters.
    #[serde(rename = "WAN")]
    pub wan: bool,
    /// The datacenter that was asked.
    pub datacenter: String,
    /// Always empty: a datacenter is one segment.
    pub segment: String,
    /// What went wrong, by member.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub messages: BTreeMap<String, String>,
    /// How many members have each key.
    #[serde(deserialize_with = "or_default")]
    pub keys: BTreeMap<String, usize>,
    /// How many members write with each key; of later versions of Consul.
    #[serde(deserialize_with = "or_default")]
    pub primary_keys: BTreeMap<String, usize>,
    /// How many members were asked.
    pub num_nodes: usize,
}
