//! The node as its HTTP API sees it: what only the process can say of itself or do to itself.

mod about;
mod events;
mod machine;
mod operator;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::Layer as _;
use tracing::Level;
use tribune_api::agent::{AgentSelf, Member, Metrics, Version};
use tribune_dns::LiveConfig;
use tribune_gossip::{Pool, Status};
use tribune_http::{DatacenterConfig, Host, HostError, Inbox, NodeConfig, Presentation};
use tribune_local::LocalAgent;
use tribune_wan::{DcLayer, TRANSLATES};

use crate::config::Sources;
use crate::daemon::{Door, Federation, Part, Rules, Security, Standing, Within};
use crate::joining;
use crate::logging::{Form, Log, LogLevel};
use crate::settings::Settings;
use crate::{membership, telemetry, version};

/// Ports of gossip for addresses that name none.
pub(crate) const LAN_PORT: u16 = 8301;
pub(crate) const WAN_PORT: u16 = 8302;

/// What a server says that cannot join others.
const NO_WAN: &str = "this server takes no part in a federation: it needs a certificate. Make a CA once (`tribune tls ca \
                      create`), a certificate per server (`tribune tls cert create -server -dc=<datacenter>`), set \
                      ca_file, cert_file and key_file, and start it again";

/// What of a running node can be changed from outside.
pub(crate) struct Controls {
    /// The log.
    pub(crate) log: Log,
    /// How DNS answers.
    pub(crate) dns: LiveConfig,
    /// What HTTP requests meet.
    pub(crate) door: Door,
    /// Certificates.
    pub(crate) security: Security,
    /// Where the configuration is read from; `None` when there is nothing to read again.
    pub(crate) sources: Option<Sources>,
}

/// A node.
pub(crate) struct Node {
    me: Weak<Node>,
    pub(crate) settings: ArcSwap<Settings>,
    record: tribune_core::Node,
    pub(crate) standing: Standing,
    pub(crate) local: LocalAgent,
    pub(crate) controls: Controls,
    /// One reading of the configuration at a time.
    pub(crate) reloading: Semaphore,
    leaving: CancellationToken,
    /// Told at the end whether this node has left its datacenter.
    left: watch::Sender<Option<bool>>,
    /// User events that have arrived.
    inbox: Inbox,
}

