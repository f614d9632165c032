//! What a blocking query can wait for, and when each of those last changed.
//!
//! The index of a topic rises exactly when the answer to it changes, and never falls: of a service or node that
//! is gone the index of its end is kept, up to `TOMBSTONES_MAX`; beyond that the oldest are folded into one
//! floor that stands for everything absent.

use serde::{Deserialize, Serialize};

use super::State;
use super::tables::Map;
use crate::ids::{Folded, Index};

/// How many departed services, and how many departed nodes, are remembered one by one.
const TOMBSTONES_MAX: usize = 65_536;

/// A question whose answer can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// All node records.
    Nodes,
    /// The names of all services with their tags.
    Services,
    /// All checks.
    Checks,
    /// One node: its record, instances and checks.
    Node(Folded),
    /// One service: its instances, their nodes and all checks of both.
    Service(Folded),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TopicIndexes {
    pub(super) nodes: Index,
    pub(super) services: Index,
    pub(super) checks: Index,
    pub(super) gone_nodes: Tombstones,
    pub(super) gone_services: Tombstones,
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
            self.fold_older_half();
        }
    }

    fn fold_older_half(&mut self) {
        let mut indexes: Vec<Index> = self.gone.values().copied().collect();
        indexes.sort_unstable();
        self.floor = indexes[indexes.len() / 2];
        let floor = self.floor;
        self.gone = std::mem::take(&mut self.gone).into_iter().filter(|(_, index)| *index > floor).collect();
    }

    fn index_of(&self, key: &Folded) -> Index {
        self.gone.get(key).copied().unwrap_or_default().max(self.floor)
    }
}

impl State {
    /// When the answer to `topic` last changed; zero when it never had one.
    pub fn index_of(&self, topic: &Topic) -> Index {
        match topic {
            Topic::Nodes => self.topics.nodes,
            Topic::Services => self.topics.services,
            Topic::Checks => self.topics.checks,
            Topic::Node(key) => {
                self.nodes.get(key).map_or_else(|| self.topics.gone_nodes.index_of(key), |node| node.index)
            }
            Topic::Service(key) => self
                .services
                .get(key)
                .map_or_else(|| self.topics.gone_services.index_of(key), |service| service.index),
        }
    }
}
