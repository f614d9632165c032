//! How each server is, and how many of them may fail.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use super::{Peer, Seen, Sight};
use crate::ids::Index;
use crate::membership::Life;
use crate::time::Timestamp;

/// How the servers of a datacenter are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether all of them are healthy.
    pub healthy: bool,
    /// How many voters may fail, on top of those that have, before nothing can be decided any more.
    pub failure_tolerance: usize,
    /// Who leads.
    pub leader: SmolStr,
    /// Each server, in the order of the agreement.
    pub servers: Vec<ServerHealth>,
}

/// How one server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Its stable id.
    pub id: SmolStr,
    /// Its node name; empty when no member has its id.
    pub name: SmolStr,
    /// Where other servers reach it.
    pub address: SmolStr,
    /// The version it says it is.
    pub version: SmolStr,
    /// How the members know it; `None` when they do not.
    pub life: Option<Life>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether its vote counts.
    pub voter: bool,
    /// Whether it never will.
    pub read_replica: bool,
    /// How long ago the leader last heard of it.
    pub last_contact: Option<Duration>,
    /// The election of its last entry.
    pub last_term: u64,
    /// Its last entry.
    pub last_index: Index,
    /// Whether it can be relied on.
    pub healthy: bool,
    /// Since when it has been healthy, or not.
    pub stable_since: Timestamp,
}

/// Whether a server lives, answers the leader, keeps up with its log and has forgotten nothing.
pub(super) fn is_healthy(peer: &Peer, sight: Sight<'_>) -> bool {
    let alive = sight.member(&peer.id).is_some_and(|member| member.life == Life::Alive);
    let threshold = sight.config.last_contact_threshold;
    let answers = peer.last_contact.is_some_and(|contact| contact <= threshold);
    let behind = sight.cluster.last_index.0.saturating_sub(peer.matched.0);
    alive && answers && !peer.forgetful && behind <= sight.config.max_trailing_logs
}

/// Votes that are needed to decide anything among this many voters.
pub(super) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

pub(super) fn report(seen: &BTreeMap<SmolStr, Seen>, sight: Sight<'_>) -> Report {
    let cluster = sight.cluster;
    let servers: Vec<ServerHealth> = cluster.peers.iter().map(|peer| server(peer, seen, sight)).collect();
    let voters = servers.iter().filter(|server| server.voter).count();
    let healthy_voters = servers.iter().filter(|server| server.voter && server.healthy).count();
    Report {
        healthy: !servers.is_empty() && servers.iter().all(|server| server.healthy),
        failure_tolerance: healthy_voters.saturating_sub(quorum(voters)),
        leader: cluster.leader.clone(),
        servers,
    }
}

fn server(peer: &Peer, seen: &BTreeMap<SmolStr, Seen>, sight: Sight<'_>) -> ServerHealth {
    let member = sight.member(&peer.id);
    let seen = seen.get(&peer.id);
    ServerHealth {
        id: peer.id.clone(),
        name: member.map(|member| member.name.clone()).unwrap_or_default(),
        address: member.map_or(&peer.address, |member| &member.address).clone(),
        version: member.map(|member| member.version.clone()).unwrap_or_default(),
        life: member.map(|member| member.life),
        leader: peer.id == sight.cluster.leader,
        voter: peer.voter,
        read_replica: member.is_some_and(|member| member.read_replica),
        last_contact: peer.last_contact,
        // The leader takes an entry for matched only when its election is the same on both.
        last_term: peer.last_contact.map_or(0, |_| sight.cluster.term),
        last_index: peer.matched,
        healthy: seen.is_some_and(|seen| seen.healthy),
        stable_since: seen.map(|seen| seen.since).unwrap_or_default(),
    }
}
