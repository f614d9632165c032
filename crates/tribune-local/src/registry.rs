//! The agent's list and the machines of its checks: every change to them is a method here, made under one short
//! lock and without waiting for anything.
//!
//! What a change entails outside (publish, write, wake, tell) is collected and handed out by
//! [`Registry::settle`].

mod aliases;
mod checks;
mod timers;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tribune_core::{Check, CheckKind, CheckMachine, CheckSpec, Folded, ServiceInstance, Status, Timestamp};

use crate::snapshot::{LocalCheck, LocalService, Origin, Snapshot};
use crate::store::Op;

pub(crate) use timers::Due;

/// Something that the catalog has its own copy of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// A service with its checks.
    Service(Folded),
    /// A check alone.
    Check(Folded),
}

/// How outputs are treated.
#[derive(Debug, Clone)]
pub(crate) struct OutputRules {
    pub(crate) held_back: Duration,
    pub(crate) discarded: bool,
}

/// The list, changeable.
pub(crate) struct Registry {
    view: Snapshot,
    outputs: OutputRules,
    machines: HashMap<Folded, Machine>,
    timers: BinaryHeap<Reverse<(Timestamp, u64, Folded)>>,
    /// Aliases on this node by the service they follow; those of the node itself under the empty name.
    aliases: HashMap<Folded, BTreeSet<Folded>>,
    /// What the catalog has yet to be told.
    dirty: BTreeSet<Key>,
    /// New outputs that wait for their time.
    held: BTreeSet<(Timestamp, Folded)>,
    /// TTL checks whose renewal is worth writing down.
    unsaved_states: BTreeSet<Folded>,
    /// What could not be written to disk.
    unsaved: BTreeSet<Key>,
    generations: u64,
    pending: Pending,
}

struct Machine {
    machine: CheckMachine,
    /// Tells this life of the check from earlier ones under the same id.
    generation: u64,
    scheduled: Option<Timestamp>,
    probe: Option<AbortHandle>,
    output_due: Option<Timestamp>,
    /// Whether people were told that it is critical, and so are to be told when it no longer is.
    alerted: bool,
    saved_until: Timestamp,
}

/// A check that changed its status.
pub(crate) struct Transition {
    pub(crate) check: Arc<LocalCheck>,
    pub(crate) from: Status,
}

#[derive(Default)]
struct Pending {
    publish: bool,
    services: bool,
    timers: bool,
    sync: bool,
    transitions: Vec<Transition>,
}

/// What is to be done once a change is made.
pub(crate) struct Settled {
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) services: bool,
    pub(crate) timers: bool,
    pub(crate) sync: bool,
    pub(crate) transitions: Vec<Transition>,
}

/// What putting something into the list came to.
#[derive(Debug, Default)]
pub(crate) struct Put {
    pub(crate) changed: bool,
    pub(crate) ops: Vec<Op>,
}

/// Which checks of a service that its new definition does not name go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Keep,
    /// All but the one that says it is in maintenance.
    Remove,
    /// Those that came from files.
    RemoveFromFiles,
}

impl Registry {
    pub(crate) fn new(outputs: OutputRules) -> Self {
        Self {
            view: Snapshot::default(),
            outputs,
            machines: HashMap::new(),
            timers: BinaryHeap::new(),
            aliases: HashMap::new(),
            dirty: BTreeSet::new(),
            held: BTreeSet::new(),
            unsaved_states: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            generations: 0,
            pending: Pending::default(),
        }
    }

    pub(crate) fn view(&self) -> &Snapshot {
        &self.view
    }

    /// Hands out what the changes since the last call entail.
    pub(crate) fn settle(&mut self) -> Settled {
        let pending = std::mem::take(&mut self.pending);
        Settled {
            snapshot: pending.publish.then(|| Arc::new(self.view.clone())),
            services: pending.services,
            timers: pending.timers,
            sync: pending.sync,
            transitions: pending.transitions,
        }
    }

    /// Puts a service with its checks. Checks that are there already keep their status.
    pub(crate) fn put_service(
        &mut self,
        instance: &ServiceInstance,
        checks: &[(CheckSpec, CheckKind)],
        (origin, others): (Origin, Others),
        now: Timestamp,
    ) -> Put {
        let key = instance.id.folded();
        let mut put = Put::default();
        let old = self.view.services.get(&key);
        if !old.is_some_and(|old| old.registered() == *instance && old.origin == origin) {
            match origin {
                Origin::Api => put.ops.push(Op::PutService(instance.clone())),
                Origin::File if old.is_some_and(|old| old.origin == Origin::Api) => {
                    put.ops.push(Op::RemoveService(key.clone()));
                }
                Origin::File => {}
            }
            let service = LocalService { instance: instance.clone(), registered_tags: None, origin };
            self.view.services.insert(key.clone(), Arc::new(service));
            self.pending.services = true;
            self.pending.publish = true;
            put.changed = true;
        }
        self.remove_others(&key, checks, others, &mut put);
        for (spec, kind) in checks {
            let spec = CheckSpec { service_id: Some(instance.id.clone()), ..spec.clone() };
            self.put_check(spec, *kind, origin, now, &mut put);
        }
        if put.changed {
            self.refresh_aliases(Some(&key), now);
        }
        let key = Key::Service(key);
        if self.unsaved.remove(&key) {
            put.ops.extend(self.saved_form(&key));
        }
        put
    }

