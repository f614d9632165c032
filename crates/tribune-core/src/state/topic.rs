//! What a blocking query can wait for, and when each of those last changed.
//!
//! The index of a topic rises exactly when the answer to it changes, and never falls: of a service or node that
//! is gone the index of its end is kept, up to `TOMBSTONES_MAX`; beyond that the oldest are folded into one
//! floor that stands for everything absent.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::State;
use super::tables::Map;
use crate::ids::{Folded, Index};
use crate::kv::KvKey;
use crate::session::SessionId;

/// How many of one kind are remembered one by one after they are gone: of nodes, services, keys, sessions, and nodes
/// without sessions.
pub(super) const TOMBSTONES_MAX: usize = 65_536;

/// A question whose answer can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// Anything in the catalog at all.
    Catalog,
    /// All node records.
    Nodes,
    /// The names of all services with their tags.
    Services,
    /// All checks, with the records of their nodes and the names and tags of their instances.
    Checks,
    /// One node: its record, instances and checks.
    Node(Folded),
    /// One service: its instances, their nodes and all checks of both.
    Service(Folded),
    /// What operators decided about servers.
    Autopilot,
    /// Where all nodes lie in the network.
    Coordinates,
    /// All prepared queries.
    Queries,
    /// One key.
    Key(KvKey),
    /// All keys that start with this text. Never named as touched: it changes with each of its keys.
    Prefix(SmolStr),
    /// All sessions.
    Sessions,
    /// One session.
    Session(SessionId),
    /// The sessions of one node.
    NodeSessions(Folded),
    /// Whose time the leader measures.
    Leases,
}

impl Topic {
    /// Whether it asks for a part of the catalog.
    pub(super) fn is_of_catalog(&self) -> bool {
        match self {
            Self::Catalog
            | Self::Nodes
            | Self::Services
            | Self::Checks
            | Self::Node(_)
            | Self::Service(_) => true,
            Self::Key(_)
            | Self::Prefix(_)
            | Self::Sessions
            | Self::Session(_)
            | Self::NodeSessions(_)
            | Self::Leases
            | Self::Autopilot
            | Self::Coordinates
            | Self::Queries => false,
        }
    }

    /// Whether a change of `self` is a change of what `other` asks for.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(key), Self::Prefix(prefix)) => key.as_str().starts_with(prefix.as_str()),
            _ => self == other,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TopicIndexes {
    pub(super) catalog: Index,
    pub(super) nodes: Index,
    pub(super) services: Index,
    pub(super) checks: Index,
    pub(super) gone_nodes: Tombstones,
    pub(super) gone_services: Tombstones,
    pub(super) autopilot: Index,
    pub(super) coordinates: Index,
}

/// The last index of things that are no more.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tombstones {
    pub(super) floor: Index,
    pub(super) gone: Map<Folded, Index>,
}

impl Tombstones {
    pub(super) fn add(&mut self, key: Folded, index: Index) {
        self.gone.insert(key, index);
        if self.gone.len() > TOMBSTONES_MAX {
            self.floor = fold_older_half(&mut self.gone).0;
        }
    }

    /// What is back has an index of its own again.
    pub(super) fn forget(&mut self, key: &Folded) {
        if self.gone.contains_key(key) {
            self.gone.remove(key);
        }
    }

    pub(super) fn index_of(&self, key: &Folded) -> Index {
        self.gone.get(key).copied().unwrap_or_default().max(self.floor)
    }
}

/// Forgets the older half of what is gone, which must be something: gives the floor that stands for it, and what it
/// was.
pub(super) fn fold_older_half<K: Clone + Ord>(gone: &mut Map<K, Index>) -> (Index, Vec<K>) {
    let mut indexes: Vec<Index> = gone.values().copied().collect();
    indexes.sort_unstable();
    let floor = indexes[indexes.len() / 2];
    let all = std::mem::take(gone).into_iter();
    let (folded, kept): (Vec<_>, Vec<_>) = all.partition(|(_, index)| *index <= floor);
    *gone = kept.into_iter().collect();
    (floor, folded.into_iter().map(|(key, _)| key).collect())
}

impl State {
    /// When the answer to `topic` last changed; zero when it never had one.
    pub fn index_of(&self, topic: &Topic) -> Index {
        match topic {
            Topic::Catalog => self.topics.catalog,
            Topic::Nodes => self.topics.nodes,
            Topic::Services => self.topics.services,
            Topic::Checks => self.topics.checks,
            Topic::Autopilot => self.topics.autopilot,
            Topic::Coordinates => self.topics.coordinates,
            Topic::Queries => self.queries.index,
            Topic::Node(key) => {
                self.nodes.get(key).map_or_else(|| self.topics.gone_nodes.index_of(key), |node| node.index)
            }
            Topic::Service(key) => self
                .services
                .get(key)
                .map_or_else(|| self.topics.gone_services.index_of(key), |service| service.index),
            Topic::Key(key) => self.keys.index_of_key(key),
            Topic::Prefix(prefix) => self.keys.index_of_prefix(prefix),
            Topic::Sessions => self.sessions.index,
            Topic::Session(id) => self.sessions.index_of_session(id),
            Topic::NodeSessions(node) => self.sessions.index_of_node(node),
            Topic::Leases => self.sessions.leases_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_the_oldest_fold_into_a_floor_that_never_lowers_an_index() {
        let mut tombstones = Tombstones::default();
        let count = TOMBSTONES_MAX as u64 + 1;
        (1..=count).for_each(|at| tombstones.add(Folded::new(&at.to_string()), Index(at)));
        assert!(tombstones.gone.len() <= TOMBSTONES_MAX / 2 + 1);
        for at in [1, count / 2, count] {
            assert!(tombstones.index_of(&Folded::new(&at.to_string())) >= Index(at));
        }
        assert_eq!(tombstones.index_of(&Folded::new(&count.to_string())), Index(count));
    }
}