impl Node {
    pub(crate) fn new(
        settings: Settings,
        record: tribune_core::Node,
        (standing, local): (Standing, LocalAgent),
        controls: Controls,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            settings: ArcSwap::from_pointee(settings),
            record,
            standing,
            local,
            controls,
            reloading: Semaphore::new(1),
            leaving: CancellationToken::new(),
            left: watch::Sender::new(None),
            inbox: Inbox::default(),
        })
    }

    /// The node's UUID.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// The node's record.
    pub(crate) fn record(&self) -> &tribune_core::Node {
        &self.record
    }

    /// This node as the API lists it.
    fn listed(&self) -> Member {
        let members = self.standing.lan.members();
        let own = members.iter().find(|member| member.id == self.id());
        own.map(membership::listed).unwrap_or_default()
    }

    /// Why the agreement has stopped here, if it has.
    pub(crate) fn stopped(&self) -> Option<String> {
        match &self.standing.part {
            Part::Server(server, _) => server.replica.cluster().stopped,
            Part::Client(_) => None,
        }
    }

    /// The pool of this datacenter, or that of all servers.
    fn pool(&self, wan: bool) -> Result<&Pool, HostError> {
        match &self.standing.part {
            _ if !wan => Ok(&self.standing.lan),
            Part::Server(_, Some(federation)) => Ok(&federation.pool),
            Part::Server(_, None) => Err(HostError::Failed(NO_WAN.to_owned())),
            Part::Client(_) => {
                Err(HostError::Failed("agent: Must be a server to join WAN cluster".to_owned()))
            }
        }
    }

    /// Resolves when somebody asked the node to leave.
    pub(crate) async fn leave_wanted(&self) {
        self.leaving.cancelled().await;
    }

    /// This node takes no part any more and has saved its data; `left` says whether it told the others first.
    pub(crate) fn ended(&self, left: bool) {
        self.left.send_replace(Some(left));
    }

    /// Puts the HTTP service into force that the settings ask for.
    pub(crate) fn open_door(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let settings = self.settings.load();
        let seed = rand::random();
        let mut config = DatacenterConfig::new(settings.datacenter.clone(), seed);
        config.discovery_max_stale = settings.http.discovery_max_stale;
        config.use_cache = settings.http.use_cache;
        config.waits = settings.http.waits;
        config.session_ttl_min = settings.leasing.session_ttl_min;
        config.value_bytes_max = settings.leasing.value_bytes_max;
        config.txn_bytes_max = settings.leasing.txn_bytes_max;
        config.node = Some(settings.identity.name.clone());
        let node = NodeConfig { name: settings.identity.name.clone(), waits: settings.http.waits, seed };
        let presentation =
            Presentation { pretty: settings.is_dev, response_headers: response_headers(&settings) };
        let router = tribune_http::node_router(self.local.clone(), me.clone(), node)
            .merge(tribune_http::event_router(me.clone()));
        let within = match &self.standing.part {
            Part::Server(server, federation) => {
                let of_datacenter = tribune_http::datacenter_router(server.replica.clone(), me, config);
                let layer = DcLayer::new(settings.datacenter.clone());
                let layer = match federation {
                    Some(it) => {
                        layer.with_forwarder(it.forwarder.clone()).with_summaries(it.summaries.clone())
                    }
                    None => layer,
                };
                Within::Server(layer.layer(router.merge(of_datacenter).into_service(presentation)))
            }
            Part::Client(uplink) => Within::Client(router.into_service(presentation), uplink.clone()),
        };
        let rules = Rules {
            blocked: settings.http.block_endpoints.clone(),
            write_from: settings.http.allow_write_from.clone(),
        };
        self.controls.door.open(rules, within);
    }

    /// Writes the gauges that are read off the state rather than counted.
    pub(crate) fn record_figures(&self) {
        let members = self.standing.lan.members();
        let alive = members.iter().filter(|member| member.status == Status::Alive);
        let (servers, clients): (Vec<_>, Vec<_>) = alive.partition(|member| membership::is_server(member));
        metrics::gauge!("members.servers").set(servers.len() as f64);
        metrics::gauge!("members.clients").set(clients.len() as f64);
        if let Some(ends) = self.controls.security.expiry() {
            let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
            metrics::gauge!("agent.tls.cert.expiry").set(left.as_secs_f64());
        }
        let Part::Server(server, federation) = &self.standing.part else { return };
        for link in federation.iter().flat_map(Federation::links) {
            let labels = [("datacenter", link.datacenter.to_string())];
            metrics::gauge!("tribune.wan.gateways", &labels).set(link.gateways as f64);
            metrics::gauge!("tribune.wan.gateways_up", &labels).set(link.gateways_up as f64);
            let seconds =
                |time: Option<std::time::Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
            metrics::gauge!("tribune.wan.round_trip_seconds", &labels).set(seconds(link.round_trip));
            let silent = link.last_answer.map(|last| last.elapsed());
            metrics::gauge!("tribune.wan.silent_seconds", &labels).set(seconds(silent));
        }
        let state = server.replica.state();
        let everything = tribune_core::Authority::unrestricted();
        let view = state.view(&everything);
        metrics::gauge!("state.nodes").set(view.nodes().count() as f64);
        metrics::gauge!("state.services").set(view.services().count() as f64);
        metrics::gauge!("state.service_instances").set(view.instance_count() as f64);
        let cluster = server.replica.cluster();
        metrics::gauge!("raft.last_index").set(cluster.last_log.0 as f64);
        // Only the leader knows how the servers are.
        let (healthy, tolerance) = match server.health.load_full() {
            Some(report) => (f64::from(u8::from(report.healthy)), report.failure_tolerance as f64),
            None => (f64::NAN, f64::NAN),
        };
        metrics::gauge!("autopilot.healthy").set(healthy);
        metrics::gauge!("autopilot.failure_tolerance").set(tolerance);
    }
}

