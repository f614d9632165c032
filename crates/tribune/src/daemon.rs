//! A running node: everything assembled, and the order in which it comes up and goes down.
//!
//! ```text
//!   data directory ─▶ sockets ─▶ replica ─▶ leader duties ─▶ local agent ─▶ DNS ─▶ HTTP      (start)
//!   HTTP and DNS stop taking ─▶ local agent ─▶ leader duties ─▶ replica ─▶ data directory    (stop)
//! ```

mod bridge;
mod door;
mod sockets;
mod translate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tribune_dns::{LiveConfig, NoOtherDatacenters};
use tribune_local::LocalAgent;
use tribune_net::{Acceptor, Limits};
use tribune_raft::Replica;

use crate::config::Sources;
use crate::datadir::{self, DataDir};
use crate::host::{Controls, Node};
use crate::leader::Leader;
use crate::logging::Log;
use crate::membership;
use crate::settings::Settings;
use crate::telemetry;

pub(crate) use door::{Door, Rules};
pub use sockets::BindError;
pub(crate) use translate::dns as dns_config;

use bridge::{OwnCatalog, OwnState};

/// Why a node did not start. What was opened is closed again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] datadir::Error),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log or its snapshots cannot be used.
    #[error(transparent)]
    Replica(#[from] tribune_raft::StartError),
    /// The agent's own list cannot be used.
    #[error(transparent)]
    Local(#[from] tribune_local::Error),
    /// A domain cannot be served.
    #[error("{key} {text:?} is too long for a DNS domain; choose a shorter one")]
    Domain {
        /// The key that holds it.
        key: &'static str,
        /// The domain.
        text: String,
    },
}

/// Why a node ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked for it through the API.
    Leave,
    /// A part of it broke.
    Failure(String),
}

/// A running node. Dropping it ends everything at once; [`Daemon::stop`] ends it in order.
pub struct Daemon {
    node: Arc<Node>,
    replica: Replica,
    agent: tribune_local::Running,
    tasks: JoinSet<&'static str>,
    serving: CancellationToken,
    leading: CancellationToken,
    http: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
    data_dir: Option<DataDir>,
}

impl Daemon {
    /// Brings a node up; it serves when this returns. With `sources` the configuration can be read again later.
    pub async fn start(settings: Settings, log: Log, sources: Option<Sources>) -> Result<Self, StartError> {
        let drawn_id = uuid::Uuid::new_v4().to_string();
        let data_dir = open_data_dir(&settings, &drawn_id)?;
        let node_id = match &data_dir {
            Some(data_dir) => data_dir.node_id().to_owned(),
            None => settings.identity.id.clone().unwrap_or(drawn_id),
        };
        let bound = sockets::bind(&settings.network)?;
        let dns = LiveConfig::new(translate::dns(&settings)?);
        let record = membership::node(&settings, &node_id);
        let raft = translate::raft(&settings, &node_id, data_dir.as_ref())?;
        let replica = Replica::start(raft).await?;
        let catalog = Arc::new(OwnCatalog::new(replica.clone()));
        let local = translate::local(&settings, record.clone(), data_dir.as_ref())?;
        let started = LocalAgent::start(local, catalog, settings.definitions.clone()).await;
        let (local, agent) = match started {
            Ok(started) => started,
            Err(error) => {
                replica.shutdown().await;
                return Err(error.into());
            }
        };
        let duties = Leader::new(replica.clone(), vec![membership::member(&settings, record.clone())]);
        let controls = Controls { log, dns, door: Door::new(), sources };
        let node = Node::new(settings, record, (replica.clone(), local), controls);
        node.open_door();
        let mut daemon = Self {
            node,
            replica,
            agent,
            tasks: JoinSet::new(),
            serving: CancellationToken::new(),
            leading: CancellationToken::new(),
            http: bound.http.iter().filter_map(|it| it.local_addr().ok()).collect(),
            dns: bound.dns.iter().filter_map(|it| it.local_addr().ok()).collect(),
            data_dir,
        };
        daemon.lead(duties);
        daemon.serve(bound);
        daemon.measure();
        Ok(daemon)
    }

