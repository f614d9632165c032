//! Who should be a server of the datacenter, and how healthy the servers are: decided from the members and from what
//! the leader sees of the others.
//!
//! ```text
//!   members (gossip) ─┐
//!   peers (consensus) ┼─▶ Autopilot::round ─▶ Report (healthy? how many may fail?)
//!   Config (the log) ─┘                     └▶ at most one Step: add, promote, demote, remove
//! ```
//!
//! Only a leader asks, again and again, and takes one step at a time: the next round sees what the last one did. A
//! new leader starts with an empty memory and therefore waits anew before it promotes or removes. Zones and upgrade
//! migration are not decided here; their settings are kept for those who read them back.

mod health;
mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::Index;
use crate::membership::Life;
use crate::time::Timestamp;

pub use health::{Report, ServerHealth};

/// What operators decide about servers. Part of the log: all servers of a datacenter have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whether servers that failed leave the agreement when enough others are there.
    pub cleanup_dead_servers: bool,
    /// A server that the leader has not heard of for longer is unhealthy.
    pub last_contact_threshold: Duration,
    /// A server that is further behind the leader's log, in entries, is unhealthy.
    pub max_trailing_logs: u64,
    /// Cleaning up never leaves fewer voters.
    pub min_quorum: u64,
    /// A new server votes after it was healthy for this long.
    pub server_stabilization_time: Duration,
    /// Kept, not acted on.
    pub redundancy_zone_tag: SmolStr,
    /// Kept, not acted on.
    pub disable_upgrade_migration: bool,
    /// Kept, not acted on.
    pub upgrade_version_tag: SmolStr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            redundancy_zone_tag: SmolStr::default(),
            disable_upgrade_migration: false,
            upgrade_version_tag: SmolStr::default(),
        }
    }
}

/// A server as the members of the datacenter know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its stable id, the same in the agreement.
    pub id: SmolStr,
    /// Its node name.
    pub name: SmolStr,
    /// Where other servers reach it, `ip:port`.
    pub address: SmolStr,
    /// The version it says it is.
    pub version: SmolStr,
    /// How it is.
    pub life: Life,
    /// Whether it only reads along and never votes.
    pub read_replica: bool,
}

/// A server that has a part in the agreement, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its stable id.
    pub id: SmolStr,
    /// The address its entry in the agreement holds.
    pub address: SmolStr,
    /// Whether its vote counts.
    pub voter: bool,
    /// The last entry it is known to have.
    pub matched: Index,
    /// How long ago the leader last heard of it; zero for the leader itself, `None` when it never did.
    pub last_contact: Option<Duration>,
    /// Whether it has lost entries that it had confirmed.
    pub forgetful: bool,
}

/// The agreement as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The election that made the leader.
    pub term: u64,
    /// The leader's id.
    pub leader: SmolStr,
    /// The last entry of the leader's log.
    pub last_index: Index,
    /// All voters and learners, the leader included.
    pub peers: Vec<Peer>,
}

/// What a round is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The servers among the members, this one included.
    pub members: &'a [Member],
    /// The agreement.
    pub cluster: &'a Cluster,
    /// What operators decided.
    pub config: &'a Config,
    /// How many servers the datacenter is meant to begin with: until it has as many voters, nobody waits to become
    /// one.
    pub expected: usize,
}

/// One change of the agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take this member in; it gets the log and does not vote yet.
    AddLearner(SmolStr),
    /// Let this learner vote.
    Promote(SmolStr),
    /// Take the vote of this server; it stays a learner.
    Demote(SmolStr),
    /// Put this server out.
    Remove(SmolStr, Departure),
}

/// Why a server is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said good-bye.
    Left,
    /// It stopped answering.
    Failed,
    /// No member has its id any more.
    Unknown,
    /// It came back without its log, and is to be taken in anew.
    Forgetful,
}

/// What one look gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// How the servers are.
    pub report: Report,
    /// What to do next, if anything.
    pub step: Option<Step>,
}

/// The memory between rounds: since when each server has been as it is.
#[derive(Debug, Clone, Default)]
pub struct Autopilot {
    seen: BTreeMap<SmolStr, Seen>,
}

/// How a server was last seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    healthy: bool,
    /// Since when it has been healthy, or not.
    since: Timestamp,
    /// Since when it has been failed or unknown.
    dead_since: Option<Timestamp>,
}

impl Autopilot {
    /// An autopilot that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at everything, remembers it, and says how the servers are and what to do next.
    pub fn round(&mut self, now: Timestamp, sight: Sight<'_>) -> Round {
        self.remember(now, sight);
        let report = health::report(&self.seen, sight);
        let step = plan::step(&self.seen, now, sight);
        Round { report, step }
    }

    fn remember(&mut self, now: Timestamp, sight: Sight<'_>) {
        let before = std::mem::take(&mut self.seen);
        for peer in &sight.cluster.peers {
            let healthy = health::is_healthy(peer, sight);
            let dead = sight.departure(&peer.id).is_some();
            let old = before.get(&peer.id);
            let since = old.filter(|old| old.healthy == healthy).map_or(now, |old| old.since);
            let dead_since = dead.then(|| old.and_then(|old| old.dead_since).unwrap_or(now));
            self.seen.insert(peer.id.clone(), Seen { healthy, since, dead_since });
        }
    }
}

impl<'a> Sight<'a> {
    /// The member with this id. A server that came back under its old name with a new id has two; the one that
    /// lives counts.
    fn member(&self, id: &str) -> Option<&'a Member> {
        let mut with_id = self.members.iter().filter(|member| member.id == id);
        let first = with_id.next()?;
        Some(with_id.find(|member| member.life == Life::Alive).unwrap_or(first))
    }

    /// Why a server should go, if it should.
    fn departure(&self, id: &str) -> Option<Departure> {
        match self.member(id).map(|member| member.life) {
            Some(Life::Alive | Life::Unsettled) => None,
            Some(Life::Failed) => Some(Departure::Failed),
            Some(Life::Left) => Some(Departure::Left),
            None => Some(Departure::Unknown),
        }
    }
}

#[cfg(test)]
mod tests;