#[async_trait]
impl Host for Node {
    fn about(&self) -> AgentSelf {
        about::about(self, &self.record)
    }

    fn members(&self, wan: bool) -> Vec<Member> {
        let Ok(pool) = self.pool(wan) else { return Vec::new() };
        pool.members().iter().map(membership::listed).collect()
    }

    fn version(&self) -> Version {
        Version {
            sha: version::REVISION.to_owned(),
            human_version: version::TRIBUNE.to_owned(),
            ..Version::default()
        }
    }

    fn machine(&self) -> BTreeMap<String, Value> {
        machine::describe(&self.settings.load())
    }

    fn metrics(&self) -> Metrics {
        telemetry::json(telemetry::metrics(), &self.settings.load().telemetry)
    }

    fn prometheus(&self) -> Option<String> {
        telemetry::prometheus(telemetry::metrics(), &self.settings.load().telemetry)
    }

    fn monitor(&self, level: tribune_http::LogLevel, json: bool) -> mpsc::Receiver<Bytes> {
        let form = if json { Form::Json } else { Form::Text };
        self.controls.log.monitor(translated(level), form).unwrap_or_else(|error| {
            let (only, receiver) = mpsc::channel(1);
            // The channel is new and has room for this one line.
            let _ = only.try_send(format!("{error}\n").into());
            receiver
        })
    }

    async fn reload(&self) -> Result<(), HostError> {
        Node::reload(self).await.map_err(|error| HostError::Failed(error.to_string()))
    }

    async fn join(&self, address: &str, wan: bool) -> Result<(), HostError> {
        let pool = self.pool(wan)?;
        let port = if wan { WAN_PORT } else { LAN_PORT };
        let failed = |why: String| HostError::Failed(why);
        let addresses = joining::resolve(address, port).await.map_err(|error| failed(error.to_string()))?;
        let outcome = pool.join(&addresses).await;
        if outcome.joined + outcome.own > 0 {
            return Ok(());
        }
        let reasons =
            outcome.failures.iter().map(|(address, why)| format!("Failed to join {address}: {why}"));
        Err(failed(reasons.collect::<Vec<_>>().join("; ")))
    }

    async fn leave(&self) -> Result<(), HostError> {
        let mut left = self.left.subscribe();
        self.leaving.cancel();
        // Whoever asked may take the machine away as soon as this is answered. The node's end has a limit.
        match left.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(true)) => Ok(()),
            _ => Err(HostError::Failed("the agent ended before it had left its datacenter".to_owned())),
        }
    }

    async fn force_leave(&self, node: &str, prune: bool, wan: bool) -> Result<(), HostError> {
        if node.eq_ignore_ascii_case(self.record.name.as_str()) {
            return Err(HostError::Failed(
                "this node is alive and cannot be forced to leave: stop it".to_owned(),
            ));
        }
        let forced = self.pool(wan)?.force_leave(node, prune).await;
        match forced {
            true => Ok(()),
            false => Err(HostError::Failed(format!("agent: No node found with name '{node}'"))),
        }
    }
}

/// What every response of this node carries.
fn response_headers(settings: &Settings) -> Vec<(HeaderName, HeaderValue)> {
    let translates = settings.cluster.translate_wan_addrs;
    let told = translates.then(|| (TRANSLATES, HeaderValue::from_static("true")));
    told.into_iter().chain(settings.http.response_headers.iter().cloned()).collect()
}

fn translated(level: tribune_http::LogLevel) -> LogLevel {
    LogLevel(match level {
        tribune_http::LogLevel::Trace => Level::TRACE,
        tribune_http::LogLevel::Debug => Level::DEBUG,
        tribune_http::LogLevel::Info => Level::INFO,
        tribune_http::LogLevel::Warn => Level::WARN,
        tribune_http::LogLevel::Error => Level::ERROR,
    })
}
