//! Checks of the list: putting, removing, and what their results entail.

use std::sync::Arc;
use std::time::Duration;

use tribune_core::check::{Change, Observation};
use tribune_core::{CheckKind, CheckMachine, CheckSpec, Folded, Status, Timestamp};

use super::{Key, Machine, Put, Registry};
use crate::snapshot::{LocalCheck, NODE_OWNER, Origin};
use crate::store::{Op, SavedState};

/// A renewal is written down when what is on disk would run out within this part of the TTL.
const SAVED_SHARE: u32 = 2;

impl Registry {
    /// Puts a check. The same again changes nothing; another one under the same id keeps its status.
    pub(crate) fn put_check(
        &mut self,
        spec: CheckSpec,
        kind: CheckKind,
        origin: Origin,
        now: Timestamp,
        put: &mut Put,
    ) {
        let key = spec.id.folded();
        let old = self.view.checks.get(&key).cloned();
        if old.as_ref().is_some_and(|old| *old.spec == spec && old.origin == origin) {
            let key = Key::Check(key);
            if self.unsaved.remove(&key) {
                put.ops.extend(self.saved_form(&key));
            }
            return;
        }
        match (origin, &old) {
            (Origin::Api, _) => put.ops.push(Op::PutCheck(Box::new(spec.clone()))),
            (Origin::File, Some(old)) if old.origin == Origin::Api => {
                put.ops.push(Op::RemoveCheck(key.clone()));
            }
            (Origin::File, _) => {}
        }
        put.changed = true;
        let mut machine = CheckMachine::new(&spec, kind, now, first_probe_offset(&spec, kind));
        let alerted = self.machines.get(&key).is_some_and(|machine| machine.alerted);
        if let Some(old) = &old {
            machine.carry(old.status, old.output.clone(), now);
            self.forget_check(&key, old);
        }
        self.view.owned.insert((owner_key(&spec), key.clone()));
        let (status, output) = (machine.status(), machine.output().clone());
        let check = LocalCheck { spec: Arc::new(spec), kind, origin, status, output };
        self.generations += 1;
        let machine = Machine {
            machine,
            generation: self.generations,
            scheduled: None,
            probe: None,
            output_due: None,
            alerted,
            saved_until: Timestamp::default(),
        };
        self.machines.insert(key.clone(), machine);
        self.follow(&key, &check);
        let owner = check.spec.service_id.as_ref().map(|id| id.folded());
        self.view.checks.insert(key.clone(), Arc::new(check));
        self.pending.publish = true;
        self.arm(&key);
        self.refresh_alias(&key, now);
        self.refresh_aliases(owner.as_ref(), now);
    }

    /// Removes a check. `false` when there is none.
    pub(crate) fn remove_check(&mut self, key: &Folded, ops: &mut Vec<Op>, now: Timestamp) -> bool {
        let Some(check) = self.view.checks.get(key).cloned() else { return false };
        self.drop_check(key, ops);
        let owner = check.spec.service_id.as_ref().map(|id| id.folded());
        self.refresh_aliases(owner.as_ref(), now);
        true
    }

    pub(super) fn drop_check(&mut self, key: &Folded, ops: &mut Vec<Op>) {
        let Some(check) = self.view.checks.remove(key) else { return };
        // Renewals are kept for checks from files as well.
        if check.origin == Origin::Api || check.kind == CheckKind::Ttl {
            ops.push(Op::RemoveCheck(key.clone()));
        }
        self.forget_check(key, &check);
        self.pending.publish = true;
    }

    /// Ends what runs for a check: its probe, its held output, its aliases.
    fn forget_check(&mut self, key: &Folded, check: &LocalCheck) {
        if let Some(machine) = self.machines.remove(key) {
            if let Some(probe) = machine.probe {
                probe.abort();
            }
            if let Some(due) = machine.output_due {
                self.held.remove(&(due, key.clone()));
            }
        }
        self.view.owned.remove(&(owner_key(&check.spec), key.clone()));
        self.unsaved_states.remove(key);
        self.unfollow(key, check);
    }

    /// Takes the result of a probe, unless the check was replaced meanwhile.
    pub(crate) fn result(&mut self, key: &Folded, generation: u64, seen: Observation, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(key) else { return };
        if machine.generation != generation {
            return;
        }
        machine.probe = None;
        let change = machine.machine.result(now, seen);
        self.arm(key);
        self.note(key, change, now);
    }

