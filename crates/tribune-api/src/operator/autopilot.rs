//! Bodies of `/v1/operator/autopilot/…`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribune_core::autopilot::{Config, Report};
use tribune_core::membership::Life;
use tribune_core::reconcile::SERVER_INSTANCE;
use tribune_core::{Authority, State, Stored};

use crate::decode::{Object, or_default, parse};
use crate::duration::GoDuration;
use crate::error::ApiError;
use crate::instant::rfc3339;

/// Body of `/v1/operator/autopilot/configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AutopilotConfiguration {
    /// Whether failed servers leave the agreement.
    pub cleanup_dead_servers: bool,
    /// Longest silence of a healthy server.
    pub last_contact_threshold: String,
    /// Most entries a healthy server lags.
    pub max_trailing_logs: u64,
    /// Cleaning up never leaves fewer voters.
    pub min_quorum: u64,
    /// How long a server is healthy before it votes.
    pub server_stabilization_time: String,
    /// Kept, not acted on.
    pub redundancy_zone_tag: String,
    /// Kept, not acted on.
    pub disable_upgrade_migration: bool,
    /// Kept, not acted on.
    pub upgrade_version_tag: String,
    /// When it was first written.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

impl AutopilotConfiguration {
    /// Reads a request body; what it leaves out is zero, as in Consul.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let read = || {
            let mut object = Object::new(parse(body)?)?;
            let number = |number: Option<i64>| number.and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
            let span = |span: Option<Duration>| GoDuration::from(span.unwrap_or_default()).to_string();
            let read = Self {
                cleanup_dead_servers: object.flag(&["CleanupDeadServers"])?.unwrap_or(false),
                last_contact_threshold: span(object.duration(&["LastContactThreshold"])?),
                max_trailing_logs: number(object.integer(&["MaxTrailingLogs"], 0..=i64::MAX)?),
                min_quorum: number(object.integer(&["MinQuorum"], 0..=i64::MAX)?),
                server_stabilization_time: span(object.duration(&["ServerStabilizationTime"])?),
                redundancy_zone_tag: object.text(&["RedundancyZoneTag"])?,
                disable_upgrade_migration: object.flag(&["DisableUpgradeMigration"])?.unwrap_or(false),
                upgrade_version_tag: object.text(&["UpgradeVersionTag"])?,
                create_index: number(object.integer(&["CreateIndex"], 0..=i64::MAX)?),
                modify_index: number(object.integer(&["ModifyIndex"], 0..=i64::MAX)?),
            };
            object.finish().map(|()| read)
        };
        read().map_err(|error| {
            ApiError::bad_request(format!("Bad request: Error parsing autopilot config: {error}"))
        })
    }
}

impl From<&Stored<Config>> for AutopilotConfiguration {
    fn from(stored: &Stored<Config>) -> Self {
        let config = &stored.value;
        Self {
            cleanup_dead_servers: config.cleanup_dead_servers,
            last_contact_threshold: GoDuration::from(config.last_contact_threshold).to_string(),
            max_trailing_logs: config.max_trailing_logs,
            min_quorum: config.min_quorum,
            server_stabilization_time: GoDuration::from(config.server_stabilization_time).to_string(),
            redundancy_zone_tag: config.redundancy_zone_tag.to_string(),
            disable_upgrade_migration: config.disable_upgrade_migration,
            upgrade_version_tag: config.upgrade_version_tag.to_string(),
            create_index: stored.created.0,
            modify_index: stored.modified.0,
        }
    }
}

impl From<AutopilotConfiguration> for Config {
    fn from(body: AutopilotConfiguration) -> Self {
        // The texts were made by `from_body`, or come from a server.
        let span = |text: &str| text.parse().ok().and_then(GoDuration::positive).unwrap_or_default();
        Self {
            cleanup_dead_servers: body.cleanup_dead_servers,
            last_contact_threshold: span(&body.last_contact_threshold),
            max_trailing_logs: body.max_trailing_logs,
            min_quorum: body.min_quorum,
            server_stabilization_time: span(&body.server_stabilization_time),
            redundancy_zone_tag: body.redundancy_zone_tag.into(),
            disable_upgrade_migration: body.disable_upgrade_migration,
            upgrade_version_tag: body.upgrade_version_tag.into(),
        }
    }
}

/// Body of `/v1/operator/autopilot/health`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AutopilotHealth {
    /// Whether all servers are healthy.
    pub healthy: bool,
    /// How many more voters may fail.
    pub failure_tolerance: usize,
    /// Each server.
    #[serde(deserialize_with = "or_default")]
    pub servers: Vec<ServerHealth>,
}

/// How one server is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServerHealth {
    /// Its stable id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its node name.
    pub name: String,
    /// Where other servers reach it.
    pub address: String,
    /// `alive`, `failed`, `left` or `none`.
    pub serf_status: String,
    /// The version it says it is.
    pub version: String,
    /// Whether it leads.
    pub leader: bool,
    /// How long ago the leader last heard of it; `-1ns` when it never did.
    pub last_contact: String,
    /// The election of its last entry.
    pub last_term: u64,
    /// Its last entry.
    pub last_index: u64,
    /// Whether it can be relied on.
    pub healthy: bool,
    /// Whether its vote counts.
    pub voter: bool,
    /// Since when it has been so.
    pub stable_since: String,
}

