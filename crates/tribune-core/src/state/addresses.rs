//! Who is reached at an address, for questions that begin with one.
//!
//! Without this table such a question goes through the whole catalog, and a few of them a second are enough to
//! keep a server from everything else.

use std::net::IpAddr;

use super::tables::Map;
use crate::ids::Folded;
use crate::model::{Node, ServiceInstance};

/// Addresses that are host names are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Addresses {
    nodes: imbl::OrdSet<(IpAddr, Folded)>,
    /// By address, service and node: how many instances of the service the node has there.
    instances: Map<(IpAddr, Folded, Folded), u32>,
}

impl Addresses {
    pub(super) fn put_node(&mut self, node: &Node) {
        if let Ok(ip) = node.address.parse() {
            self.nodes.insert((ip, node.name.folded()));
        }
    }

    pub(super) fn remove_node(&mut self, node: &Node) {
        if let Ok(ip) = node.address.parse() {
            self.nodes.remove(&(ip, node.name.folded()));
        }
    }

    pub(super) fn put_instance(&mut self, node: &Folded, service: &ServiceInstance) {
        if let Ok(ip) = service.address.parse() {
            *self.instances.entry((ip, service.name.folded(), node.clone())).or_default() += 1;
        }
    }

    pub(super) fn remove_instance(&mut self, node: &Folded, service: &ServiceInstance) {
        let Ok(ip) = service.address.parse() else { return };
        let key = (ip, service.name.folded(), node.clone());
        match self.instances.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.instances.remove(&key);
            }
        }
    }

    /// The nodes with this address, by folded name.
    pub(super) fn nodes_at(&self, ip: IpAddr) -> impl Iterator<Item = &Folded> {
        let from = (ip, Folded::new(""));
        self.nodes.range(from..).take_while(move |(at, _)| *at == ip).map(|(_, node)| node)
    }

    /// The services with instances that have this address as their own, each with a node that has such an
    /// instance, by folded names.
    pub(super) fn services_at(&self, ip: IpAddr) -> impl Iterator<Item = (&Folded, &Folded)> {
        let from = (ip, Folded::new(""), Folded::new(""));
        let found = self.instances.range(from..).take_while(move |((at, _, _), _)| *at == ip);
        found.map(|((_, service, node), _)| (service, node))
    }
}
