//! What `/v1/agent/self` and `info` say: the configuration in force and the figures of each part. No secrets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tribune_api::GoDuration;
use tribune_api::agent::{AgentSelf, Coordinate, SelfConfig};
use tribune_core::Node as Record;
use tribune_core::coordinate::Coordinate as Place;
use tribune_gossip::{Pool, Status};
use tribune_local::ScriptPolicy;
use tribune_raft::ClusterView;

use super::Node;
use crate::daemon::{Federation, Part};
use crate::settings::Settings;
use crate::telemetry::Usage;
use crate::{membership, version};

pub(super) fn about(node: &Node, record: &Record) -> AgentSelf {
    let settings = node.settings.load();
    AgentSelf {
        config: SelfConfig {
            datacenter: settings.datacenter.to_string(),
            primary_datacenter: settings.primary_datacenter.to_string(),
            node_name: record.name.to_string(),
            node_id: record.id.to_string(),
            revision: version::REVISION.to_owned(),
            server: settings.cluster.is_server(),
            version: version::CONSUL.to_owned(),
            build_date: String::new(),
        },
        debug_config: debug_config(node, &settings, record),
        coord: Some(Coordinate::from(&place(node, record))),
        member: node.listed(),
        stats: stats(node, &settings),
        meta: record.meta.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    }
}

/// Where the node is in the network as far as it knows. A client agent's place is known to the servers alone.
fn place(node: &Node, record: &Record) -> Place {
    let known = node
        .server()
        .ok()
        .and_then(|server| server.replica.state().coordinate(record.name.folded().as_str()).cloned());
    known.unwrap_or_else(Place::unknown)
}

/// The settings in force under the names that Consul's users read them by.
fn debug_config(node: &Node, settings: &Settings, record: &Record) -> BTreeMap<String, Value> {
    let parts =
        [of_node(settings, record), of_network(node, settings), of_dns(settings), of_checks(settings)];
    let objects = parts.into_iter().filter_map(|part| match part {
        Value::Object(entries) => Some(entries),
        _ => None,
    });
    objects.flatten().collect()
}

fn of_node(settings: &Settings, record: &Record) -> Value {
    let telemetry = &settings.telemetry;
    json!({
        "Bootstrap": settings.cluster.founds_alone() && !settings.is_dev,
        "BootstrapExpect": settings.cluster.expected(),
        "DataDir": settings.data_dir,
        "Datacenter": settings.datacenter.as_str(),
        "DevMode": settings.is_dev,
        "LeaveOnTerm": settings.leaving.on_terminate,
        "LogLevel": settings.logging.level.to_string(),
        "NodeID": record.id,
        "NodeMeta": settings.identity.meta,
        "NodeName": record.name.as_str(),
        "PrimaryDatacenter": settings.primary_datacenter.as_str(),
        "RaftSnapshotThreshold": settings.raft.snapshot_threshold,
        "RaftTrailingLogs": settings.raft.trailing_logs,
        "Revision": version::REVISION,
        "ServerMode": settings.cluster.is_server(),
        "SkipLeaveOnInt": !settings.leaving.on_interrupt,
        "Telemetry": {
            "DisableHostname": telemetry.host_name.is_none(),
            "FilterDefault": telemetry.filter_default,
            "MetricsPrefix": telemetry.prefix,
            "PrometheusRetentionTime": span(telemetry.prometheus_retention.unwrap_or_default()),
        },
        "Version": version::CONSUL,
    })
}

fn of_network(node: &Node, settings: &Settings) -> Value {
    let (network, reach) = (&settings.network, &node.standing.reach);
    json!({
        "AdvertiseAddrLAN": network.advertise,
        "AdvertiseAddrWAN": network.advertise_wan,
        "BindAddr": network.rpc.ip(),
        "ClientAddrs": network.client,
        "DNSAddrs": urls(&network.dns, "udp"),
        "DNSPort": port(&network.dns),
        "GRPCPort": -1,
        "HTTPAddrs": urls(&network.http, "tcp"),
        "HTTPBlockEndpoints": settings.http.block_endpoints,
        "HTTPMaxConnsPerClient": settings.http.connections_per_client_max.unwrap_or(0),
        "HTTPPort": port(&network.http),
        "HTTPSPort": port(&network.https),
        "SerfPortLAN": reach.lan.port(),
        "SerfPortWAN": reach.wan.map_or(-1, |wan| i32::from(wan.port())),
        "ServerPort": reach.rpc.map_or(-1, |rpc| i32::from(rpc.port())),
        "TaggedAddresses": network.tagged_addresses,
    })
}

fn of_dns(settings: &Settings) -> Value {
    let dns = &settings.dns;
    json!({
        "DNSAltDomain": dns.alt_domain,
        "DNSDomain": dns.domain,
        "DNSEnableTruncate": dns.enable_truncate,
        "DNSNodeTTL": span(dns.node_ttl),
        "DNSOnlyPassing": dns.only_passing,
        "DNSRecursorTimeout": span(dns.recursor_timeout),
        "DNSRecursors": dns.recursors,
        "DNSUDPAnswerLimit": dns.udp_answer_limit,
    })
}

fn of_checks(settings: &Settings) -> Value {
    let checks = &settings.checks;
    json!({
        "CheckOutputMaxSize": checks.output_bytes_max,
        "CheckUpdateInterval": span(checks.update_interval),
        "DiscardCheckOutput": checks.discard_output,
        "EnableLocalScriptChecks": checks.scripts != ScriptPolicy::Nobody,
        "EnableRemoteScriptChecks": checks.scripts == ScriptPolicy::Anyone,
    })
}

fn span(span: Duration) -> String {
    GoDuration::from(span).to_string()
}

