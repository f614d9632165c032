//! A running node: everything assembled, and the order in which it comes up and goes down.
//!
//! ```text
//!   data directory ─▶ sockets ─▶ LAN pool ─▶ replica, WAN pool │ uplink ─▶ local agent ─▶ ports, DNS, HTTP   (start)
//!   HTTP and DNS stop taking ─▶ local agent ─▶ WAN pool ─▶ duties, replica ─▶ LAN pool ─▶ data directory     (stop)
//! ```
//!
//! A server holds the catalog (a replica) and may be a gateway to other datacenters; a client agent has an uplink to
//! its servers instead. Everything else is alike.

mod bridge;
mod caller;
mod client;
mod door;
mod federation;
mod gate;
mod gossip;
mod outbound;
mod rpc;
mod security;
mod server;
mod sockets;
mod translate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tribune_dns::{LiveConfig, NoOtherDatacenters, Own, Sources};
use tribune_gossip::Pool;
use tribune_local::{Catalog, LocalAgent};
use tribune_net::{Acceptor, Limits, TlsError};
use tribune_wan::{RpcService, SlicesConfig, Uplink};

use crate::config;
use crate::datadir::{self, DataDir};
use crate::host::{Controls, LAN_PORT, Node, WAN_PORT};
use crate::joining::Joiner;
use crate::logging::Log;
use crate::membership;
use crate::settings::Settings;
use crate::surveyor::{Map, Surveyor};
use crate::telemetry;

pub(crate) use caller::Caller;
pub(crate) use door::{Door, Rules, Within};
pub(crate) use federation::Federation;
pub(crate) use rpc::FOUND_PATH;
pub(crate) use security::Security;
pub(crate) use server::Server;
pub use sockets::BindError;
pub(crate) use sockets::Reach;
pub(crate) use translate::dns as dns_config;

use bridge::{FarCatalog, FarStates, OwnCatalog, OwnState};

