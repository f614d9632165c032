//! Checks that copy the state of a service, or of the node, on this same node: told at each change, never probed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tribune_core::check::Change;
use tribune_core::{CheckKind, Folded, Status, Timestamp};

use super::{Key, Registry};
use crate::probe::alias::{Seen, worst};
use crate::snapshot::LocalCheck;

impl Registry {
    pub(super) fn follow(&mut self, key: &Folded, check: &LocalCheck) {
        if is_local_alias(check) {
            let followed = Folded::new(&check.spec.definition.alias_service);
            self.aliases.entry(followed).or_default().insert(key.clone());
        }
    }

    pub(super) fn unfollow(&mut self, key: &Folded, check: &LocalCheck) {
        let followed = Folded::new(&check.spec.definition.alias_service);
        if let Some(aliases) = self.aliases.get_mut(&followed) {
            aliases.remove(key);
            if aliases.is_empty() {
                self.aliases.remove(&followed);
            }
        }
    }

    /// Brings one check up to date if it is an alias.
    pub(super) fn refresh_alias(&mut self, key: &Folded, now: Timestamp) {
        if self.view.checks.get(key).is_some_and(|check| is_local_alias(check)) {
            self.copy_state(key, now);
        }
    }

    /// Brings the aliases of what changed up to date, then the aliases of these, each at most once: two services
    /// may follow one another.
    pub(super) fn refresh_aliases(&mut self, owner: Option<&Folded>, now: Timestamp) {
        if self.aliases.is_empty() {
            return;
        }
        let mut visited: BTreeSet<Folded> = BTreeSet::new();
        let mut wave = self.followers(owner);
        while let Some(key) = wave.pop_first() {
            if !visited.insert(key.clone()) || !self.copy_state(&key, now) {
                continue;
            }
            let owner = self.view.checks.get(&key).and_then(|check| check.spec.service_id.as_ref());
            let owner = owner.map(|id| id.folded());
            wave.extend(self.followers(owner.as_ref()));
        }
    }

    /// Who follows this service; all aliases when a check of the node itself changed, which counts for each.
    fn followers(&self, owner: Option<&Folded>) -> BTreeSet<Folded> {
        match owner {
            Some(owner) => self.aliases.get(owner).cloned().unwrap_or_default(),
            None => self.aliases.values().flatten().cloned().collect(),
        }
    }

    /// `true` when the alias has another status now.
    fn copy_state(&mut self, key: &Folded, now: Timestamp) -> bool {
        let Some(old) = self.view.checks.get(key).cloned() else { return false };
        let (status, output) = self.state_behind(key, &old.spec.definition.alias_service);
        let output: Arc<str> = if self.outputs.discarded { Arc::from("") } else { Arc::from(output) };
        let Some(machine) = self.machines.get_mut(key) else { return false };
        let change = machine.machine.report(now, status, output.clone());
        self.arm(key);
        let Some(change) = change else { return false };
        let check = Arc::new(LocalCheck { status, output, ..(*old).clone() });
        self.view.checks.insert(key.clone(), check.clone());
        self.pending.publish = true;
        self.mark([Key::Check(key.clone())]);
        let Change::Status { from, .. } = change else { return false };
        self.note_transition(key, check, from);
        true
    }

    fn state_behind(&self, alias: &Folded, service: &str) -> (Status, String) {
        if !service.is_empty() && self.view.service(service).is_none() {
            return (Status::Critical, format!("Service {service} could not be found on this node"));
        }
        let of_service = (!service.is_empty()).then(|| self.view.checks_of(service)).into_iter().flatten();
        let all = self.view.node_checks().chain(of_service);
        let others = all.filter(|check| check.spec.id.folded() != *alias);
        worst(others.map(|check| Seen {
            name: &check.spec.name,
            status: check.status,
            output: &check.output,
        }))
    }
}

/// Whether it follows something on this node.
fn is_local_alias(check: &LocalCheck) -> bool {
    check.kind == CheckKind::Alias && !check.spec.watches_other_node()
}
