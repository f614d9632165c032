//! Who takes part in the agreement: rounds that look at members and servers, take at most one step each, and keep
//! what they found for whoever asks how the servers are.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use tribune_core::autopilot::{Autopilot, Cluster, Config, Departure, Member, Peer, Report, Sight, Step};
use tribune_core::{Authority, Command, Timestamp};
use tribune_gossip::{Brake, Member as Gossiped, Pool, Status};
use tribune_raft::{Admin, AdminError, Progress, Replica, ServerInfo};

use crate::membership;

/// Time between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_millis(500);

/// What the last round found; `None` on a server that does not lead.
pub(crate) type Health = Arc<ArcSwapOption<Report>>;

/// The rounds of a server while it leads.
pub(crate) struct Pilot {
    pub(crate) replica: Replica,
    pub(crate) pool: Pool,
    /// How many servers the datacenter is meant to begin with.
    pub(crate) expected: usize,
    /// What the configuration says, until operators say something else.
    pub(crate) initial: Config,
    pub(crate) health: Health,
}

impl Pilot {
    /// Goes round until it is dropped.
    pub(crate) async fn fly(&self) {
        let mut autopilot = Autopilot::new();
        self.write_initial().await;
        loop {
            match self.replica.admin().progress().await {
                Ok(progress) => self.round(&mut autopilot, &progress).await,
                Err(error) => debug!(%error, "the servers could not be looked at"),
            }
            sleep(ROUND_INTERVAL).await;
        }
    }

    /// The first leader of a datacenter writes its configuration down; it holds for all from then on.
    async fn write_initial(&self) {
        if self.replica.state().autopilot().is_some() {
            return;
        }
        let command = Command::SetAutopilot { config: self.initial.clone(), expected: None };
        if let Err(error) = self.replica.propose(&Authority::unrestricted(), command).await {
            warn!(%error, "the autopilot's configuration could not be written; this leader goes by its own until it is set");
        }
    }

    async fn round(&self, autopilot: &mut Autopilot, progress: &[Progress]) {
        let view = self.replica.cluster();
        // One that leaves takes itself out of the agreement; it is not to be taken in again meanwhile.
        let stays = |member: &&Gossiped| {
            member.status != Status::Leaving || progress.iter().any(|peer| peer.server.id == member.id)
        };
        let servers = self.servers();
        let members: Vec<Member> =
            servers.iter().filter(stays).map(|member| server(member, self.pool.brake())).collect();
        let cluster = Cluster {
            term: view.term,
            leader: view.leader.map(|leader| leader.id.into()).unwrap_or_default(),
            last_index: view.last_log,
            peers: progress.iter().map(peer).collect(),
        };
        let state = self.replica.state();
        let config = state.autopilot().map_or(&self.initial, |stored| &stored.value);
        let sight = Sight { members: &members, cluster: &cluster, config, expected: self.expected };
        let round = autopilot.round(now(), sight);
        self.health.store(Some(Arc::new(round.report)));
        if let Some(step) = round.step
            && let Err(error) = self.take(&step).await
        {
            warn!(?step, %error, "a change of the servers was not made; it is looked at again");
        }
    }

    /// The servers among the members.
    fn servers(&self) -> Vec<Gossiped> {
        self.pool.members().iter().filter(|member| membership::is_server(member)).cloned().collect()
    }

    async fn take(&self, step: &Step) -> Result<(), AdminError> {
        let admin: Admin = self.replica.admin();
        match step {
            Step::AddLearner(id) => {
                let Some(server) = self.info(id) else { return Ok(()) };
                info!(server = %server.name, %id, address = %server.address, "a server joins; it gets the log first");
                admin.add_learner(server).await
            }
            Step::Promote(id) => {
                info!(server = %id, "a server has caught up and gets a vote");
                admin.promote(id).await
            }
            Step::Demote(id) => {
                info!(server = %id, "a server loses its vote");
                admin.demote(id).await
            }
            Step::Remove(id, departure) => {
                info!(server = %id, reason = reason(*departure), "Attempting removal of a server");
                admin.remove(id).await
            }
        }
    }

    fn info(&self, id: &str) -> Option<ServerInfo> {
        self.servers().iter().find(|member| member.id == id).and_then(membership::server_info)
    }
}

fn reason(departure: Departure) -> &'static str {
    match departure {
        Departure::Left => "it left",
        Departure::Failed => "it failed and the others are enough",
        Departure::Unknown => "it is no member any more",
        Departure::Forgetful => "it came back without its log and is taken in anew",
    }
}

fn server(member: &Gossiped, brake: Brake) -> Member {
    let address = membership::rpc_address(member).map_or_else(String::new, |address| address.to_string());
    Member {
        id: member.id.as_str().into(),
        name: member.name.as_str().into(),
        address: address.into(),
        version: member.tags.get("build").map_or("", String::as_str).into(),
        life: membership::life(member.status, brake == Brake::Off),
        read_replica: !membership::votes(member),
    }
}

fn peer(progress: &Progress) -> Peer {
    Peer {
        id: progress.server.id.as_str().into(),
        address: progress.server.address.to_string().into(),
        voter: progress.voter,
        matched: progress.last_index,
        last_contact: progress.last_contact,
        forgetful: progress.forgetful,
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
