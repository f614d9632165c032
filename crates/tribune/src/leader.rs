//! What a server does while it leads: keeps the catalog in line with the members of the datacenter.
//!
//! Each round looks at state and members as they are, so a change of leader loses nothing and nothing is resent
//! blindly.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tribune_core::membership::{Member, duties};
use tribune_core::{Authority, Command, Index, Outcome, Topic};
use tribune_raft::{Replica, Role};

/// Time between two rounds in which nothing changed.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);

/// Least time between two rounds: a busy node changes a thousand times a second, and a round looks at all nodes.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// The duties of a leader.
#[derive(Debug)]
pub(crate) struct Leader {
    replica: Replica,
    members: Vec<Member>,
    authority: Authority,
}

impl Leader {
    /// Duties for the datacenter of `replica`, whose members are these.
    pub(crate) fn new(replica: Replica, members: Vec<Member>) -> Self {
        Self { replica, members, authority: Authority::unrestricted() }
    }

    /// Does them whenever this server leads, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut leadership = self.replica.leadership();
        let mut role = Role::Other;
        loop {
            let rounds = async {
                match role {
                    Role::Leader { .. } => self.rounds().await,
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
        metrics::gauge!("server.isLeader").set(f64::from(u8::from(role != Role::Other)));
        role
    }

    async fn rounds(&self) {
        loop {
            let seen = self.round().await;
            sleep(ROUND_PAUSE).await;
            self.wait_for_change(seen).await;
        }
    }

    /// One look at everything; gives the state's position at that moment.
    async fn round(&self) -> Index {
        let begun = Instant::now();
        let state = self.replica.state();
        let seen = state.index();
        match duties(&self.members, state.view(&self.authority)) {
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
    async fn wait_for_change(&self, seen: Index) {
        let until = Instant::now() + ROUND_INTERVAL;
        let topics: Vec<Topic> =
            self.members.iter().map(|member| Topic::Node(member.node.name.folded())).collect();
        let waits = topics.iter().map(|topic| Box::pin(self.replica.changed(topic, seen, until)));
        futures::future::select_all(waits).await;
    }
}
