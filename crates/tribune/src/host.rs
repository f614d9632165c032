//! The node as its HTTP API sees it: what only the process can say of itself or do to itself.

mod about;
mod machine;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tower::Layer as _;
use tracing::Level;
use tribune_api::agent::{AgentSelf, Member, Metrics, Version};
use tribune_dns::LiveConfig;
use tribune_http::{DatacenterConfig, Host, HostError, NodeConfig, Presentation};
use tribune_local::LocalAgent;
use tribune_raft::Replica;
use tribune_wan::DcLayer;

use crate::config::Sources;
use crate::daemon::{Door, Rules};
use crate::logging::{Form, Log, LogLevel};
use crate::settings::Settings;
use crate::{membership, telemetry, version};

/// What of a running node can be changed from outside.
pub(crate) struct Controls {
    /// The log.
    pub(crate) log: Log,
    /// How DNS answers.
    pub(crate) dns: LiveConfig,
    /// What HTTP requests meet.
    pub(crate) door: Door,
    /// Where the configuration is read from; `None` when there is nothing to read again.
    pub(crate) sources: Option<Sources>,
}

/// A node.
pub(crate) struct Node {
    me: Weak<Node>,
    pub(crate) settings: ArcSwap<Settings>,
    record: tribune_core::Node,
    pub(crate) replica: Replica,
    pub(crate) local: LocalAgent,
    pub(crate) controls: Controls,
    /// One reading of the configuration at a time.
    pub(crate) reloading: Semaphore,
    leaving: CancellationToken,
}

impl Node {
    pub(crate) fn new(
        settings: Settings,
        record: tribune_core::Node,
        (replica, local): (Replica, LocalAgent),
        controls: Controls,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            settings: ArcSwap::from_pointee(settings),
            record,
            replica,
            local,
            controls,
            reloading: Semaphore::new(1),
            leaving: CancellationToken::new(),
        })
    }

    /// The node's UUID.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Resolves when somebody asked the node to leave.
    pub(crate) async fn leave_wanted(&self) {
        self.leaving.cancelled().await;
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
        let node = NodeConfig { name: settings.identity.name.clone(), waits: settings.http.waits, seed };
        let router = tribune_http::node_router(self.local.clone(), me, node)
            .merge(tribune_http::datacenter_router(self.replica.clone(), config));
        let presentation = Presentation {
            pretty: settings.is_dev,
            response_headers: settings.http.response_headers.clone(),
        };
        let service = DcLayer::new(settings.datacenter.clone()).layer(router.into_service(presentation));
        let rules = Rules {
            blocked: settings.http.block_endpoints.clone(),
            write_from: settings.http.allow_write_from.clone(),
        };
        self.controls.door.open(rules, service);
    }

    /// Writes the gauges that are read off the state rather than counted.
    pub(crate) fn record_figures(&self) {
        let state = self.replica.state();
        let everything = tribune_core::Authority::unrestricted();
        let view = state.view(&everything);
        metrics::gauge!("state.nodes").set(view.nodes().count() as f64);
        metrics::gauge!("state.services").set(view.services().count() as f64);
        metrics::gauge!("state.service_instances").set(view.instance_count() as f64);
        let cluster = self.replica.cluster();
        let is_healthy = cluster.leader.is_some() && cluster.stopped.is_none();
        metrics::gauge!("autopilot.healthy").set(f64::from(u8::from(is_healthy)));
        // One server alone cannot lose any.
        metrics::gauge!("autopilot.failure_tolerance").set(0.0);
        metrics::gauge!("raft.last_index").set(cluster.last_log.0 as f64);
        metrics::gauge!("members.servers").set(1.0);
    }
}

#[async_trait]
impl Host for Node {
    fn about(&self) -> AgentSelf {
        about::about(self, &self.record)
    }

    fn members(&self, wan: bool) -> Vec<Member> {
        vec![membership::listed(&self.settings.load(), &self.record, wan)]
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

    async fn join(&self, address: &str, _wan: bool) -> Result<(), HostError> {
        Err(HostError::Failed(format!(
            "cannot join {address}: this version runs one server per datacenter; register services with it by HTTP"
        )))
    }

    async fn leave(&self) -> Result<(), HostError> {
        self.leaving.cancel();
        Ok(())
    }

    async fn force_leave(&self, node: &str, _prune: bool, _wan: bool) -> Result<(), HostError> {
        if node == self.record.name.as_str() {
            return Err(HostError::Failed(
                "this server is alive and cannot be forced to leave: stop it".to_owned(),
            ));
        }
        Err(HostError::Failed(format!("agent: No node found with name '{node}'")))
    }
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
