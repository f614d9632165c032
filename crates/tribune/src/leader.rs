//! What a server does while it leads: keeps the catalog in line with the members of the datacenter, and the servers
//! of the agreement with those that are there.
//!
//! Each round looks at state and members as they are, so a change of leader loses nothing and nothing is resent
//! blindly.

mod autopilot;
pub(crate) mod sessions;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tribune_core::membership::{Member, Strangers, duties};
use tribune_core::{Authority, Command, Index, Node, Outcome, Topic};
use tribune_gossip::{Brake, Pool};
use tribune_raft::{Replica, Role};

use crate::daemon::Server;
use crate::membership;
use crate::settings::Settings;

pub(crate) use autopilot::Health;

use autopilot::Pilot;

/// Time between two rounds in which nothing changed.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);

/// Least time between two rounds: a busy node changes a thousand times a second, and a round looks at all nodes.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// How long a pool has to be up before a node that is no member counts as gone: two full exchanges, after which
/// it knows everybody who can be reached.
const MEMBERS_COMPLETE_AFTER: Duration = Duration::from_secs(60);

/// The duties of a leader.
pub(crate) struct Leader {
    replica: Replica,
    pool: Pool,
    /// This server's own record.
    own: Node,
    pilot: Pilot,
    authority: Authority,
    started: Instant,
}

impl Leader {
    /// Duties of `server`, whose datacenter has the members of `pool`.
    pub(crate) fn new(server: Server, pool: Pool, own: Node, settings: &Settings) -> Self {
        let pilot = Pilot {
            replica: server.replica.clone(),
            pool: pool.clone(),
            expected: settings.cluster.expected(),
            initial: settings.autopilot.clone(),
            health: server.health,
        };
        let authority = Authority::unrestricted();
        Self { replica: server.replica, pool, own, pilot, authority, started: Instant::now() }
    }

    /// Does them whenever this server leads, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut leadership = self.replica.leadership();
        let mut role = Role::Other;
        loop {
            let rounds = async {
                match role {
                    Role::Leader { .. } => {
                        tokio::join!(self.rounds(), self.pilot.fly());
                    }
                    Role::Other => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                next = leadership.next() => match next {
                    Some(next) => role = self.announce(next),
                    None => return,
                },
                () = rounds => {}
            }
        }
    }

    fn announce(&self, role: Role) -> Role {
        match role {
            Role::Leader { term } => info!(term, "cluster leadership acquired"),
            Role::Other => info!("this server does not lead"),
        }
        if role == Role::Other {
            self.pilot.health.store(None);
        }
        metrics::gauge!("server.isLeader").set(f64::from(u8::from(role != Role::Other)));
        role
    }

    async fn rounds(&self) {
        let mut changes = self.pool.changes();
        loop {
            changes.borrow_and_update();
            let members = self.members();
            let seen = self.round(&members).await;
            sleep(ROUND_PAUSE).await;
            tokio::select! {
                () = self.wait_for_change(&members, seen) => {}
                changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    }

    fn members(&self) -> Vec<Member> {
        let settled = self.pool.brake() == Brake::Off;
        let read = |member| {
            let read = membership::member(member, &self.own, settled);
            read.inspect_err(
                |error| warn!(member = member.name, %error, "a member cannot be shown in the catalog"),
            )
        };
        self.pool.members().iter().filter_map(|member| read(member).ok()).collect()
    }

    /// One look at everything; gives the state's position at that moment.
    async fn round(&self, members: &[Member]) -> Index {
        let begun = Instant::now();
        let state = self.replica.state();
        let seen = state.index();
        let complete = self.started.elapsed() >= MEMBERS_COMPLETE_AFTER && self.pool.brake() == Brake::Off;
        let strangers = if complete { Strangers::Go } else { Strangers::Stay };
        match duties(members, strangers, state.view(&self.authority)) {
            Ok(commands) => {
                for command in commands {
                    self.propose(command).await;
                }
            }
            Err(error) => warn!(%error, "a member cannot be shown in the catalog"),
        }
        metrics::histogram!("leader.reconcile").record(begun.elapsed().as_secs_f64() * 1e3);
        seen
    }

    /// A proposal that fails is made again in the next round if it is still needed.
    async fn propose(&self, command: Command) {
        match self.replica.propose(&self.authority, command).await {
            Ok(Outcome::Refused(refusal)) => warn!(?refusal, "the catalog refuses a member"),
            Ok(_) => debug!("the catalog was brought in line with the members"),
            Err(error) => warn!(%error, "could not bring the catalog in line with the members"),
        }
    }

    /// Waits until one of the members' nodes changes in the catalog, or for the regular round.
    async fn wait_for_change(&self, members: &[Member], seen: Index) {
        let until = Instant::now() + ROUND_INTERVAL;
        let topics: Vec<Topic> =
            members.iter().map(|member| Topic::Node(member.node.name.folded())).collect();
        let waits: Vec<_> =
            topics.iter().map(|topic| Box::pin(self.replica.changed(topic, seen, until))).collect();
        if waits.is_empty() {
            return tokio::time::sleep_until(until).await;
        }
        futures::future::select_all(waits).await;
    }
}
