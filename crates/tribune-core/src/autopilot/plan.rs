//! The next change of the agreement. No step is given that the voters who are healthy could not agree on, or that
//! would leave them without a majority afterwards.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::health::quorum;
use super::{Departure, Peer, Seen, Sight, Step};
use crate::membership::Life;
use crate::time::Timestamp;

/// The voters at one moment.
#[derive(Debug, Clone, Copy)]
struct Votes {
    all: usize,
    healthy: usize,
}

impl Votes {
    /// Whether the healthy ones decide, now and after the change.
    fn decide_also_as(self, after: Votes) -> bool {
        self.healthy >= quorum(self.all) && after.healthy >= quorum(after.all)
    }

    fn without(self, healthy: bool) -> Self {
        Self { all: self.all - 1, healthy: self.healthy - usize::from(healthy) }
    }
}

/// What is known of everybody while a step is looked for.
struct Look<'a> {
    seen: &'a BTreeMap<SmolStr, Seen>,
    now: Timestamp,
    sight: Sight<'a>,
    votes: Votes,
}

pub(super) fn step(seen: &BTreeMap<SmolStr, Seen>, now: Timestamp, sight: Sight<'_>) -> Option<Step> {
    let voters = || sight.cluster.peers.iter().filter(|peer| peer.voter);
    let healthy = voters().filter(|peer| is_healthy(seen, peer)).count();
    let look = Look { seen, now, sight, votes: Votes { all: voters().count(), healthy } };
    // A change is written to the log like everything else: without a majority none can be.
    if look.votes.healthy < quorum(look.votes.all) {
        return None;
    }
    look.see_off()
        .or_else(|| look.take_in())
        .or_else(|| look.promote())
        .or_else(|| look.clean_up())
        .or_else(|| look.demote())
}

fn is_healthy(seen: &BTreeMap<SmolStr, Seen>, peer: &Peer) -> bool {
    seen.get(&peer.id).is_some_and(|seen| seen.healthy)
}

impl<'a> Look<'a> {
    fn peers(&self) -> impl Iterator<Item = &'a Peer> {
        self.sight.cluster.peers.iter()
    }

    fn others(&self) -> impl Iterator<Item = &'a Peer> {
        let leader = &self.sight.cluster.leader;
        self.sight.cluster.peers.iter().filter(move |peer| peer.id != *leader)
    }

    /// Whoever said good-bye or came back without its log goes at once, whatever operators decided about the dead.
    fn see_off(&self) -> Option<Step> {
        self.others().find_map(|peer| {
            let why = match self.sight.departure(&peer.id) {
                Some(Departure::Left) => Departure::Left,
                _ if peer.forgetful => Departure::Forgetful,
                _ => return None,
            };
            let after = self.votes.without(is_healthy(self.seen, peer));
            (!peer.voter || self.votes.decide_also_as(after)).then(|| Step::Remove(peer.id.clone(), why))
        })
    }

    /// A member that has no part yet gets the log.
    fn take_in(&self) -> Option<Step> {
        let knows = |id: &SmolStr| self.peers().any(|peer| peer.id == *id);
        let mut new = self.sight.members.iter().filter(|member| member.life == Life::Alive);
        new.find(|member| !knows(&member.id)).map(|member| Step::AddLearner(member.id.clone()))
    }

    /// A learner that has been healthy long enough votes; while voters are wanted, at once.
    fn promote(&self) -> Option<Step> {
        let wanted = self.votes.all < self.sight.expected;
        let ready = |peer: &&Peer| {
            let reads_only = self.sight.member(&peer.id).is_none_or(|member| member.read_replica);
            let seen = self.seen.get(&peer.id).filter(|seen| seen.healthy);
            let time = self.sight.config.server_stabilization_time;
            let stable = seen.is_some_and(|seen| wanted || self.now.since(seen.since) >= time);
            !peer.voter && !reads_only && stable
        };
        let after = Votes { all: self.votes.all + 1, healthy: self.votes.healthy + 1 };
        let ready = self.others().find(ready).filter(|_| self.votes.decide_also_as(after))?;
        Some(Step::Promote(ready.id.clone()))
    }

    /// The dead go when they are less than half of the voters, counted down: three servers of which one is away
    /// stay three until a fourth has come, so that a server which restarts finds its vote again.
    fn clean_up(&self) -> Option<Step> {
        if !self.sight.config.cleanup_dead_servers {
            return None;
        }
        let dead = |peer: &&Peer| {
            let time = self.sight.config.server_stabilization_time;
            let since = self.seen.get(&peer.id).and_then(|seen| seen.dead_since);
            since.is_some_and(|since| self.now.since(since) >= time)
        };
        if let Some(learner) = self.others().filter(dead).find(|peer| !peer.voter) {
            return Some(self.removal(learner));
        }
        let voters: Vec<&Peer> = self.others().filter(|peer| peer.voter).filter(dead).collect();
        let first = *voters.first()?;
        let after = self.votes.without(is_healthy(self.seen, first));
        let enough = after.all as u64 >= self.sight.config.min_quorum;
        let minority = voters.len() < self.votes.all / 2;
        (minority && enough && self.votes.decide_also_as(after)).then(|| self.removal(first))
    }

    fn removal(&self, peer: &Peer) -> Step {
        let why = self.sight.departure(&peer.id).unwrap_or(Departure::Unknown);
        Step::Remove(peer.id.clone(), why)
    }

    /// A voter that says of itself that it only reads gives its vote back.
    fn demote(&self) -> Option<Step> {
        let reader = self.others().find(|peer| {
            let reads_only = self.sight.member(&peer.id).is_some_and(|member| member.read_replica);
            let after = self.votes.without(is_healthy(self.seen, peer));
            peer.voter && reads_only && self.votes.decide_also_as(after)
        })?;
        Some(Step::Demote(reader.id.clone()))
    }
}
