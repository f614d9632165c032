//! What the agent runs at one moment, for readers: immutable, cheap to hold, published anew at each change.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;
use tribune_core::{Check, CheckKind, CheckSpec, Folded, ServiceInstance, Status};

/// What stands for the node itself among the owners of checks: no service has an empty id.
pub(crate) const NODE_OWNER: &str = "";

/// Services and checks of this node at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) services: OrdMap<Folded, Arc<LocalService>>,
    pub(crate) checks: OrdMap<Folded, Arc<LocalCheck>>,
    /// Which checks belong to which service, or to the node.
    pub(crate) owned: OrdSet<(Folded, Folded)>,
}

/// A service of this node. The same `Arc` stays in all snapshots until the service itself changes.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalService {
    /// As it stands.
    pub instance: ServiceInstance,
    /// The tags it was registered with, when others may tag it and did.
    pub registered_tags: Option<Box<[SmolStr]>>,
    /// Where it came from.
    pub origin: Origin,
}

/// A check of this node with its current state.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalCheck {
    /// As it was registered.
    pub spec: Arc<CheckSpec>,
    /// What kind of check that is.
    pub kind: CheckKind,
    /// Where it came from.
    pub origin: Origin,
    /// Current status.
    pub status: Status,
    /// What the last result that counted said.
    pub output: Arc<str>,
}

/// Who defined something, and so where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody through the API; kept on disk until they remove it.
    Api,
    /// A configuration file; present for as long as the file says so.
    File,
}

impl Snapshot {
    /// All services by the folded form of their id.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<LocalService>> {
        self.services.values()
    }

    /// All checks by the folded form of their id.
    pub fn checks(&self) -> impl ExactSizeIterator<Item = &Arc<LocalCheck>> {
        self.checks.values()
    }

    /// One service by id, in any letter case.
    pub fn service(&self, id: &str) -> Option<&Arc<LocalService>> {
        self.services.get(&Folded::new(id))
    }

    /// One check by id, in any letter case.
    pub fn check(&self, id: &str) -> Option<&Arc<LocalCheck>> {
        self.checks.get(&Folded::new(id))
    }

    /// The checks of one service, not those of the node.
    pub fn checks_of(&self, service_id: &str) -> impl Iterator<Item = &Arc<LocalCheck>> {
        let owner = Folded::new(service_id);
        self.check_keys_of(owner).filter_map(|key| self.checks.get(key))
    }

    /// The checks that belong to no service.
    pub fn node_checks(&self) -> impl Iterator<Item = &Arc<LocalCheck>> {
        self.check_keys_of(Folded::new(NODE_OWNER)).filter_map(|key| self.checks.get(key))
    }

    pub(crate) fn check_keys_of(&self, owner: Folded) -> impl Iterator<Item = &Folded> {
        let first = (owner.clone(), Folded::new(""));
        self.owned.range(first..).take_while(move |(service, _)| *service == owner).map(|(_, check)| check)
    }
}

impl LocalService {
    /// As it was registered.
    pub fn registered(&self) -> ServiceInstance {
        let tags = self.registered_tags.as_ref().unwrap_or(&self.instance.tags);
        ServiceInstance { tags: tags.clone(), ..self.instance.clone() }
    }
}

impl LocalCheck {
    /// The check as the catalog shows it.
    pub fn to_check(&self) -> Check {
        self.spec.to_check(self.kind, self.status, self.output.clone())
    }
}
