//! How registrations and deregistrations change the tables.
//!
//! A [`Change`] is one command at work: it edits the tables and notes which topics it touched. A registration is
//! checked in full before the first edit, so a refused one leaves nothing behind. What is the same as before is
//! left alone, indexes included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::State;
use super::tables::{Instance, Label, NodeEntry, ServiceEntry};
use super::topic::Topic;
use crate::command::{Refusal, Registration, Target};
use crate::ids::{CheckId, Folded, Index, InstanceId, NodeName};
use crate::kv::KvKey;
use crate::model::{Check, Node, ServiceInstance, Status, Stored};

/// The check that tells whether a node is alive. Written by the leader from what the members of the datacenter
/// say of each other.
pub const LIVENESS_CHECK: &str = "serfHealth";

pub(super) struct Change<'a> {
    pub(super) state: &'a mut State,
    pub(super) index: Index,
    pub(super) touched: BTreeSet<Topic>,
    /// How the services touched looked in the list of services before the first touch.
    labels: BTreeMap<Folded, Option<Label>>,
    /// Keys that were not there before.
    pub(super) keys_made: Vec<KvKey>,
}

impl<'a> Change<'a> {
    pub(super) fn new(state: &'a mut State, index: Index) -> Self {
        Self { state, index, touched: BTreeSet::new(), labels: BTreeMap::new(), keys_made: Vec::new() }
    }

    /// Writes the index into every touched topic.
    pub(super) fn finish(mut self) -> Vec<Topic> {
        self.end_unfounded_sessions();
        self.forget_passing_keys();
        let Self { state, index, mut touched, labels, .. } = self;
        if labels.iter().any(|(key, before)| *before != state.service_label(key)) {
            touched.insert(Topic::Services);
        }
        if touched.iter().any(Topic::is_of_catalog) {
            touched.insert(Topic::Catalog);
        }
        for topic in &touched {
            state.set_topic_index(topic, index);
        }
        touched.into_iter().collect()
    }

    pub(super) fn register(&mut self, registration: &Registration) -> Result<(), Refusal> {
        self.admit(registration)?;
        let node = &registration.node;
        let key = node.name.folded();
        if !(registration.skip_node_update && self.state.nodes.contains_key(&key)) {
            self.put_node(node);
        }
        if let Some(service) = &registration.service {
            self.put_instance(&key, service);
        }
        for check in last_of_each(&registration.checks) {
            self.put_check(&key, check);
        }
        Ok(())
    }

    pub(super) fn deregister(&mut self, node: &Folded, target: &Target) {
        match target {
            Target::Node => self.remove_node(node),
            Target::Instance(id) => self.remove_instance(node, &id.folded()),
            Target::Check(id) => self.remove_check(node, &id.folded()),
        }
    }

    /// Everything that can speak against a registration, before anything is changed.
    fn admit(&self, registration: &Registration) -> Result<(), Refusal> {
        let node = self.state.nodes.get(&registration.node.name.folded());
        if !(registration.skip_node_update && node.is_some()) {
            self.admit_node(&registration.node)?;
        }
        let new = registration.service.as_ref().map(|service| service.id.folded());
        for instance in registration.checks.iter().filter_map(|check| check.service_id.as_ref()) {
            let key = instance.folded();
            if new.as_ref() != Some(&key) && !node.is_some_and(|node| node.instances.contains_key(&key)) {
                let (node, instance) = (registration.node.name.clone(), instance.clone());
                return Err(Refusal::MissingInstance { node, instance });
            }
        }
        Ok(())
    }

    /// A name may move to a node with another id only when its holder has no id or is known to be dead.
    fn admit_node(&self, node: &Node) -> Result<(), Refusal> {
        let Some(holder) = self.state.nodes.get(&node.name.folded()) else { return Ok(()) };
        let held = &holder.node.value;
        if node.id.is_empty() || held.id.is_empty() || held.id == node.id || !is_alive(holder) {
            return Ok(());
        }
        Err(Refusal::NodeNameTaken {
            name: node.name.clone(),
            holder: held.id.clone(),
            holder_address: held.address.clone(),
            id: node.id.clone(),
        })
    }

