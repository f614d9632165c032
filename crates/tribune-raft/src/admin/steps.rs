//! The leader's part: each step is weighed before it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;
use tribune_core::Index;

use super::{AdminError, Progress, STEP_PATIENCE};
use crate::config::ServerInfo;
use crate::faults::Fault;
use crate::replica::{Replica, unsure};
use crate::types::{Membership, ServerNode, TypeConfig, consensus_id};
use crate::wire::{Order, Ordered};

/// Entries that a server may lack and still count as caught up: about what arrives while it gets its vote.
const LAG_MAX: u64 = 1000;

type Changes = ChangeMembers<u64, ServerNode>;

impl Replica {
    /// Carries an order out, if this server leads.
    pub(crate) async fn carry_out(&self, order: &Order) -> Ordered {
        let done = match order {
            Order::Progress => return self.report(),
            Order::AddLearner(server) => self.add_learner_here(server).await,
            Order::Promote(id) => self.promote_here(id).await,
            Order::Demote(id) => self.drop_vote(id, true).await,
            Order::Remove(id) => self.drop_vote(id, false).await,
            Order::Transfer(to) => self.transfer_here(to.as_deref()).await,
        };
        done.map_or_else(Ordered::Failed, |()| Ordered::Done)
    }

    fn report(&self) -> Ordered {
        match self.standing() {
            Ok(standing) => Ordered::Progress(standing.progress(self)),
            Err(error) => Ordered::Failed(error),
        }
    }

    async fn add_learner_here(&self, server: &ServerInfo) -> Result<(), AdminError> {
        let standing = self.standing()?;
        let (id, node) = (consensus_id(&server.id), ServerNode::from(server));
        let changes = match standing.membership.get_node(&id) {
            Some(known) if *known == node => return Ok(()),
            Some(_) => Changes::SetNodes(BTreeMap::from([(id, node)])),
            None => Changes::AddNodes(BTreeMap::from([(id, node)])),
        };
        self.change(changes, true).await
    }

    async fn promote_here(&self, id: &str) -> Result<(), AdminError> {
        let standing = self.standing()?;
        let number = standing.find(id)?;
        if standing.voters.contains(&number) {
            return Ok(());
        }
        if !standing.answers(number) {
            return Err(AdminError::BreaksQuorum(format!(
                "server {id} does not answer the leader: with a vote it would only count against the others"
            )));
        }
        let matched = standing.matched(number).map_or(0, |(index, _)| index);
        let lag = standing.last_log.saturating_sub(matched);
        if lag > LAG_MAX {
            return Err(AdminError::Lags { id: id.to_owned(), lag });
        }
        let mut voters = standing.voters.clone();
        voters.insert(number);
        standing.weigh(&voters)?;
        self.change(Changes::AddVoterIds(BTreeSet::from([number])), true).await
    }

    /// Takes a server's vote, and lets it go altogether unless `retain`.
    async fn drop_vote(&self, id: &str, retain: bool) -> Result<(), AdminError> {
        let standing = self.standing()?;
        let number = standing.find(id)?;
        if !standing.voters.contains(&number) {
            return match retain {
                true => Ok(()),
                false => self.change(Changes::RemoveNodes(BTreeSet::from([number])), false).await,
            };
        }
        let mut voters = standing.voters.clone();
        voters.remove(&number);
        standing.weigh(&voters)?;
        if number == self.0.id {
            // The others go on without waiting for an election.
            self.yield_lease();
        }
        self.change(Changes::RemoveVoters(BTreeSet::from([number])), retain).await
    }

    async fn change(&self, changes: Changes, retain: bool) -> Result<(), AdminError> {
        let changed = self.0.raft.change_membership(changes, retain);
        let patience = self.0.config.rpc_hold_timeout + STEP_PATIENCE;
        let Ok(changed) = tokio::time::timeout(patience, changed).await else {
            return Err(AdminError::Unknown("no majority confirmed it in time".to_owned()));
        };
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.no_leader()),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                    AdminError::InProgress
                }
                other => AdminError::Invalid(other.to_string()),
            }),
            Err(error) => {
                tracing::warn!(%error, "a change of the membership has no outcome that this server knows");
                Err(AdminError::Unknown(unsure(&error).to_owned()))
            }
        }
    }

    async fn transfer_here(&self, to: Option<&str>) -> Result<(), AdminError> {
        let standing = self.standing()?;
        let to = match to {
            Some(id) => standing.find(id)?,
            None => standing.furthest_other(self.0.id)?,
        };
        if to == self.0.id {
            return Ok(());
        }
        if !standing.voters.contains(&to) {
            return Err(AdminError::Invalid(
                "the server that shall lead has no vote; promote it first".to_owned(),
            ));
        }
        if !standing.answers(to) {
            return Err(AdminError::BreaksQuorum(
                "the server that shall lead does not answer the present leader".to_owned(),
            ));
        }
        self.hand_over(to, Instant::now() + self.0.config.rpc_hold_timeout).await
    }

    /// Hands leading over and waits until it is done.
    async fn hand_over(&self, to: u64, deadline: Instant) -> Result<(), AdminError> {
        self.yield_lease();
        self.0.raft.trigger().transfer_leader(to).await.map_err(|_| self.stopped_error())?;
        let mut servers = self.0.raft.server_metrics();
        loop {
            if servers.borrow_watched().current_leader == Some(to) {
                return Ok(());
            }
            match tokio::time::timeout_at(deadline, servers.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.stopped_error().into()),
                Err(_) => {
                    return Err(AdminError::Unknown("the other server did not take over in time".to_owned()));
                }
            }
        }
    }

    /// Hands leading over to whoever is furthest ahead, when this server leads and somebody is there.
    pub(crate) async fn leave_the_lead(&self, patience: Duration) {
        let Ok(standing) = self.standing() else { return };
        let Ok(to) = standing.furthest_other(self.0.id) else { return };
        if let Err(error) = self.hand_over(to, Instant::now() + patience).await {
            tracing::info!(%error, "leading was not handed over before the end");
        }
    }

    fn no_leader(&self) -> AdminError {
        AdminError::NoLeader(self.0.config.rpc_hold_timeout)
    }

    /// What this server knows as the leader.
    fn standing(&self) -> Result<Standing, AdminError> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.running_state.is_err()
            || metrics.state != ServerState::Leader
            || !self.has_quorum(&metrics)
        {
            return Err(self.no_leader());
        }
        Ok(Standing::new(&metrics, self.0.config.silence_max()))
    }
}

