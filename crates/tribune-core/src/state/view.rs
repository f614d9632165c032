//! Questions put to a state. All of them go through a [`View`], which shows what its authority may read.

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;

use super::State;
use super::tables::{Instance, NodeEntry, ServiceEntry};
use crate::authority::Authority;
use crate::ids::{Folded, NodeName, ServiceName};
use crate::model::{Check, Node, ServiceInstance, Status, Stored};

/// A state as one caller may see it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    state: &'a State,
    pub(super) authority: &'a Authority,
}

/// A node and what is on it.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    view: View<'a>,
    entry: &'a NodeEntry,
}

/// A service by name.
#[derive(Debug, Clone, Copy)]
pub struct ServiceView<'a> {
    name: &'a ServiceName,
    entry: &'a ServiceEntry,
}

/// An instance with its node and its checks.
#[derive(Debug, Clone, Copy)]
pub struct InstanceView<'a> {
    /// The node it runs on.
    pub node: &'a Stored<Node>,
    /// The instance itself.
    pub service: &'a Stored<ServiceInstance>,
    entry: &'a NodeEntry,
    checks: &'a [Arc<Stored<Check>>],
}

/// A check with the node it is on and the instance it belongs to, if any.
#[derive(Debug, Clone, Copy)]
pub struct CheckView<'a> {
    /// The node it is on.
    pub node: &'a Stored<Node>,
    /// The check itself.
    pub check: &'a Stored<Check>,
    /// The instance it belongs to.
    pub service: Option<&'a ServiceInstance>,
}

impl State {
    /// The state as seen under `authority`.
    pub fn view<'a>(&'a self, authority: &'a Authority) -> View<'a> {
        View { state: self, authority }
    }
}

impl<'a> View<'a> {
    /// The state behind the view, for indexes.
    pub fn state(&self) -> &'a State {
        self.state
    }

    /// All nodes by folded name.
    pub fn nodes(self) -> impl Iterator<Item = NodeView<'a>> {
        let nodes =
            self.state.nodes.values().filter(move |node| self.authority.reads_node(&node.node.value.name));
        nodes.map(move |entry| NodeView { view: self, entry })
    }

    /// One node by name, in any letter case.
    pub fn node(self, name: &str) -> Option<NodeView<'a>> {
        let entry = self.state.nodes.get(Folded::new(name).as_str())?;
        self.authority.reads_node(&entry.node.value.name).then_some(NodeView { view: self, entry })
    }

    /// The only node whose id starts with `prefix`; `None` when none or several do.
    pub fn node_by_id_prefix(self, prefix: &str) -> Option<NodeView<'a>> {
        let prefix = Folded::new(prefix);
        let mut matches = self
            .state
            .node_ids
            .range(prefix.clone()..)
            .take_while(|(id, _)| id.as_str().starts_with(prefix.as_str()));
        let (_, key) = matches.next()?;
        if matches.next().is_some() {
            return None;
        }
        self.node(key.as_str())
    }

    /// The first node, by name, that has this address.
    pub fn node_at(self, ip: IpAddr) -> Option<NodeView<'a>> {
        self.state.addresses.nodes_at(ip).find_map(|node| self.node(node.as_str()))
    }

    /// The first service, by name, with an instance that has this address as its own.
    pub fn service_at(self, ip: IpAddr) -> Option<ServiceView<'a>> {
        let mut found = self.state.addresses.services_at(ip);
        found.find_map(|(service, node)| self.node(node.as_str()).and(self.service(service.as_str())))
    }

    /// All services by folded name.
    pub fn services(self) -> impl Iterator<Item = ServiceView<'a>> {
        self.state.services.values().filter_map(move |entry| self.see(entry))
    }

    /// One service by name, in any letter case.
    pub fn service(self, name: &str) -> Option<ServiceView<'a>> {
        self.see(self.state.services.get(Folded::new(name).as_str())?)
    }

    fn see(self, entry: &'a ServiceEntry) -> Option<ServiceView<'a>> {
        let name = entry.name()?;
        self.authority.reads_service(name).then_some(ServiceView { name, entry })
    }

    /// The instances of a service, ordered by node and instance id; none when there is no such service.
    pub fn instances(self, service: &str) -> impl Iterator<Item = InstanceView<'a>> {
        let visible = self.service(service).map(|service| service.entry);
        let mut last: Option<(&'a Folded, &'a Arc<NodeEntry>)> = None;
        visible.into_iter().flat_map(|entry| entry.instances.iter()).filter_map(
            move |((node, _), instance)| {
                let entry = match last {
                    Some((key, entry)) if key == node => entry,
                    _ => self.state.nodes.get(node)?,
                };
                last = Some((node, entry));
                let view = InstanceView::new(entry, instance);
                self.authority.reads_node(&view.node.value.name).then_some(view)
            },
        )
    }

    /// All checks, ordered by node and check id.
    pub fn checks(self) -> impl Iterator<Item = CheckView<'a>> {
        self.nodes().flat_map(|node| node.checks())
    }

    /// How many instances there are in all services.
    pub fn instance_count(self) -> usize {
        self.state.services.values().map(|service| service.instances.len()).sum()
    }
}