    fn put_node(&mut self, node: &Node) {
        let key = node.name.folded();
        let mut node = node.clone();
        if let Some(old) = self.state.nodes.get(&key)
            && node.id.is_empty()
        {
            node.id = old.node.value.id.clone();
        }
        self.move_id(&node, &key);
        let old = self.state.nodes.get(&key);
        if old.is_some_and(|old| old.node.value == node) {
            return;
        }
        if let Some(old) = old {
            self.state.addresses.remove_node(&old.node.value);
        }
        self.state.addresses.put_node(&node);
        let created = old.map_or(self.index, |old| old.node.created);
        let stored = Stored { value: node, created, modified: self.index };
        let entry = match old {
            Some(old) => NodeEntry { node: stored, ..(**old).clone() },
            None => NodeEntry::new(stored),
        };
        self.touch_services_of(&entry);
        if !entry.checks.is_empty() {
            self.touched.insert(Topic::Checks);
        }
        self.touched.insert(Topic::Nodes);
        self.touched.insert(Topic::Node(key.clone()));
        self.state.nodes.insert(key, Arc::new(entry));
    }

    /// Keeps ids unique: a node that comes back under another name leaves the old one behind.
    fn move_id(&mut self, node: &Node, key: &Folded) {
        if let Some(old) = self.state.nodes.get(key) {
            let old_id = Folded::new(&old.node.value.id);
            if old.node.value.id != node.id {
                self.state.node_ids.remove(&old_id);
            }
        }
        if node.id.is_empty() {
            return;
        }
        if let Some(other) = self.state.node_ids.insert(Folded::new(&node.id), key.clone())
            && other != *key
        {
            self.remove_node(&other);
            self.state.node_ids.insert(Folded::new(&node.id), key.clone());
        }
    }

    fn put_instance(&mut self, node_key: &Folded, service: &ServiceInstance) {
        let Some(node) = self.state.nodes.get(node_key) else { return };
        let id = service.id.folded();
        let old = node.instances.get(&id).cloned();
        if old.as_ref().is_some_and(|old| old.service.value == *service) {
            return;
        }
        if let Some(old) = &old {
            self.note_relabelled_checks(old, service);
            if old.service.value.name.folded() == service.name.folded() {
                self.state.addresses.remove_instance(node_key, &old.service.value);
            } else {
                self.leave_service(node_key, old);
            }
        }
        self.state.addresses.put_instance(node_key, service);
        let created = old.as_ref().map_or(self.index, |old| old.service.created);
        let stored = Stored { value: service.clone(), created, modified: self.index };
        let checks = old.map(|old| old.checks.clone()).unwrap_or_default();
        self.touched.insert(Topic::Node(node_key.clone()));
        self.store_instance(node_key, Instance { service: stored, checks });
    }

    /// Checks show the name and tags of their instance, so they change with them.
    fn note_relabelled_checks(&mut self, old: &Instance, new: &ServiceInstance) {
        let was = &old.service.value;
        if !old.checks.is_empty() && (was.name != new.name || was.tags != new.tags) {
            self.touched.insert(Topic::Checks);
        }
    }

