//! A state as a sequence of records, and back. The order of records matters: a header, then each node followed by
//! what is on it, then the topics.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::State;
use super::tables::{Instance, NodeEntry, ServiceEntry};
use super::topic::Topic;
use crate::ids::{Folded, Index};
use crate::model::{Check, Node, ServiceInstance, Stored};

/// One piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Always first.
    Header {
        /// The log position of the state.
        index: Index,
        /// Below this nothing absent is ever reported, for nodes.
        node_floor: Index,
        /// The same for services.
        service_floor: Index,
    },
    /// Starts a node; what follows is on it.
    Node(Stored<Node>),
    /// An instance on the node before.
    Instance(Stored<ServiceInstance>),
    /// A check on the node before; its instance came earlier.
    Check(Stored<Check>),
    /// When a topic last changed.
    Topic(Topic, Index),
}

/// Why records do not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The first record is not a header, or a second one follows.
    #[error("a snapshot holds exactly one header, as its first record")]
    Header,
    /// An instance or a check came before any node.
    #[error("a record stands outside of any node")]
    OutsideNode,
    /// A check belongs to an instance that did not come.
    #[error("check {0} belongs to an instance that is not in the snapshot")]
    OrphanCheck(String),
}

impl State {
    /// The state as records.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let header = Record::Header {
            index: self.index,
            node_floor: self.topics.gone_nodes.floor,
            service_floor: self.topics.gone_services.floor,
        };
        let nodes = self.nodes.values().flat_map(|entry| {
            let instances = entry.instances.values().map(|held| Record::Instance(held.service.clone()));
            let checks = entry.checks.values().map(|check| Record::Check((**check).clone()));
            std::iter::once(Record::Node(entry.node.clone())).chain(instances).chain(checks)
        });
        std::iter::once(header).chain(nodes).chain(self.topic_records())
    }

    fn topic_records(&self) -> impl Iterator<Item = Record> + '_ {
        let tables = [
            (Topic::Catalog, self.topics.catalog),
            (Topic::Nodes, self.topics.nodes),
            (Topic::Services, self.topics.services),
            (Topic::Checks, self.topics.checks),
        ];
        let nodes = self.nodes.iter().map(|(key, node)| (Topic::Node(key.clone()), node.index));
        let services = self.services.iter().map(|(key, held)| (Topic::Service(key.clone()), held.index));
        let gone = |(key, index): (&Folded, &Index)| (key.clone(), *index);
        let gone_nodes = self.topics.gone_nodes.gone.iter().map(gone);
        let gone_services = self.topics.gone_services.gone.iter().map(gone);
        let gone = gone_nodes
            .map(|(key, index)| (Topic::Node(key), index))
            .chain(gone_services.map(|(key, index)| (Topic::Service(key), index)));
        let all = tables.into_iter().chain(nodes).chain(services).chain(gone);
        all.map(|(topic, index)| Record::Topic(topic, index))
    }

    /// Builds the state that [`State::records`] was taken from.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, SnapshotError> {
        let mut records = records.into_iter();
        let Some(Record::Header { index, node_floor, service_floor }) = records.next() else {
            return Err(SnapshotError::Header);
        };
        let mut state = State { index, ..State::default() };
        state.topics.gone_nodes.floor = node_floor;
        state.topics.gone_services.floor = service_floor;
        let mut current: Option<NodeEntry> = None;
        for record in records {
            match record {
                Record::Header { .. } => return Err(SnapshotError::Header),
                Record::Node(node) => {
                    state.place(current.replace(NodeEntry::new(node)));
                }
                Record::Instance(service) => {
                    let entry = current.as_mut().ok_or(SnapshotError::OutsideNode)?;
                    let key = service.value.id.folded();
                    entry.instances.insert(key, Arc::new(Instance { service, checks: Box::default() }));
                }
                Record::Check(check) => {
                    current.as_mut().ok_or(SnapshotError::OutsideNode)?.restore_check(check)?;
                }
                Record::Topic(topic, index) => {
                    state.place(current.take());
                    state.set_topic_index(&topic, index);
                }
            }
        }
        state.place(current);
        Ok(state)
    }

    /// Puts a finished node and its instances into the tables.
    fn place(&mut self, node: Option<NodeEntry>) {
        let Some(node) = node else { return };
        let key = node.node.value.name.folded();
        for (id, instance) in &node.instances {
            let service: &mut Arc<ServiceEntry> =
                self.services.entry(instance.service.value.name.folded()).or_default();
            Arc::make_mut(service).put((key.clone(), id.clone()), instance.clone());
            self.addresses.put_instance(&key, &instance.service.value);
        }
        self.addresses.put_node(&node.node.value);
        if !node.node.value.id.is_empty() {
            self.node_ids.insert(Folded::new(&node.node.value.id), key.clone());
        }
        self.nodes.insert(key, Arc::new(node));
    }
}

impl NodeEntry {
    fn restore_check(&mut self, check: Stored<Check>) -> Result<(), SnapshotError> {
        let (id, check) = (check.value.id.folded(), Arc::new(check));
        match &check.value.service_id {
            None => {
                self.own_checks.insert(id.clone(), check.clone());
            }
            Some(owner) => {
                let Some(instance) = self.instances.get_mut(&owner.folded()) else {
                    return Err(SnapshotError::OrphanCheck(check.value.id.to_string()));
                };
                *instance = Arc::new(instance.with_check(check.clone()));
            }
        }
        self.checks.insert(id, check);
        Ok(())
    }
}