    fn remove_others(
        &mut self,
        service: &Folded,
        keep: &[(CheckSpec, CheckKind)],
        others: Others,
        put: &mut Put,
    ) {
        let keep: BTreeSet<Folded> = keep.iter().map(|(spec, _)| spec.id.folded()).collect();
        let goes = |check: &LocalCheck| match others {
            Others::Keep => false,
            Others::Remove => check.kind != CheckKind::Maintenance,
            Others::RemoveFromFiles => check.origin == Origin::File,
        };
        let owned = self.view.check_keys_of(service.clone()).filter(|key| !keep.contains(*key));
        let gone: Vec<Folded> = owned
            .filter(|key| self.view.checks.get(*key).is_some_and(|check| goes(check)))
            .cloned()
            .collect();
        for key in gone {
            self.drop_check(&key, &mut put.ops);
            self.dirty.insert(Key::Check(key));
            self.pending.sync = true;
            put.changed = true;
        }
    }

    /// Removes a service with its checks. `false` when there is none.
    pub(crate) fn remove_service(&mut self, key: &Folded, ops: &mut Vec<Op>, now: Timestamp) -> bool {
        let Some(service) = self.view.services.remove(key) else { return false };
        if service.origin == Origin::Api {
            ops.push(Op::RemoveService(key.clone()));
        }
        let owned: Vec<Folded> = self.view.check_keys_of(key.clone()).cloned().collect();
        for check in owned {
            self.drop_check(&check, ops);
        }
        self.refresh_aliases(Some(key), now);
        self.pending.services = true;
        self.pending.publish = true;
        true
    }

    /// Takes over the tags that others gave a service which lets them.
    pub(crate) fn adopt(&mut self, instance: ServiceInstance) {
        let key = instance.id.folded();
        let Some(old) = self.view.services.get(&key) else { return };
        let expected = ServiceInstance { tags: old.instance.tags.clone(), ..instance.clone() };
        if expected != old.instance || old.instance == instance {
            return;
        }
        let registered_tags = Some(old.registered().tags);
        let adopted = LocalService { instance, registered_tags, origin: old.origin };
        self.view.services.insert(key, Arc::new(adopted));
        self.pending.services = true;
        self.pending.publish = true;
    }

    /// Notes what the catalog has yet to be told.
    pub(crate) fn mark(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.extend(keys);
        self.pending.sync = true;
    }

    /// Notes the same without waking anybody: the next attempt comes in its own time.
    pub(crate) fn mark_for_later(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.extend(keys);
    }

    /// Hands out what the catalog has yet to be told.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.dirty)
    }

    /// The checks with a new output that waits for its time.
    pub(crate) fn held_outputs(&self) -> BTreeSet<Folded> {
        self.held.iter().map(|(_, check)| check.clone()).collect()
    }

    /// The catalog has these outputs now. One that changed since waits on.
    pub(crate) fn told(&mut self, checks: &[Check]) {
        for check in checks {
            let key = check.id.folded();
            let current = self.view.checks.get(&key).is_some_and(|known| known.output == check.output);
            if let Some(machine) = self.machines.get_mut(&key)
                && current
                && let Some(due) = machine.output_due.take()
            {
                self.held.remove(&(due, key));
            }
        }
    }

    /// Notes what could not be written to disk.
    pub(crate) fn mark_unsaved(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.unsaved.extend(keys);
    }

    /// Hands out what could not be written to disk.
    pub(crate) fn take_unsaved(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.unsaved)
    }

    /// What brings the disk in line with the list: nothing of it is left there that is not in the list.
    pub(crate) fn saved_form(&self, key: &Key) -> Vec<Op> {
        let check_form = |key: &Folded| match self.view.checks.get(key) {
            Some(check) if check.origin == Origin::Api => Op::PutCheck(Box::new((*check.spec).clone())),
            _ => Op::RemoveCheck(key.clone()),
        };
        match key {
            Key::Check(key) => vec![check_form(key)],
            Key::Service(key) => {
                let service = match self.view.services.get(key) {
                    Some(service) if service.origin == Origin::Api => Op::PutService(service.registered()),
                    _ => Op::RemoveService(key.clone()),
                };
                let checks = self.view.check_keys_of(key.clone()).map(check_form);
                std::iter::once(service).chain(checks).collect()
            }
        }
    }

    /// Notes a change of status for those who are to be told: that it turned critical, and that it no longer is.
    /// The critical state in which checks begin is nobody's news, and so neither is its end.
    fn note_transition(&mut self, key: &Folded, check: Arc<LocalCheck>, from: Status) {
        let Some(machine) = self.machines.get_mut(key) else { return };
        let critical = check.status == Status::Critical;
        if critical != machine.alerted {
            machine.alerted = critical;
            self.pending.transitions.push(Transition { check, from });
        }
    }

    /// When the next output that was held back is to be told.
    pub(crate) fn next_output_due(&self) -> Option<Timestamp> {
        self.held.first().map(|(due, _)| *due)
    }

    /// Releases the outputs that were held back for long enough.
    pub(crate) fn release_outputs(&mut self, now: Timestamp) {
        while self.held.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.held.pop_first() else { return };
            if let Some(machine) = self.machines.get_mut(&key) {
                machine.output_due = None;
            }
            self.dirty.insert(Key::Check(key));
        }
    }
}