/// A leader's view of its servers.
struct Standing {
    own: u64,
    membership: Membership,
    voters: BTreeSet<u64>,
    last_log: u64,
    /// Index and term of the last entry each is known to have.
    matched: BTreeMap<u64, Option<(u64, u64)>>,
    /// How long ago each last answered.
    contact: BTreeMap<u64, Option<Duration>>,
    silence_max: Duration,
}

impl Standing {
    fn new(metrics: &RaftMetrics<TypeConfig>, silence_max: Duration) -> Self {
        let membership = metrics.membership_config.membership().clone();
        let position = |id: &crate::types::LogId| (id.index, id.committed_leader_id().term);
        let mut matched: BTreeMap<_, _> = metrics
            .replication
            .iter()
            .flatten()
            .map(|(id, matched)| (*id, matched.as_ref().map(position)))
            .collect();
        let last_log = metrics.last_log_index.unwrap_or_default();
        matched.insert(metrics.id, Some((last_log, metrics.current_term)));
        let mut contact: BTreeMap<_, _> = metrics
            .heartbeat
            .iter()
            .flatten()
            .map(|(id, at)| (*id, at.as_ref().map(|at| at.elapsed())))
            .collect();
        contact.insert(metrics.id, Some(Duration::ZERO));
        let voters = membership.voter_ids().collect();
        Self { own: metrics.id, membership, voters, last_log, matched, contact, silence_max }
    }

    fn find(&self, id: &str) -> Result<u64, AdminError> {
        let number = consensus_id(id);
        match self.membership.get_node(&number) {
            Some(_) => Ok(number),
            None => Err(AdminError::NoSuchServer(id.to_owned())),
        }
    }

    fn answers(&self, id: u64) -> bool {
        self.contact.get(&id).copied().flatten().is_some_and(|ago| ago <= self.silence_max)
    }

    fn matched(&self, id: u64) -> Option<(u64, u64)> {
        self.matched.get(&id).copied().flatten()
    }

    /// Whether these voters could agree, counting only those that answer now.
    fn weigh(&self, voters: &BTreeSet<u64>) -> Result<(), AdminError> {
        let there = voters.iter().filter(|id| self.answers(**id)).count();
        let needed = voters.len() / 2 + 1;
        if voters.is_empty() {
            return Err(AdminError::BreaksQuorum("it is the last voter; add another one first".to_owned()));
        }
        if there < needed && !Fault::StepNotWeighed.is_planted() {
            return Err(AdminError::BreaksQuorum(format!(
                "of the {} voters that there would be, {needed} must answer and only {there} do; bring servers back or remove dead ones first",
                voters.len()
            )));
        }
        Ok(())
    }

    fn furthest_other(&self, own: u64) -> Result<u64, AdminError> {
        let others = self.voters.iter().copied().filter(|id| *id != own && self.answers(*id));
        others.max_by_key(|id| self.matched(*id)).ok_or_else(|| {
            AdminError::BreaksQuorum("no other voter answers: nobody could take over".to_owned())
        })
    }

    fn progress(&self, replica: &Replica) -> Vec<Progress> {
        let mut all: Vec<_> = self
            .membership
            .nodes()
            .filter_map(|(id, node)| {
                let (last_index, last_term) = self.matched(*id).unwrap_or_default();
                Some(Progress {
                    server: replica.info(*id, node)?,
                    voter: self.voters.contains(id),
                    leader: *id == self.own,
                    last_contact: self.contact.get(id).copied().flatten(),
                    last_index: Index(last_index),
                    last_term,
                    forgetful: replica.0.forgetful.has(*id),
                })
            })
            .collect();
        all.sort_by(|a, b| a.server.id.cmp(&b.server.id));
        all
    }
}
