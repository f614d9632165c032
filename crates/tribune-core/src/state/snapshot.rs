//! A state as a sequence of records, and back. The order of records matters: a header, then each node followed by
//! what is on it, then the topics.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::State;
use super::kv::Keys;
use super::session::Sessions;
use super::tables::{Instance, NodeEntry, ServiceEntry};
use super::topic::Topic;
use crate::autopilot;
use crate::coordinate::Placed;
use crate::ids::{Folded, Index};
use crate::kv::{KvEntry, KvKey};
use crate::lease::{Lease, Span};
use crate::model::{Check, Node, ServiceInstance, Stored};
use crate::query::Query;
use crate::session::{Session, SessionId};

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
    /// What operators decided about servers.
    Autopilot(Stored<autopilot::Config>),
    /// Where a node lies.
    Coordinate(Placed),
    /// A prepared query.
    Query(Box<Stored<Query>>),
    /// When a topic last changed.
    Topic(Topic, Index),
    /// What keys and sessions have instead of a header; left out while there never were any.
    Leasing {
        /// Below this no absent key is ever reported.
        key_floor: Index,
        /// The same for sessions.
        session_floor: Index,
        /// The same for nodes without sessions.
        node_floor: Index,
        /// The term of the leader that measures the time of leases.
        term: u64,
    },
    /// A key.
    Kv(Stored<KvEntry>),
    /// A session.
    Session(Stored<Session>),
    /// A key that nobody may have yet.
    LockDelay(KvKey, Span),
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

impl Record {
    /// The record for a state that takes the place of another one at `index` of its log, from wherever the record
    /// came. Everything counts as changed at `index`, and nothing claims to be newer: so no index that anybody has
    /// seen falls, of what is absent afterwards neither, and the same records give the same state everywhere. What
    /// no record tells is left to [`State::succeed`].
    #[must_use]
    pub fn rebased(self, index: Index) -> Self {
        match self {
            Self::Header { .. } => Self::Header { index, node_floor: index, service_floor: index },
            Self::Node(node) => Self::Node(rebased(node, index)),
            Self::Instance(service) => Self::Instance(rebased(service, index)),
            Self::Check(check) => Self::Check(rebased(check, index)),
            Self::Autopilot(config) => Self::Autopilot(rebased(config, index)),
            Self::Query(query) => Self::Query(Box::new(rebased(*query, index))),
            Self::Coordinate(placed) => Self::Coordinate(placed),
            Self::Topic(topic, _) => Self::Topic(topic, index),
            Self::Kv(entry) => Self::Kv(changed(entry, index)),
            Self::Session(session) => Self::Session(changed(session, index)),
            Self::Leasing { .. } | Self::LockDelay(..) => self,
        }
    }
}

fn rebased<T>(stored: Stored<T>, index: Index) -> Stored<T> {
    let Stored { value, created, modified } = stored;
    Stored { value, created: created.min(index), modified: modified.min(index) }
}

/// The same for what has no topic record while it is there: its own index is what readers wait for.
fn changed<T>(stored: Stored<T>, index: Index) -> Stored<T> {
    Stored { created: stored.created.min(index), modified: index, value: stored.value }
}

impl State {
    /// Takes the place of `old` at `index` of its log, made of records that were [rebased](Record::rebased) to it. The
    /// leader goes on measuring the time of leases, whatever term they were measured in where the records came from,
    /// and no index of keys and sessions falls, though there may be no record of any.
    pub fn succeed(&mut self, old: &Self, index: Index) {
        self.keys.floor = index;
        let sessions = &mut self.sessions;
        sessions.lease_term = old.sessions.lease_term;
        (sessions.index, sessions.leases_index) = (index, index);
        (sessions.gone.floor, sessions.gone_nodes.floor) = (index, index);
    }