/// Rest between two attempts to reach servers that do not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a node did not start. What was opened is closed again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] datadir::Error),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pool of members cannot be started.
    #[error(transparent)]
    Gossip(#[from] tribune_gossip::Error),
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

/// What a node is besides: a server of its datacenter, or an agent of its host that asks the servers.
#[derive(Clone)]
pub(crate) enum Part {
    /// Holds the catalog; with a federation it is a gateway to other datacenters.
    Server(Server, Option<Federation>),
    /// Asks the servers.
    Client(Uplink),
}

/// A running node. Dropping it ends everything at once; [`Daemon::stop`] ends it in order.
pub struct Daemon {
    node: Arc<Node>,
    agent: tribune_local::Running,
    pools: Vec<(Pool, tribune_gossip::Running)>,
    tasks: JoinSet<&'static str>,
    serving: CancellationToken,
    leading: CancellationToken,
    gave_up: JoinSet<Result<(), String>>,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
    data_dir: Option<DataDir>,
}

impl Daemon {
    /// Brings a node up; it serves when this returns. With `sources` the configuration can be read again later.
    pub async fn start(
        settings: Settings,
        log: Log,
        sources: Option<config::Sources>,
    ) -> Result<Self, StartError> {
        let drawn_id = uuid::Uuid::new_v4().to_string();
        let data_dir = open_data_dir(&settings, &drawn_id)?;
        let node_id = match &data_dir {
            Some(data_dir) => data_dir.node_id().to_owned(),
            None => settings.identity.id.clone().unwrap_or(drawn_id),
        };
        let security = Security::load(&settings)?;
        security.warn(settings.is_dev);
        let (bound, gossip) = sockets::bind(&settings, security.federates())?;
        let dns = LiveConfig::new(translate::dns(&settings)?);
        let record = membership::node(&settings, &node_id);
        let sight =
            Sight { settings: &settings, id: &node_id, reach: &bound.reach, data_dir: data_dir.as_ref() };
        let lan = gossip::lan(&sight, security.uses_tls(), gossip).await?;
        let (part, wan) = sight.part(&lan.0, &security).await?;
        let (local, agent) = match sight.local_agent(&part, record.clone()).await {
            Ok(started) => started,
            Err(error) => {
                part.shutdown().await;
                return Err(error);
            }
        };
        let controls = Controls { log, dns, door: Door::new(), sources, security };
        let standing = Standing { part, lan: lan.0.clone(), reach: bound.reach };
        let node = Node::new(settings, record, (standing, local), controls);
        node.open_door();
        let mut daemon = Self {
            node,
            agent,
            pools: wan.into_iter().chain([lan]).collect(),
            tasks: JoinSet::new(),
            serving: CancellationToken::new(),
            leading: CancellationToken::new(),
            gave_up: JoinSet::new(),
            http: bound.http.iter().filter_map(|it| it.local_addr().ok()).collect(),
            https: bound.https.iter().filter_map(|it| it.local_addr().ok()).collect(),
            dns: bound.dns.iter().filter_map(|it| it.local_addr().ok()).collect(),
            data_dir,
        };
        daemon.serve(bound)?;
        daemon.join();
        daemon.measure();
        daemon.follow_events();
        daemon.survey();
        Ok(daemon)
    }

    /// Where HTTP is served.
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> &[SocketAddr] {
        &self.https
    }

    /// Where DNS is served.
    pub fn dns(&self) -> &[SocketAddr] {
        &self.dns
    }

    /// Where other nodes reach this one.
    pub(crate) fn reach(&self) -> &Reach {
        &self.node.standing.reach
    }

    /// Whether traffic between nodes is encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        self.node.controls.security.uses_tls()
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
        loop {
            tokio::select! {
                () = self.node.leave_wanted() => return Ending::Leave,
                Some(ended) = self.tasks.join_next() => return Ending::Failure(match ended {
                    Ok(part) => self.node.stopped().unwrap_or_else(|| format!("{part} ended by itself")),
                    Err(error) => format!("a part of the program broke: {error}"),
                }),
                Some(joined) = self.gave_up.join_next() => if let Ok(Err(why)) = joined {
                    return Ending::Failure(why);
                },
                Some(why) = self.agent.broken() => return Ending::Failure(why),
            }
        }
    }

    /// Takes the node down in order, having left its datacenter first if it `leaves`. Requests that are being
    /// answered get their answer, parked ones their end.
    pub async fn stop(mut self, leaves: bool) {
        self.gave_up.shutdown().await;
        if leaves {
            self.leave().await;
        }
        self.serving.cancel();
        self.agent.stop().await;
        // The duties end with the replica; all other tasks end now.
        self.leading.cancel();
        self.node.standing.part.shutdown().await;
        self.node.ended(leaves);
        while self.tasks.join_next().await.is_some() {}
        for (_, running) in self.pools {
            running.stop().await;
        }
        drop(self.data_dir);
        info!("all parts of the agent have stopped");
    }

    /// Tells everybody that this node goes: other datacenters first, while it can still answer them. A server that is
    /// out of the agreement serves no more, for most of what it is asked would only wait.
    async fn leave(&self) {
        let lan = &self.node.standing.lan;
        match &self.node.standing.part {
            Part::Server(server, federation) => {
                if let Some(federation) = federation {
                    federation.pool.leave().await;
                }
                let retire = async {
                    server.leave().await;
                    self.serving.cancel();
                };
                // Said to the members at the same time: a leader takes in servers that are members and do not leave.
                tokio::join!(retire, lan.leave());
            }
            Part::Client(_) => lan.leave().await,
        }
    }

    fn serve(&mut self, bound: sockets::Bound) -> Result<(), StartError> {
        let settings = self.node.settings.load_full();
        let security = self.node.controls.security.clone();
        let limits = http_limits(&settings);
        let plain = bound.http.into_iter().map(|listener| Acceptor::new(listener, limits.clone()));
        let secured = bound.https.into_iter().map(|listener| Acceptor::new(listener, limits.clone()));
        let secured =
            secured.map(|acceptor| security.https_acceptor(acceptor)).collect::<Result<Vec<_>, _>>()?;
        for acceptor in plain.chain(secured) {
            let (door, stop) = (self.node.controls.door.clone(), self.serving.clone());
            self.tasks.spawn(async move {
                acceptor.serve(door, stop.cancelled_owned()).await;
                "the HTTP server"
            });
        }
        self.serve_nodes(&settings, &security, bound.rpc, bound.wan)?;
        self.serve_dns(bound.dns);
        Ok(())
    }

    /// Takes calls of other nodes, if this is a server.
    fn serve_nodes(
        &mut self,
        settings: &Settings,
        security: &Security,
        rpc: Option<tokio::net::TcpListener>,
        wan: Option<tokio::net::TcpListener>,
    ) -> Result<(), StartError> {
        let Part::Server(server, federation) = self.node.standing.part.clone() else { return Ok(()) };
        let desk = Arc::new(OwnCatalog::new(server.replica.clone()));
        let forwarder = federation.as_ref().map(|federation| federation.forwarder.clone());
        let mut asked = RpcService::new(settings.datacenter.clone(), desk.clone(), forwarder);
        if let Some(federation) = &federation {
            asked = asked.with_seeker(federation.seeker.clone());
        }
        let door = || self.node.controls.door.clone();
        if let Some(listener) = rpc {
            let place = (settings, door());
            server.serve((listener, security), place, asked, &mut self.tasks, self.serving.clone())?;
        }
        if let (Some(listener), Some(federation), Some(tls)) = (wan, federation, security.wan()) {
            let place = (settings, door());
            federation.serve((listener, tls), place, desk, &mut self.tasks, self.serving.clone())?;
        }
        let record = self.node.record().clone();
        server.take_part(settings, record, &mut self.tasks, self.leading.clone());
        Ok(())
    }

    fn serve_dns(&mut self, sockets: Vec<tribune_dns::Sockets>) {
        if sockets.is_empty() {
            return;
        }
        let datacenter = self.node.settings.load().datacenter.clone();
        let sources = match &self.node.standing.part {
            Part::Server(server, federation) => {
                let own = Own::Held(Arc::new(OwnState::new(server.replica.clone())));
                match federation {
                    Some(federation) => Sources { own, remote: Arc::new(FarStates::of_server(federation)) },
                    None => Sources { own, remote: Arc::new(NoOtherDatacenters) },
                }
            }
            Part::Client(uplink) => {
                let slices = uplink.slices(SlicesConfig::default());
                let states = Arc::new(FarStates::of_agent(slices, datacenter));
                Sources { own: Own::Asked(states.clone()), remote: states }
            }
        };
        let (config, stop) = (self.node.controls.dns.clone(), self.serving.clone());
        self.tasks.spawn(async move {
            if let Err(error) = tribune_dns::serve(sockets, sources, config, stop).await {
                warn!(%error, "the dns server cannot go on");
            }
            "the DNS server"
        });
    }

    /// Joins those that the configuration names.
    fn join(&mut self) {
        let cluster = &self.node.settings.load().cluster;
        let lan = Joiner {
            pool: self.node.standing.lan.clone(),
            joining: cluster.lan.clone(),
            port: LAN_PORT,
            kind: "LAN",
            siblings: None,
        };
        self.gave_up.spawn(lan.run(self.serving.clone()));
        if let Part::Server(_, Some(federation)) = &self.node.standing.part {
            let (pool, joining) = (federation.pool.clone(), cluster.wan.clone());
            let siblings = Some(self.node.standing.lan.clone());
            let wan = Joiner { pool, joining, port: WAN_PORT, kind: "WAN", siblings };
            self.gave_up.spawn(wan.run(self.serving.clone()));
        }
    }

    fn follow_events(&mut self) {
        let (node, stop) = (self.node.clone(), self.serving.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = node.follow_events() => stop.cancelled().await,
            }
            "the user events"
        });
    }

    /// Tells the catalog where this node lies, from the round trips to the other members.
    fn survey(&mut self) {
        if !self.node.settings.load().cluster.measures_distances {
            return;
        }
        let map = match &self.node.standing.part {
            Part::Server(server, _) => Map::Held(server.replica.clone()),
            Part::Client(uplink) => Map::Asked(uplink.clone()),
        };
        let name = self.node.settings.load().identity.name.clone();
        let surveyor = Surveyor::new(map, name);
        let (lan, stop) = (self.node.standing.lan.clone(), self.serving.clone());
        self.tasks.spawn(async move {
            surveyor.run(move || membership::round_trips(&lan), stop).await;
            "the surveyor"
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

/// What a running node stands on.
pub(crate) struct Standing {
    pub(crate) part: Part,
    /// The members of its datacenter.
    pub(crate) lan: Pool,
    pub(crate) reach: Reach,
}

/// What a node is started from.
struct Sight<'a> {
    settings: &'a Settings,
    id: &'a str,
    reach: &'a Reach,
    data_dir: Option<&'a DataDir>,
}

impl Sight<'_> {
    /// Starts what the node is besides, and the pool of all servers if it takes part in that.
    async fn part(
        &self,
        lan: &Pool,
        security: &Security,
    ) -> Result<(Part, Option<(Pool, tribune_gossip::Running)>), StartError> {
        if !self.settings.cluster.is_server() {
            return Ok((Part::Client(client::uplink(self.settings, lan, security)), None));
        }
        let server = Server::start(self, lan, security).await?;
        let Some(tls) = security.wan().filter(|_| self.reach.wan.is_some()) else {
            return Ok((Part::Server(server, None), None));
        };
        let desk = Arc::new(OwnCatalog::new(server.replica.clone()));
        match Federation::start(self, lan, desk, (security, tls)).await {
            Ok((federation, running)) => {
                let pool = (federation.pool.clone(), running);
                Ok((Part::Server(server, Some(federation)), Some(pool)))
            }
            Err(error) => {
                server.replica.shutdown().await;
                Err(error)
            }
        }
    }

    async fn local_agent(
        &self,
        part: &Part,
        record: tribune_core::Node,
    ) -> Result<(LocalAgent, tribune_local::Running), StartError> {
        let catalog: Arc<dyn Catalog> = match part {
            Part::Server(server, _) => Arc::new(OwnCatalog::new(server.replica.clone())),
            Part::Client(uplink) => Arc::new(FarCatalog::new(uplink.clone(), &record.name)),
        };
        let config = translate::local(self.settings, record, self.data_dir)?;
        Ok(LocalAgent::start(config, catalog, self.settings.definitions.clone()).await?)
    }
}

impl Part {
    /// Ends what must be ended in order.
    async fn shutdown(&self) {
        if let Self::Server(server, _) = self {
            server.replica.shutdown().await;
        }
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