    /// Where HTTP is served.
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Where DNS is served.
    pub fn dns(&self) -> &[SocketAddr] {
        &self.dns
    }

    /// The node's UUID.
    pub fn node_id(&self) -> &str {
        self.node.id()
    }

    /// Reads the configuration again and applies what can change while the node runs.
    pub async fn reload(&self) -> Result<(), crate::reload::Error> {
        self.node.reload().await
    }

    /// Waits until the node wants to end by itself.
    pub async fn ending(&mut self) -> Ending {
        tokio::select! {
            () = self.node.leave_wanted() => Ending::Leave,
            Some(ended) = self.tasks.join_next() => Ending::Failure(match ended {
                Ok(part) => self.replica.cluster().stopped.unwrap_or_else(|| format!("{part} ended by itself")),
                Err(error) => format!("a part of the program broke: {error}"),
            }),
            Some(why) = self.agent.broken() => Ending::Failure(why),
        }
    }

    /// Takes the node down in order. Requests that are being answered get their answer, parked ones their end.
    pub async fn stop(mut self) {
        self.serving.cancel();
        let tasks = async { while self.tasks.join_next().await.is_some() {} };
        // The duties end with the replica; all other tasks end now.
        self.leading.cancel();
        tasks.await;
        self.agent.stop().await;
        self.replica.shutdown().await;
        drop(self.data_dir);
        info!("all parts of the agent have stopped");
    }

    fn lead(&mut self, duties: Leader) {
        let stop = self.leading.clone();
        self.tasks.spawn(async move {
            duties.run(stop).await;
            "the consensus"
        });
    }

    fn serve(&mut self, bound: sockets::Bound) {
        let limits = http_limits(&self.node.settings.load());
        for listener in bound.http {
            let acceptor = Acceptor::new(listener, limits.clone());
            let (door, stop) = (self.node.controls.door.clone(), self.serving.clone());
            self.tasks.spawn(async move {
                acceptor.serve(door, stop.cancelled_owned()).await;
                "the HTTP server"
            });
        }
        let sources = tribune_dns::Sources {
            own: Arc::new(OwnState::new(self.replica.clone())),
            remote: Arc::new(NoOtherDatacenters),
        };
        if bound.dns.is_empty() {
            return;
        }
        let (config, stop) = (self.node.controls.dns.clone(), self.serving.clone());
        self.tasks.spawn(async move {
            if let Err(error) = tribune_dns::serve(bound.dns, sources, config, stop).await {
                warn!(%error, "the dns server cannot go on");
            }
            "the DNS server"
        });
    }

    /// Ends an interval of the metrics every ten seconds.
    fn measure(&mut self) {
        let (node, stop) = (self.node.clone(), self.serving.clone());
        self.tasks.spawn(async move {
            let first = Instant::now() + telemetry::INTERVAL;
            let mut ticks = tokio::time::interval_at(first, telemetry::INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return "the telemetry",
                    _ = ticks.tick() => {
                        node.record_figures();
                        telemetry::metrics().close_interval(SystemTime::now());
                    }
                }
            }
        });
    }
}

fn open_data_dir(settings: &Settings, drawn_id: &str) -> Result<Option<DataDir>, datadir::Error> {
    let wanted = settings.identity.id.as_deref();
    let open = |path| DataDir::open(path, &settings.datacenter, wanted, drawn_id);
    settings.data_dir.as_deref().map(open).transpose()
}

/// What a client beyond its share of connections is told.
const TOO_MANY_CONNECTIONS: &str = "Your IP is issuing too many concurrent connections, please rate limit your calls: close \
                                    some, use one for several requests, or raise limits.http_max_conns_per_client";

fn http_limits(settings: &Settings) -> Limits {
    let per_client_max = settings.http.connections_per_client_max;
    let loopback_limited = settings.http.loopback_limited;
    Limits { per_client_max, loopback_limited, ..Limits::new(TOO_MANY_CONNECTIONS) }
}