impl From<&Report> for AutopilotHealth {
    fn from(report: &Report) -> Self {
        Self {
            healthy: report.healthy,
            failure_tolerance: report.failure_tolerance,
            servers: report.servers.iter().map(ServerHealth::from).collect(),
        }
    }
}

impl From<&tribune_core::autopilot::ServerHealth> for ServerHealth {
    fn from(server: &tribune_core::autopilot::ServerHealth) -> Self {
        Self {
            id: server.id.to_string(),
            name: server.name.to_string(),
            address: server.address.to_string(),
            serf_status: life(server.life).to_owned(),
            version: server.version.to_string(),
            leader: server.leader,
            last_contact: server.last_contact.map_or(GoDuration(-1), GoDuration::from).to_string(),
            last_term: server.last_term,
            last_index: server.last_index.0,
            healthy: server.healthy,
            voter: server.voter,
            stable_since: rfc3339(server.stable_since),
        }
    }
}

fn life(life: Option<Life>) -> &'static str {
    match life {
        Some(Life::Alive) => "alive",
        Some(Life::Failed | Life::Unsettled) => "failed",
        Some(Life::Left) => "left",
        None => "none",
    }
}

/// Body of `/v1/operator/autopilot/state`, which later versions of Consul have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AutopilotState {
    /// Whether all servers are healthy.
    pub healthy: bool,
    /// How many more voters may fail.
    pub failure_tolerance: usize,
    /// The same when failures come one by one; without zones there is no difference.
    pub optimistic_failure_tolerance: usize,
    /// Each server by its id.
    #[serde(deserialize_with = "or_default")]
    pub servers: BTreeMap<String, AutopilotServer>,
    /// The id of the leader.
    pub leader: String,
    /// The ids of the voters.
    #[serde(deserialize_with = "or_default")]
    pub voters: Vec<String>,
    /// The ids of those that only read.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub read_replicas: Vec<String>,
}

/// One server in [`AutopilotState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AutopilotServer {
    /// Its stable id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its node name.
    pub name: String,
    /// Where other servers reach it.
    pub address: String,
    /// `alive`, `failed`, `left` or `none`.
    pub node_status: String,
    /// The version it says it is.
    pub version: String,
    /// How long ago the leader last heard of it.
    pub last_contact: String,
    /// The election of its last entry.
    pub last_term: u64,
    /// Its last entry.
    pub last_index: u64,
    /// Whether it can be relied on.
    pub healthy: bool,
    /// Since when it has been so.
    pub stable_since: String,
    /// Whether it only reads.
    pub read_replica: bool,
    /// `leader`, `voter` or `non-voter`.
    pub status: String,
    /// What it says of itself.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// `voter` or `read-replica`.
    pub node_type: String,
}

/// What the servers of a report say of themselves, by node name.
#[derive(Debug, Clone, Default)]
pub struct ServerMeta(BTreeMap<String, BTreeMap<String, String>>);

impl ServerMeta {
    /// As the catalog has it.
    pub fn of(state: &State, report: &Report) -> Self {
        let everything = Authority::unrestricted();
        let of_node = |name: &str| {
            let instance = state.view(&everything).node(name)?.instance(SERVER_INSTANCE)?;
            let meta = instance.service.value.meta.iter();
            Some(meta.map(|(key, value)| (key.to_string(), value.to_string())).collect())
        };
        let servers = report.servers.iter();
        Self(servers.map(|it| (it.name.to_string(), of_node(&it.name).unwrap_or_default())).collect())
    }
}

impl AutopilotState {
    /// A report with what its servers say of themselves.
    pub fn new(report: &Report, meta: &ServerMeta) -> Self {
        let ids = |wanted: fn(&tribune_core::autopilot::ServerHealth) -> bool| {
            report.servers.iter().filter(|it| wanted(it)).map(|it| it.id.to_string()).collect()
        };
        let server = |it: &tribune_core::autopilot::ServerHealth| {
            let meta = meta.0.get(it.name.as_str()).cloned().unwrap_or_default();
            (it.id.to_string(), AutopilotServer::new(it, meta))
        };
        Self {
            healthy: report.healthy,
            failure_tolerance: report.failure_tolerance,
            optimistic_failure_tolerance: report.failure_tolerance,
            servers: report.servers.iter().map(server).collect(),
            leader: report.leader.to_string(),
            voters: ids(|it| it.voter),
            read_replicas: ids(|it| it.read_replica),
        }
    }
}

impl AutopilotServer {
    fn new(server: &tribune_core::autopilot::ServerHealth, meta: BTreeMap<String, String>) -> Self {
        let health = ServerHealth::from(server);
        let status = match (server.leader, server.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "non-voter",
        };
        Self {
            id: health.id,
            name: health.name,
            address: health.address,
            node_status: health.serf_status,
            version: health.version,
            last_contact: health.last_contact,
            last_term: health.last_term,
            last_index: health.last_index,
            healthy: health.healthy,
            stable_since: health.stable_since,
            read_replica: server.read_replica,
            status: status.to_owned(),
            meta,
            node_type: if server.read_replica { "read-replica" } else { "voter" }.to_owned(),
        }
    }
}