impl<'a> NodeView<'a> {
    /// The node record.
    pub fn node(&self) -> &'a Stored<Node> {
        &self.entry.node
    }

    /// The node's name.
    pub fn name(&self) -> &'a NodeName {
        &self.entry.node.value.name
    }

    /// What runs on it, ordered by instance id.
    pub fn instances(&self) -> impl Iterator<Item = InstanceView<'a>> + use<'a> {
        let (view, entry) = (self.view, self.entry);
        let instances = entry.instances.values().map(|instance| InstanceView::new(entry, instance));
        instances.filter(move |instance| view.authority.reads_service(&instance.service.value.name))
    }

    /// One instance on it.
    pub fn instance(&self, id: &str) -> Option<InstanceView<'a>> {
        let instance = self.entry.instances.get(Folded::new(id).as_str())?;
        let view = InstanceView::new(self.entry, instance);
        self.view.authority.reads_service(&view.service.value.name).then_some(view)
    }

    /// All checks on it, those of its instances included, ordered by check id.
    pub fn checks(&self) -> impl Iterator<Item = CheckView<'a>> + use<'a> {
        let (view, entry) = (self.view, self.entry);
        entry.checks.values().filter_map(move |check| {
            let seen = CheckView::new(entry, check);
            let service = seen.service.map(|service| &service.name);
            service.is_none_or(|name| view.authority.reads_service(name)).then_some(seen)
        })
    }

    /// One check on it.
    pub fn check(&self, id: &str) -> Option<CheckView<'a>> {
        let check = self.entry.checks.get(Folded::new(id).as_str())?;
        Some(CheckView::new(self.entry, check))
    }
}

impl<'a> ServiceView<'a> {
    /// The name of the service.
    pub fn name(&self) -> &'a ServiceName {
        self.name
    }

    /// The tags that at least one instance carries, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &'a SmolStr> + use<'a> {
        self.entry.tags()
    }

    /// How many instances it has, healthy or not.
    pub fn instance_count(&self) -> usize {
        self.entry.instances.len()
    }
}

impl<'a> InstanceView<'a> {
    fn new(entry: &'a NodeEntry, instance: &'a Instance) -> Self {
        Self { node: &entry.node, service: &instance.service, entry, checks: &instance.checks }
    }

    /// The checks of its node, then its own; each group ordered by check id.
    pub fn checks(&self) -> impl Iterator<Item = CheckView<'a>> + use<'a> {
        let entry = self.entry;
        self.node_checks().chain(self.own_checks()).map(move |check| CheckView::new(entry, check))
    }

    /// The checks of its node that belong to no instance.
    pub fn node_checks(&self) -> impl Iterator<Item = &'a Stored<Check>> + use<'a> {
        self.entry.own_checks.values().map(Arc::as_ref)
    }

    /// The checks of this instance.
    pub fn own_checks(&self) -> impl Iterator<Item = &'a Stored<Check>> + use<'a> {
        self.checks.iter().map(Arc::as_ref)
    }

    /// The worst of all its checks and its node's; passing when there is none.
    pub fn status(&self) -> Status {
        let all = self.node_checks().chain(self.own_checks());
        all.map(|check| check.value.status).max().unwrap_or(Status::Passing)
    }

    /// Where it is reached: its own address, else its node's.
    pub fn address(&self) -> &'a str {
        let own = self.service.value.address.as_str();
        if own.is_empty() { self.node.value.address.as_str() } else { own }
    }
}

impl<'a> CheckView<'a> {
    fn new(entry: &'a NodeEntry, check: &'a Stored<Check>) -> Self {
        let instance = check.value.service_id.as_ref().and_then(|id| entry.instances.get(&id.folded()));
        Self { node: &entry.node, check, service: instance.map(|instance| &instance.service.value) }
    }
}
