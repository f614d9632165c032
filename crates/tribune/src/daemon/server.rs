//! What a server is besides a node: its part in the agreement, its duties while it leads, and the port on which the
//! datacenter's other nodes call it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tribune_gossip::Pool;
use tribune_net::{Acceptor, Limits};
use tribune_raft::{Replica, ServerInfo};
use tribune_wan::RpcService;

use super::caller::{Caller, Roads};
use super::door::Door;
use super::rpc::{self, Rpc};
use super::security::Security;
use super::{Sight, StartError, translate};
use crate::founding::{Founder, Promise};
use crate::leader::sessions::Sessions;
use crate::leader::{Health, Leader};
use crate::membership;
use crate::settings::{Founding, Role, Settings};

/// How long a server that leaves waits for the others to let it go.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server's part.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) replica: Replica,
    /// What the autopilot last found, while this server leads.
    pub(crate) health: Health,
    pub(crate) caller: Caller,
    own: ServerInfo,
    promise: Arc<Promise>,
    pool: Pool,
}

impl Server {
    /// Opens the log and takes part.
    pub(super) async fn start(
        sight: &Sight<'_>,
        pool: &Pool,
        security: &Security,
    ) -> Result<Self, StartError> {
        let Sight { settings, id, reach, data_dir } = *sight;
        let caller = || Caller::new(security.dialer(), settings.datacenter.clone());
        let roads =
            Roads { pool: pool.clone(), usual: caller(), signs_of_life: caller(), snapshots: caller() };
        let mut config = translate::raft(settings, id, reach, data_dir)?;
        config.transport = Arc::new(roads);
        let own = config.server.clone();
        let replica = Replica::start(config).await?;
        Ok(Self {
            replica,
            health: Health::default(),
            caller: caller(),
            own,
            promise: Arc::default(),
            pool: pool.clone(),
        })
    }

    /// Takes calls of other nodes until `stop`.
    pub(super) fn serve(
        &self,
        (listener, security): (TcpListener, &Security),
        (settings, door): (&Settings, Door),
        asked: RpcService,
        tasks: &mut JoinSet<&'static str>,
        stop: CancellationToken,
    ) -> Result<(), StartError> {
        let acceptor = security.rpc_acceptor(Acceptor::new(listener, Limits::nodes()))?;
        let desk = Rpc::new(rpc::Inner {
            datacenter: settings.datacenter.clone(),
            replica: self.replica.clone(),
            promise: self.promise.clone(),
            door: door.for_nodes(),
            asked,
            uses_tls: security.uses_tls(),
        });
        tasks.spawn(async move {
            acceptor.serve(desk, stop.cancelled_owned()).await;
            "the port between servers"
        });
        Ok(())
    }

    /// Comes to have a datacenter, if there is none yet, and does its duties whenever this server leads.
    pub(super) fn take_part(
        &self,
        settings: &Settings,
        record: tribune_core::Node,
        tasks: &mut JoinSet<&'static str>,
        stop: CancellationToken,
    ) {
        if let Role::Server { founding: Founding::Together(expected), .. } = settings.cluster.role {
            let (server, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = server.found(expected) => stop.cancelled().await,
                }
                "the founding of the datacenter"
            });
        }
        let (sessions, stopped) = (Sessions::new(self.replica.clone()), stop.clone());
        tasks.spawn(async move {
            sessions.run(stopped).await;
            "the sessions"
        });
        let duties = Leader::new(self.clone(), self.pool.clone(), record, settings);
        tasks.spawn(async move {
            duties.run(stop).await;
            "the consensus"
        });
    }

    async fn found(&self, expected: usize) {
        let founder = Founder {
            own: self.own.clone(),
            expected,
            replica: &self.replica,
            pool: &self.pool,
            promise: &self.promise,
            caller: &self.caller,
        };
        founder.wait().await;
    }

    /// Where another server is now.
    pub(crate) fn address(&self, server: &ServerInfo) -> SocketAddr {
        membership::current_address(&self.pool, server)
    }

    /// Has the others take this server out of the agreement, unless it is alone.
    pub(super) async fn leave(&self) {
        let others = self.replica.cluster().servers.iter().any(|it| it.server.id != self.own.id);
        if !others {
            return info!(
                "this server is the only one of its datacenter, so nothing is handed over and its data stays"
            );
        }
        match tokio::time::timeout(FAREWELL, self.replica.admin().remove(&self.own.id)).await {
            Ok(Ok(())) => info!("the other servers go on without this one"),
            Ok(Err(error)) => {
                warn!(%error, "this server could not be taken out of the agreement; it keeps its vote")
            }
            Err(_) => warn!("this server was not taken out of the agreement in time; it keeps its vote"),
        }
    }
}
