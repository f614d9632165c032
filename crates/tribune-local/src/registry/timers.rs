//! Deadlines of thousands of checks in one heap.
//!
//! An entry is left where it is when its check gets more time: a renewal costs nothing here. When it comes up the
//! machine is asked, and says that it is too early.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tribune_core::check::Event;
use tribune_core::{Folded, Timestamp};

use super::Registry;
use crate::snapshot::LocalCheck;

/// How many deadlines are looked at under one lock, so that a mass expiry does not hold up renewals.
const DUE_MAX: usize = 512;

/// What the runner is to do.
pub(crate) enum Due {
    /// Probe and bring the result.
    Probe { key: Folded, generation: u64, check: Arc<LocalCheck> },
    /// Remove a service that has been critical for too long.
    Remove { service: Folded, check: Folded },
}

impl Registry {
    /// Makes sure that the check comes up at its deadline.
    pub(super) fn arm(&mut self, key: &Folded) {
        let Some(machine) = self.machines.get_mut(key) else { return };
        let Some(deadline) = machine.machine.deadline() else { return };
        if machine.scheduled.is_some_and(|scheduled| scheduled <= deadline) {
            return;
        }
        machine.scheduled = Some(deadline);
        let first = self.timers.peek().is_none_or(|Reverse((at, ..))| deadline < *at);
        self.pending.timers |= first;
        self.timers.push(Reverse((deadline, machine.generation, key.clone())));
    }

    /// When the next check comes up.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets the checks whose time has come act. There may be more left than one call handles.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for _ in 0..DUE_MAX {
            if self.next_deadline().is_none_or(|at| at > now) {
                break;
            }
            let Some(Reverse((at, generation, key))) = self.timers.pop() else { break };
            self.act(&key, generation, at, now, &mut due);
        }
        due
    }

    /// Remembers how to stop a probe that runs.
    pub(crate) fn probing(&mut self, key: &Folded, generation: u64, probe: AbortHandle) {
        match self.machines.get_mut(key) {
            Some(machine) if machine.generation == generation => machine.probe = Some(probe),
            _ => probe.abort(),
        }
    }

    fn act(&mut self, key: &Folded, generation: u64, at: Timestamp, now: Timestamp, due: &mut Vec<Due>) {
        loop {
            let Some(machine) = self.machines.get_mut(key) else { return };
            if machine.generation != generation {
                return;
            }
            if machine.scheduled == Some(at) {
                machine.scheduled = None;
            }
            let Some(event) = machine.machine.tick(now) else { break };
            let Some(check) = self.view.checks.get(key) else { return };
            match event {
                Event::Probe => due.push(Due::Probe { key: key.clone(), generation, check: check.clone() }),
                Event::Changed(change) => self.note(key, Some(change), now),
                Event::RemoveService => {
                    let service = check.spec.service_id.as_ref().map(|id| id.folded());
                    due.extend(service.map(|service| Due::Remove { service, check: key.clone() }));
                }
            }
        }
        self.arm(key);
    }
}