    /// The state as records.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let nodes = self.nodes.values().flat_map(|entry| {
            let instances = entry.instances.values().map(|held| Record::Instance(held.service.clone()));
            let checks = entry.checks.values().map(|check| Record::Check((**check).clone()));
            std::iter::once(Record::Node(entry.node.clone())).chain(instances).chain(checks)
        });
        std::iter::once(self.header())
            .chain(nodes)
            .chain(self.settings_records())
            .chain(self.leasing_records())
            .chain(self.topic_records())
    }

    fn settings_records(&self) -> impl Iterator<Item = Record> + '_ {
        let places = self.coordinates.iter().filter_map(|(key, coordinate)| {
            let node = self.nodes.get(key)?.node.value.name.clone();
            Some(Record::Coordinate(Placed { node, coordinate: *coordinate }))
        });
        let queries = self.queries.stored().map(|stored| Record::Query(Box::new(stored.clone())));
        self.autopilot.iter().cloned().map(Record::Autopilot).chain(places).chain(queries)
    }

    /// Keys, then sessions, then delays.
    fn leasing_records(&self) -> impl Iterator<Item = Record> + '_ {
        let marks = Record::Leasing {
            key_floor: self.keys.floor,
            session_floor: self.sessions.gone.floor,
            node_floor: self.sessions.gone_nodes.floor,
            term: self.sessions.lease_term,
        };
        let is_unused = self.keys == Keys::default() && self.sessions == Sessions::default();
        let marks = (!is_unused).then_some(marks);
        let keys = self.keys.entries.values().map(|entry| Record::Kv((**entry).clone()));
        let sessions = self.sessions.by_id.values().map(|session| Record::Session((**session).clone()));
        let delays = self.leases().filter_map(|(lease, span)| match lease {
            Lease::LockDelay(key) => Some(Record::LockDelay(key.clone(), *span)),
            Lease::Session(_) => None,
        });
        marks.into_iter().chain(keys).chain(sessions).chain(delays)
    }

    fn leasing_topics(&self) -> impl Iterator<Item = (Topic, Index)> + '_ {
        let lists = [(Topic::Sessions, self.sessions.index), (Topic::Leases, self.sessions.leases_index)];
        let lists = lists.into_iter().filter(|(_, index)| *index > Index(0));
        let gone_keys = self.keys.gone.iter().map(|(key, index)| (Topic::Key(key.clone()), *index));
        let on_nodes = self.sessions.by_node.iter();
        let on_nodes = on_nodes.map(|(node, on_node)| (Topic::NodeSessions(node.clone()), on_node.index));
        let gone_nodes = self.sessions.gone_nodes.gone.iter();
        let gone_nodes = gone_nodes.map(|(node, index)| (Topic::NodeSessions(node.clone()), *index));
        let gone = self
            .sessions
            .gone
            .gone
            .iter()
            .filter_map(|(id, index)| Some((Topic::Session(SessionId::new(id.as_str()).ok()?), *index)));
        lists.chain(gone_keys).chain(on_nodes).chain(gone_nodes).chain(gone)
    }

    pub(super) fn header(&self) -> Record {
        Record::Header {
            index: self.index,
            node_floor: self.topics.gone_nodes.floor,
            service_floor: self.topics.gone_services.floor,
        }
    }

    fn topic_records(&self) -> impl Iterator<Item = Record> + '_ {
        let tables = [
            (Topic::Catalog, self.topics.catalog),
            (Topic::Nodes, self.topics.nodes),
            (Topic::Services, self.topics.services),
            (Topic::Checks, self.topics.checks),
            (Topic::Autopilot, self.topics.autopilot),
            (Topic::Coordinates, self.topics.coordinates),
            (Topic::Queries, self.queries.index),
        ];
        let nodes = self.nodes.iter().map(|(key, node)| (Topic::Node(key.clone()), node.index));
        let services = self.services.iter().map(|(key, held)| (Topic::Service(key.clone()), held.index));
        let gone = |(key, index): (&Folded, &Index)| (key.clone(), *index);
        let gone_nodes = self.topics.gone_nodes.gone.iter().map(gone);
        let gone_services = self.topics.gone_services.gone.iter().map(gone);
        let gone = gone_nodes
            .map(|(key, index)| (Topic::Node(key), index))
            .chain(gone_services.map(|(key, index)| (Topic::Service(key), index)));
        let all = tables.into_iter().chain(nodes).chain(services).chain(gone).chain(self.leasing_topics());
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
                Record::Autopilot(config) => state.autopilot = Some(config),
                Record::Query(stored) => state.queries.place(*stored),
                Record::Coordinate(placed) => {
                    state.coordinates.insert(placed.node.folded(), placed.coordinate);
                }
                Record::Topic(topic, index) => {
                    state.place(current.take());
                    state.set_topic_index(&topic, index);
                }
                Record::Leasing { key_floor, session_floor, node_floor, term } => {
                    state.keys.floor = key_floor;
                    state.sessions.gone.floor = session_floor;
                    state.sessions.gone_nodes.floor = node_floor;
                    state.sessions.lease_term = term;
                }
                Record::Kv(entry) => {
                    state.sessions.move_key(&entry.value.key, None, entry.value.session.as_ref());
                    state.keys.place(entry);
                }
                Record::Session(session) => state.sessions.place(session),
                Record::LockDelay(key, span) => {
                    state.sessions.leases.insert(Lease::LockDelay(key), span);
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
