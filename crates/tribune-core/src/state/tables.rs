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

/// The persistent ordered set beside it.
pub(super) type Set<T> = imbl::OrdSet<T>;

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

    /// What the list of services shows of this one.
    pub(super) fn label(&self) -> Label {
        Label { name: self.name().cloned(), tags: self.tag_counts.clone() }
    }

    pub(super) fn put(&mut self, key: (Folded, Folded), instance: Arc<Instance>) {
        let old = self.instances.insert(key, instance.clone());
        let before = old.as_ref().map(|old| &*old.service.value.tags);
        self.recount_tags(before.unwrap_or_default(), &instance.service.value.tags);
    }

    pub(super) fn remove(&mut self, key: &(Folded, Folded)) {
        if let Some(old) = self.instances.remove(key) {
            self.recount_tags(&old.service.value.tags, &[]);
        }
    }

    fn recount_tags(&mut self, before: &[SmolStr], after: &[SmolStr]) {
        if before == after {
            return;
        }
        let before: BTreeSet<&SmolStr> = before.iter().collect();
        let after: BTreeSet<&SmolStr> = after.iter().collect();
        for tag in after.difference(&before) {
            *self.tag_counts.entry((*tag).clone()).or_default() += 1;
        }
        for tag in before.difference(&after) {
            match self.tag_counts.get_mut(tag.as_str()) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.tag_counts.remove(tag.as_str());
                }
            }
        }
    }
}

/// The name and tags of a service at some moment; two of them are equal when people see no difference.
#[derive(Debug, Clone)]
pub(super) struct Label {
    name: Option<ServiceName>,
    tags: Map<SmolStr, u32>,
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        let same_tags = || self.tags.ptr_eq(&other.tags) || self.tags.keys().eq(other.tags.keys());
        self.name == other.name && same_tags()
    }
}