fn urls(addresses: &[SocketAddr], scheme: &str) -> Vec<String> {
    addresses.iter().map(|address| format!("{scheme}://{address}")).collect()
}

/// The port that all of them share, or -1 for an interface that is off.
fn port(addresses: &[SocketAddr]) -> i32 {
    addresses.first().map_or(-1, |address| i32::from(address.port()))
}

type Section = BTreeMap<String, String>;

fn stats(node: &Node, settings: &Settings) -> BTreeMap<String, Section> {
    let build = [
        ("prerelease", String::new()),
        ("revision", version::REVISION.to_owned()),
        ("tribune", version::TRIBUNE.to_owned()),
        ("version", version::CONSUL.to_owned()),
    ];
    let mut stats = BTreeMap::from([
        agent_section(node),
        section("build", build),
        runtime_section(),
        pool_section("serf_lan", &node.standing.lan),
    ]);
    stats.extend(node.controls.security.expiry().map(certificate_section));
    match &node.standing.part {
        Part::Server(server, federation) => {
            let cluster = server.replica.cluster();
            let known = federation.as_ref().map_or(1, |it| it.forwarder.datacenters().len());
            stats.extend([server_section(settings, &cluster, known), raft_section(&cluster)]);
            stats.extend(federation.as_ref().map(|it| pool_section("serf_wan", &it.pool)));
            stats.extend(federation.iter().flat_map(link_sections));
        }
        Part::Client(uplink) => {
            let members = node.standing.lan.members();
            let known = members.iter().filter(|member| membership::is_server(member)).count();
            let entries = [("known_servers", known.to_string()), ("server", "false".to_owned())];
            let answered = uplink.heard().map_or("never".to_owned(), |heard| span(heard.elapsed()));
            let entries = entries.into_iter().chain([("last_answer", answered)]);
            let entries = entries.map(|(key, value)| (key.to_owned(), value)).collect();
            stats.insert("consul".to_owned(), entries);
        }
    }
    stats
}

fn pool_section(name: &str, pool: &Pool) -> (String, Section) {
    let members = pool.members();
    let count = |status| members.iter().filter(|member| member.status == status).count().to_string();
    let entries = [
        ("encrypted", pool.is_encrypted().to_string()),
        ("failed", count(Status::Failed)),
        ("left", count(Status::Left)),
        ("members", members.len().to_string()),
    ];
    section(name, entries)
}

/// How the ways to each other datacenter are, by its nearest gateway that answers.
fn link_sections(federation: &Federation) -> Vec<(String, Section)> {
    let others = federation.links();
    let sections = others.iter().map(|link| {
        let last = link.last_answer.map_or("never".to_owned(), |last| span(last.elapsed()));
        let entries = [
            ("gateways", link.gateways.to_string()),
            ("gateways_up", link.gateways_up.to_string()),
            ("last_answer", last),
            ("round_trip", link.round_trip.map_or_else(String::new, span)),
        ];
        section(&format!("wan_link_{}", link.datacenter), entries)
    });
    sections.collect()
}

/// When the certificate that is shown to other nodes ends.
fn certificate_section(ends: SystemTime) -> (String, Section) {
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    let ends = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let entries =
        [("expires_in_seconds", left.as_secs().to_string()), ("expires_unix", ends.as_secs().to_string())];
    section("tls", entries)
}

fn agent_section(node: &Node) -> (String, Section) {
    let local = node.local.stats();
    let entries = [
        ("check_monitors", local.check_monitors.to_string()),
        ("check_ttls", local.check_ttls.to_string()),
        ("checks", local.checks.to_string()),
        ("services", local.services.to_string()),
    ];
    section("agent", entries)
}

fn server_section(settings: &Settings, cluster: &ClusterView, datacenters: usize) -> (String, Section) {
    let leader = cluster.leader.as_ref().map(|leader| leader.address.to_string());
    let entries = [
        ("acl", "disabled".to_owned()),
        ("bootstrap", settings.cluster.founds_alone().to_string()),
        ("known_datacenters", datacenters.to_string()),
        ("leader", cluster.is_leader.to_string()),
        ("leader_addr", leader.unwrap_or_default()),
        ("server", "true".to_owned()),
    ];
    section("consul", entries)
}

fn raft_section(cluster: &ClusterView) -> (String, Section) {
    let state = if cluster.is_leader { "Leader" } else { "Follower" };
    let diverged: Vec<&str> = cluster.diverged.iter().map(|server| server.name.as_str()).collect();
    let entries = [
        ("applied_index", cluster.applied.to_string()),
        ("commit_index", cluster.commit.to_string()),
        ("diverged_servers", diverged.join(" ")),
        ("last_contact", cluster.last_contact.map_or("never".to_owned(), span)),
        ("last_log_index", cluster.last_log.to_string()),
        ("last_snapshot_index", cluster.snapshot.to_string()),
        ("num_peers", cluster.servers.len().saturating_sub(1).to_string()),
        ("state", state.to_owned()),
        ("term", cluster.term.to_string()),
    ];
    section("raft", entries)
}

fn runtime_section() -> (String, Section) {
    let usage = Usage::now();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let entries = [
        ("arch", std::env::consts::ARCH.to_owned()),
        ("cpu_count", processors.to_string()),
        ("open_files", usage.open_files.to_string()),
        ("os", std::env::consts::OS.to_owned()),
        ("resident_bytes", usage.resident_bytes.to_string()),
        ("threads", usage.threads.to_string()),
    ];
    section("runtime", entries)
}

fn section<const N: usize>(name: &str, entries: [(&str, String); N]) -> (String, Section) {
    (name.to_owned(), entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