    fn put_check(&mut self, node_key: &Folded, check: &Check) {
        let Some(node) = self.state.nodes.get(node_key) else { return };
        let id = check.id.folded();
        let old = node.checks.get(&id).cloned();
        if old.as_ref().is_some_and(|old| old.value == *check) {
            return;
        }
        if let Some(old) = &old
            && old.value.service_id.as_ref().map(InstanceId::folded)
                != check.service_id.as_ref().map(InstanceId::folded)
        {
            self.detach_check(node_key, old);
        }
        let created = old.map_or(self.index, |old| old.created);
        let stored = Arc::new(Stored { value: check.clone(), created, modified: self.index });
        self.edit_node(node_key, |node| {
            node.checks.insert(id.clone(), stored.clone());
            if check.service_id.is_none() {
                node.own_checks.insert(id, stored.clone());
            }
        });
        self.touched.insert(Topic::Checks);
        self.touched.insert(Topic::Node(node_key.clone()));
        match &check.service_id {
            Some(instance) => self.edit_instance(node_key, &instance.folded(), |old| old.with_check(stored)),
            None => self.touch_all_services_on(node_key),
        }
    }

    /// Takes a check away from whatever it belongs to; the node's list of all checks is left to the caller.
    fn detach_check(&mut self, node_key: &Folded, check: &Stored<Check>) {
        let id = check.value.id.folded();
        match &check.value.service_id {
            Some(instance) => {
                self.edit_instance(node_key, &instance.folded(), |old| old.without_check(&id));
            }
            None => {
                self.edit_node(node_key, |node| {
                    node.own_checks.remove(&id);
                });
                self.touch_all_services_on(node_key);
            }
        }
    }

    fn remove_check(&mut self, node_key: &Folded, id: &Folded) {
        let Some(check) = self.state.nodes.get(node_key).and_then(|node| node.checks.get(id)).cloned() else {
            return;
        };
        self.detach_check(node_key, &check);
        self.edit_node(node_key, |node| {
            node.checks.remove(id);
        });
        self.touched.insert(Topic::Checks);
        self.touched.insert(Topic::Node(node_key.clone()));
    }

    fn remove_instance(&mut self, node_key: &Folded, id: &Folded) {
        let Some(instance) = self.state.nodes.get(node_key).and_then(|node| node.instances.get(id)).cloned()
        else {
            return;
        };
        self.leave_service(node_key, &instance);
        self.edit_node(node_key, |node| {
            node.instances.remove(id);
            for check in &instance.checks {
                node.checks.remove(&check.value.id.folded());
            }
        });
        if !instance.checks.is_empty() {
            self.touched.insert(Topic::Checks);
        }
        self.touched.insert(Topic::Node(node_key.clone()));
    }

    fn remove_node(&mut self, node_key: &Folded) {
        let Some(node) = self.state.nodes.remove(node_key) else { return };
        for instance in node.instances.values() {
            self.leave_service(node_key, instance);
        }
        self.state.node_ids.remove(&Folded::new(&node.node.value.id));
        self.state.addresses.remove_node(&node.node.value);
        self.forget_coordinate(node_key);
        if !node.checks.is_empty() {
            self.touched.insert(Topic::Checks);
        }
        self.touched.insert(Topic::Nodes);
        self.touched.insert(Topic::Node(node_key.clone()));
    }

    /// Takes an instance out of its service, and the service out of the catalog with its last instance.
    fn leave_service(&mut self, node_key: &Folded, instance: &Instance) {
        let service_key = instance.service.value.name.folded();
        self.remember_label(&service_key);
        self.state.addresses.remove_instance(node_key, &instance.service.value);
        let Some(service) = self.state.services.get_mut(&service_key) else { return };
        let entry = Arc::make_mut(service);
        entry.remove(&(node_key.clone(), instance.service.value.id.folded()));
        if entry.instances.is_empty() {
            self.state.services.remove(&service_key);
        }
        self.touched.insert(Topic::Service(service_key));
    }

    fn remember_label(&mut self, service: &Folded) {
        if !self.labels.contains_key(service) {
            self.labels.insert(service.clone(), self.state.service_label(service));
        }
    }

    fn edit_node(&mut self, key: &Folded, edit: impl FnOnce(&mut NodeEntry)) {
        if let Some(node) = self.state.nodes.get_mut(key) {
            edit(Arc::make_mut(node));
        }
    }