    /// A service says how it is. `true` when its status changed by that.
    pub(crate) fn renew(&mut self, key: &Folded, status: Status, output: Arc<str>, now: Timestamp) -> bool {
        let Some(machine) = self.machines.get_mut(key) else { return false };
        let change = machine.machine.renew(now, status, output);
        let expires = machine.machine.expires().unwrap_or_default();
        let changed = matches!(change, Some(Change::Status { .. }));
        let half = expires.since(now) / SAVED_SHARE;
        if changed || machine.saved_until <= now.after(half) {
            self.unsaved_states.insert(key.clone());
        }
        self.arm(key);
        self.note(key, change, now);
        changed
    }

    /// Takes over what a TTL check was told before a restart, if that is good still.
    pub(crate) fn restore(&mut self, key: &Folded, saved: SavedState, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(key) else { return };
        if saved.expires <= now {
            return;
        }
        machine.saved_until = saved.expires;
        let before = machine.machine.status();
        machine.machine.restore(saved.status, Arc::from(saved.output), saved.expires, now);
        let to = machine.machine.status();
        self.arm(key);
        self.note(key, Some(Change::Status { from: before, to }), now);
    }

    /// What is to be written down of these TTL checks.
    pub(crate) fn save_states(&mut self, only: Option<&Folded>) -> Vec<Op> {
        let keys = match only {
            Some(key) => self.unsaved_states.take(key).into_iter().collect(),
            None => std::mem::take(&mut self.unsaved_states),
        };
        keys.into_iter().filter_map(|key| self.save_state(key)).collect()
    }

    fn save_state(&mut self, key: Folded) -> Option<Op> {
        let machine = self.machines.get_mut(&key)?;
        let expires = machine.machine.expires()?;
        machine.saved_until = expires;
        let (status, output) = (machine.machine.status(), machine.machine.output().to_string());
        Some(Op::PutState(key, SavedState { status, output, expires }))
    }

    /// Draws the consequences of a change: the list shows it, the catalog hears of it, aliases follow.
    pub(super) fn note(&mut self, key: &Folded, change: Option<Change>, now: Timestamp) {
        let Some(change) = change else { return };
        let Some(machine) = self.machines.get_mut(key) else { return };
        let Some(old) = self.view.checks.get(key) else { return };
        let output = if self.outputs.discarded { Arc::from("") } else { machine.machine.output().clone() };
        let check = LocalCheck { status: machine.machine.status(), output, ..(**old).clone() };
        if check == **old {
            return;
        }
        let check = Arc::new(check);
        let owner = check.spec.service_id.as_ref().map(|id| id.folded());
        self.view.checks.insert(key.clone(), check.clone());
        self.pending.publish = true;
        match change {
            Change::Status { from, .. } => {
                self.mark([Key::Check(key.clone())]);
                self.note_transition(key, check, from);
                self.refresh_aliases(owner.as_ref(), now);
            }
            Change::Output if self.outputs.held_back.is_zero() => self.mark([Key::Check(key.clone())]),
            Change::Output => self.hold_output(key, now),
        }
    }

    fn hold_output(&mut self, key: &Folded, now: Timestamp) {
        let span = self.outputs.held_back;
        let Some(machine) = self.machines.get_mut(key) else { return };
        if machine.output_due.is_none() {
            // Half the time to one and a half of it, so that checks which change together are told apart.
            let due = now.after(span / 2 + span.mul_f64(rand::random::<f64>()));
            machine.output_due = Some(due);
            self.held.insert((due, key.clone()));
            // The sync sleeps until the first of them.
            self.pending.sync = true;
        }
    }
}

/// Under which name a check stands in the list of what belongs to what.
fn owner_key(spec: &CheckSpec) -> Folded {
    spec.service_id.as_ref().map_or_else(|| Folded::new(NODE_OWNER), |id| id.folded())
}

/// How long after its definition a check is probed first: anywhere within its interval, lest all checks of a
/// file be probed at once for ever.
fn first_probe_offset(spec: &CheckSpec, kind: CheckKind) -> Duration {
    match spec.definition.interval {
        Some(interval) if kind.probes() => interval.mul_f64(rand::random::<f64>()),
        _ => Duration::ZERO,
    }
}
