//! Bodies of `/v1/agent/…`: definitions of services and checks, and what an agent says of itself.

mod definition;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use definition::{CheckDefinition, Origin, ServiceDefinition};

use crate::catalog::{TaggedAddress, Weights};
use crate::decode::{DecodeError, Object, or_default, parse};
use crate::health::HealthCheck;

/// Body of `/v1/agent/check/update/:id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckUpdate {
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What is to be shown with it.
    pub output: String,
}

impl CheckUpdate {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut object = Object::new(parse(body)?)?;
        let read = Self { status: object.text(&["Status"])?, output: object.text(&["Output"])? };
        object.finish()?;
        Ok(read)
    }
}

/// A service of an agent, as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentService {
    /// Unique on the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub service: String,
    /// Tags.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Metadata.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Port.
    pub port: u16,
    /// Own address, or empty.
    pub address: String,
    /// Further addresses by purpose.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// SRV weights.
    pub weights: Weights,
    /// Whether others may change its tags.
    pub enable_tag_override: bool,
    /// Hash of its content, where one service was asked for.
    pub content_hash: String,
}

/// Health of one service of an agent, as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceHealth {
    /// `passing`, `warning`, `critical` or `maintenance`.
    pub aggregated_status: String,
    /// The service, if there is one.
    pub service: Option<AgentService>,
    /// Its checks and its node's.
    #[serde(deserialize_with = "or_default")]
    pub checks: Vec<HealthCheck>,
}

/// A member of the datacenter, or of the pool of all servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// Its name; with the datacenter appended in the pool of all servers.
    pub name: String,
    /// Its address.
    pub addr: String,
    /// Its port for gossip.
    pub port: u16,
    /// What it says of itself.
    pub tags: BTreeMap<String, String>,
    /// 0 none, 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// Oldest gossip protocol it speaks.
    pub protocol_min: u8,
    /// Newest gossip protocol it speaks.
    pub protocol_max: u8,
    /// Gossip protocol in use.
    pub protocol_cur: u8,
    /// Oldest membership protocol it speaks.
    pub delegate_min: u8,
    /// Newest membership protocol it speaks.
    pub delegate_max: u8,
    /// Membership protocol in use.
    pub delegate_cur: u8,
}

/// Body of `/v1/agent/self`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentSelf {
    /// What most clients look at.
    pub config: SelfConfig,
    /// Every setting, secrets hidden.
    pub debug_config: BTreeMap<String, Value>,
    /// Where the node lies in the network, as far as known.
    pub coord: Option<Coordinate>,
    /// The agent as a member.
    pub member: Member,
    /// Sections of figures, as `info` prints them.
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
    /// Metadata of the node.
    pub meta: BTreeMap<String, String>,
}

/// The part of `/v1/agent/self` that most clients look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SelfConfig {
    /// The agent's datacenter.
    pub datacenter: String,
    /// The datacenter that leads the federation.
    #[serde(default)]
    pub primary_datacenter: String,
    /// Name of the node.
    pub node_name: String,
    /// UUID of the node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Revision of the program's source, or empty.
    pub revision: String,
    /// Whether it is a server.
    pub server: bool,
    /// Version that clients base decisions on.
    pub version: String,
    /// When the program was built.
    #[serde(default)]
    pub build_date: String,
}

/// A place in the network, in Vivaldi's space.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    /// Position in seconds.
    pub vec: Vec<f64>,
    /// How much it can be trusted; lower is better.
    pub error: f64,
    /// Correction in seconds.
    pub adjustment: f64,
    /// Distance from the plane in seconds.
    pub height: f64,
}

/// Body of `/v1/agent/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metrics {
    /// End of the interval, as `2006-01-02 15:04:05 +0000 UTC`.
    pub timestamp: String,
    /// Values as last set.
    pub gauges: Vec<Gauge>,
    /// Points; always empty.
    pub points: Vec<Gauge>,
    /// Sums over the interval.
    pub counters: Vec<Sample>,
    /// Measurements over the interval.
    pub samples: Vec<Sample>,
}

/// A value as last set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Gauge {
    /// Name with dots.
    pub name: String,
    /// Value.
    pub value: f64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What was counted or measured in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sample {
    /// Name with dots.
    pub name: String,
    /// How many.
    pub count: u64,
    /// Sum per second.
    pub rate: f64,
    /// Sum.
    pub sum: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub stddev: f64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Body of `/v1/agent/version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Revision of the source, or empty.
    #[serde(rename = "SHA")]
    pub sha: String,
    /// When it was built.
    #[serde(rename = "BuildDate")]
    pub build_date: String,
    /// The version as people write it.
    #[serde(rename = "HumanVersion")]
    pub human_version: String,
    /// Certification, empty.
    #[serde(rename = "FIPS")]
    pub fips: String,
}
