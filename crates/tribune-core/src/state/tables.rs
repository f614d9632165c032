//! The rows of the catalog's tables and how they hang together.
//!
//! An instance is shared between the node it runs on and the service it belongs to; a check between its node and
//! its instance. All maps are ordered by folded names, so every list comes out sorted as Consul's clients expect.

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::ids::{Folded, Index, ServiceName};
use crate::model::{Check, Node, ServiceInstance, Stored};

/// The persistent ordered map behind every table.
pub(super) type Map<K, V> = imbl::OrdMap<K, V>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeEntry {
    pub(super) node: Stored<Node>,
    /// When anything about this node last changed.
    pub(super) index: Index,
    pub(super) instances: Map<Folded, Arc<Instance>>,
    /// All checks, those of instances included.
    pub(super) checks: Map<Folded, Arc<Stored<Check>>>,
    /// The checks that belong to no instance.
    pub(super) own_checks: Map<Folded, Arc<Stored<Check>>>,
}

impl NodeEntry {
    pub(super) fn new(node: Stored<Node>) -> Self {
        let index = node.modified;
        Self { node, index, instances: Map::new(), checks: Map::new(), own_checks: Map::new() }
    }

    /// The services that have an instance here, each once.
    pub(super) fn service_keys(&self) -> BTreeSet<Folded> {
        self.instances.values().map(|instance| instance.service.value.name.folded()).collect()
    }
}

/// An instance with its checks, which are sorted by folded id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance {
    pub(super) service: Stored<ServiceInstance>,
    pub(super) checks: Box<[Arc<Stored<Check>>]>,
}

impl Instance {
    pub(super) fn without_check(&self, check: &Folded) -> Self {
        let rest = self.checks.iter().filter(|held| held.value.id.folded() != *check).cloned();
        Self { service: self.service.clone(), checks: rest.collect() }
    }

    pub(super) fn with_check(&self, check: Arc<Stored<Check>>) -> Self {
        let key = check.value.id.folded();
        let mut checks = self.without_check(&key).checks.into_vec();
        let at = checks.partition_point(|held| held.value.id.folded() < key);
        checks.insert(at, check);
        Self { service: self.service.clone(), checks: checks.into_boxed_slice() }
    }
}

/// All instances of one service; never without any while it is in the table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ServiceEntry {
    /// When anything about its instances, their nodes or their checks last changed.
    pub(super) index: Index,
    /// By node and instance id.
    pub(super) instances: Map<(Folded, Folded), Arc<Instance>>,
    /// How many instances carry each tag.
    tag_counts: Map<SmolStr, u32>,
}

impl ServiceEntry {
    /// The name as its first instance writes it; others may differ in letter case.
    pub(super) fn name(&self) -> Option<&ServiceName> {
        self.instances.get_min().map(|(_, instance)| &instance.service.value.name)
    }

    /// The tags that at least one instance carries, in order.
    pub(super) fn tags(&self) -> impl Iterator<Item = &SmolStr> {
        self.tag_counts.keys()
    }

    /// Puts an instance; says whether the service's name or set of tags changed.
    pub(super) fn put(&mut self, key: (Folded, Folded), instance: Arc<Instance>) -> bool {
        let name = self.name().cloned();
        let old = self.instances.insert(key, instance.clone());
        let before = old.as_ref().map(|old| &*old.service.value.tags);
        let retagged = self.recount_tags(before.unwrap_or_default(), &instance.service.value.tags);
        retagged || self.name() != name.as_ref()
    }

    /// Takes an instance out; says whether the service's name or set of tags changed.
    pub(super) fn remove(&mut self, key: &(Folded, Folded)) -> bool {
        let name = self.name().cloned();
        let Some(old) = self.instances.remove(key) else { return false };
        let retagged = self.recount_tags(&old.service.value.tags, &[]);
        retagged || self.name() != name.as_ref()
    }

    fn recount_tags(&mut self, before: &[SmolStr], after: &[SmolStr]) -> bool {
        if before == after {
            return false;
        }
        let before: BTreeSet<&SmolStr> = before.iter().collect();
        let after: BTreeSet<&SmolStr> = after.iter().collect();
        let mut changed = false;
        for tag in after.difference(&before) {
            let count = self.tag_counts.get(tag.as_str()).copied().unwrap_or(0);
            self.tag_counts.insert((*tag).clone(), count + 1);
            changed |= count == 0;
        }
        for tag in before.difference(&after) {
            match self.tag_counts.get(tag.as_str()).copied() {
                Some(count) if count > 1 => {
                    self.tag_counts.insert((*tag).clone(), count - 1);
                }
                _ => {
                    self.tag_counts.remove(tag.as_str());
                    changed = true;
                }
            }
        }
        changed
    }
}