    fn edit_instance(&mut self, node_key: &Folded, id: &Folded, edit: impl FnOnce(&Instance) -> Instance) {
        let Some(node) = self.state.nodes.get(node_key) else { return };
        let Some(instance) = node.instances.get(id) else { return };
        let edited = edit(instance);
        self.store_instance(node_key, edited);
    }

    /// Writes an instance into both tables that hold it.
    fn store_instance(&mut self, node_key: &Folded, instance: Instance) {
        let id = instance.service.value.id.folded();
        let service_key = instance.service.value.name.folded();
        let instance = Arc::new(instance);
        self.remember_label(&service_key);
        let service: &mut Arc<ServiceEntry> = self.state.services.entry(service_key.clone()).or_default();
        Arc::make_mut(service).put((node_key.clone(), id.clone()), instance.clone());
        self.touched.insert(Topic::Service(service_key));
        self.edit_node(node_key, |node| {
            node.instances.insert(id, instance);
        });
    }

    fn touch_all_services_on(&mut self, node_key: &Folded) {
        if let Some(node) = self.state.nodes.get(node_key).cloned() {
            self.touch_services_of(&node);
        }
    }

    fn touch_services_of(&mut self, node: &NodeEntry) {
        self.touched.extend(node.service_keys().into_iter().map(Topic::Service));
    }
}

/// Of several checks with one id only the last counts; going through the others would move indexes for nothing.
fn last_of_each(checks: &[Check]) -> Vec<&Check> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<&Check> = checks.iter().rev().filter(|check| seen.insert(check.id.folded())).collect();
    last.reverse();
    last
}

fn is_alive(node: &NodeEntry) -> bool {
    let liveness = node.own_checks.get(Folded::new(LIVENESS_CHECK).as_str());
    liveness.is_none_or(|check| check.value.status != Status::Critical)
}

impl State {
    fn service_label(&self, key: &Folded) -> Option<Label> {
        self.services.get(key).map(|service| service.label())
    }

    pub(super) fn set_topic_index(&mut self, topic: &Topic, index: Index) {
        match topic {
            Topic::Catalog => self.topics.catalog = index,
            Topic::Nodes => self.topics.nodes = index,
            Topic::Services => self.topics.services = index,
            Topic::Checks => self.topics.checks = index,
            Topic::Autopilot => self.topics.autopilot = index,
            Topic::Coordinates => self.topics.coordinates = index,
            Topic::Queries => self.queries.index = index,
            Topic::Node(key) => match self.nodes.get_mut(key) {
                Some(node) => {
                    Arc::make_mut(node).index = index;
                    self.topics.gone_nodes.forget(key);
                }
                None => self.topics.gone_nodes.add(key.clone(), index),
            },
            Topic::Service(key) => match self.services.get_mut(key) {
                Some(service) => {
                    Arc::make_mut(service).index = index;
                    self.topics.gone_services.forget(key);
                }
                None => self.topics.gone_services.add(key.clone(), index),
            },
            Topic::Key(key) => self.keys.set_index(key, index),
            // As new as the newest of its keys.
            Topic::Prefix(_) => {}
            Topic::Sessions => self.sessions.index = index,
            Topic::Session(id) => self.sessions.set_session_index(id, index),
            Topic::NodeSessions(node) => self.sessions.set_node_index(node, index),
            Topic::Leases => self.sessions.leases_index = index,
        }
    }
}

/// Who owns a name or an id, for diagnostics and duties.
impl State {
    /// Whether the node has this instance.
    pub fn has_instance(&self, node: &NodeName, id: &InstanceId) -> bool {
        self.nodes.get(&node.folded()).is_some_and(|node| node.instances.contains_key(&id.folded()))
    }

    /// Whether the node has this check.
    pub fn has_check(&self, node: &NodeName, id: &CheckId) -> bool {
        self.nodes.get(&node.folded()).is_some_and(|node| node.checks.contains_key(&id.folded()))
    }
}
