//! One check's life: results, renewals and the clock in, status changes and the next deadline out.
//!
//! ```text
//!   Interval:  wait ── tick at deadline ──▶ probing ── result ──▶ wait
//!   Ttl:       wait ── renewal ──▶ wait (later) ;  wait ── tick at deadline ──▶ expired ── renewal ──▶ wait
//!   Told:      no deadline of its own; `report` sets the status
//!   Any of them: critical for long enough ──▶ Event::RemoveService
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::spec::{CheckKind, CheckSpec, INTERVAL_MIN};
use crate::model::Status;
use crate::time::Timestamp;

/// Services that have been critical for too long are looked for this often.
const REMOVAL_GRANULARITY_MS: u64 = 30_000;

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// How the other end is, by this one look.
    pub status: Status,
    /// What it said, already cut to size.
    pub output: Arc<str>,
    /// How long it took to answer.
    pub took: Duration,
}

/// What a result or the clock changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The status, and perhaps the output.
    Status {
        /// What it was.
        from: Status,
        /// What it is now.
        to: Status,
    },
    /// Only the output.
    Output,
}

/// What the passing of time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Probe now. The machine waits for the [`CheckMachine::result`] before it asks again.
    Probe,
    /// A TTL ran out.
    Changed(Change),
    /// It has been critical for so long that its service is to be removed. Asked again until it is.
    RemoveService,
}

/// The state machine of one check.
#[derive(Debug, Clone)]
pub struct CheckMachine {
    schedule: Schedule,
    thresholds: Thresholds,
    status: Status,
    output: Arc<str>,
    good: u32,
    bad: u32,
    next: Option<Timestamp>,
    removal: Option<Removal>,
}

#[derive(Debug, Clone, Copy)]
enum Schedule {
    Interval(Duration),
    Ttl(Duration),
    Told,
}

#[derive(Debug, Clone, Copy)]
struct Thresholds {
    good: u32,
    warning: u32,
    critical: u32,
    slow_warning: Option<Duration>,
    slow_critical: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Removal {
    after: Duration,
    at: Option<Timestamp>,
}

impl CheckMachine {
    /// A check that begins its life `now`, its first probe `offset` later. The offset is drawn at random below
    /// the interval by the caller, so that checks defined together are not all probed at the same moment.
    pub fn new(spec: &CheckSpec, kind: CheckKind, now: Timestamp, offset: Duration) -> Self {
        let schedule = match (kind, spec.definition.ttl) {
            (CheckKind::Ttl, Some(ttl)) => Schedule::Ttl(ttl),
            // Another node's state has to be watched for; this node's is told.
            _ if kind.probes() || spec.watches_other_node() => {
                Schedule::Interval(spec.definition.interval.unwrap_or_default().max(INTERVAL_MIN))
            }
            _ => Schedule::Told,
        };
        let next = match schedule {
            Schedule::Interval(_) => Some(now.after(offset)),
            Schedule::Ttl(ttl) => Some(now.after(ttl)),
            Schedule::Told => None,
        };
        let mut machine = Self {
            schedule,
            thresholds: Thresholds::of(spec),
            status: spec.status,
            output: Arc::from(""),
            good: 0,
            bad: 0,
            next,
            removal: spec.removal_after().map(|after| Removal { after, at: None }),
        };
        machine.watch_for_removal(now);
        machine
    }

    /// Takes over status and output of the same check's earlier life, when its definition was replaced.
    pub fn carry(&mut self, status: Status, output: Arc<str>, now: Timestamp) {
        self.set(status, output, now);
    }

    /// Takes over a renewal from before a restart, which is good until `expires`.
    pub fn restore(&mut self, status: Status, output: Arc<str>, expires: Timestamp, now: Timestamp) {
        if let Schedule::Ttl(ttl) = self.schedule {
            self.set(status, output, now);
            self.next = Some(expires.min(now.after(ttl)));
        }
    }

    /// Takes the result of a probe.
    pub fn result(&mut self, now: Timestamp, observation: Observation) -> Option<Change> {
        if let Schedule::Interval(interval) = self.schedule {
            self.next = Some(now.after(interval));
        }
        let Observation { status, output, took } = observation;
        let (seen, output) = self.thresholds.weigh(status, output, took);
        let reached = self.count(seen)?;
        self.set(reached, output, now)
    }

    /// A service says how it is: good for one TTL from now.
    pub fn renew(&mut self, now: Timestamp, status: Status, output: Arc<str>) -> Option<Change> {
        if let Schedule::Ttl(ttl) = self.schedule {
            self.next = Some(now.after(ttl));
        }
        self.set(status, output, now)
    }

    /// Somebody who knows says how it is (the checks behind an alias): counts at once.
    pub fn report(&mut self, now: Timestamp, status: Status, output: Arc<str>) -> Option<Change> {
        self.set(status, output, now)
    }

    /// What is due at `now`. To be called until it gives `None`.
    pub fn tick(&mut self, now: Timestamp) -> Option<Event> {
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
            match self.schedule {
                Schedule::Interval(_) => return Some(Event::Probe),
                Schedule::Ttl(_) => {
                    let output = expired(&self.output);
                    if let Some(change) = self.set(Status::Critical, output, now) {
                        return Some(Event::Changed(change));
                    }
                }
                Schedule::Told => {}
            }
        }
        let removal = self.removal.as_mut()?;
        if removal.at.is_some_and(|at| at <= now) {
            removal.at = Some(next_look(now.after(Duration::from_millis(1))));
            return Some(Event::RemoveService);
        }
        None
    }

    /// When [`Self::tick`] has something to say, unless a result or renewal comes first.
    pub fn deadline(&self) -> Option<Timestamp> {
        let removal = self.removal.and_then(|removal| removal.at);
        match (self.next, removal) {
            (Some(next), Some(removal)) => Some(next.min(removal)),
            (next, removal) => next.or(removal),
        }
    }

    /// When a TTL check runs out if it is not renewed; `None` for other checks and once it has.
    pub fn expires(&self) -> Option<Timestamp> {
        match self.schedule {
            Schedule::Ttl(_) => self.next,
            Schedule::Interval(_) | Schedule::Told => None,
        }
    }

    /// The current status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What the last result that counted said.
    pub fn output(&self) -> &Arc<str> {
        &self.output
    }

    /// Counts a result; gives the status that is reached by it, `None` while there are too few in a row.
    fn count(&mut self, seen: Status) -> Option<Status> {
        if seen == Status::Critical {
            self.good = 0;
            self.bad = self.bad.saturating_add(1);
            if self.bad >= self.thresholds.critical {
                return Some(Status::Critical);
            }
            // A failure never makes a check better than it is.
            return (self.bad >= self.thresholds.warning).then_some(self.status.max(Status::Warning));
        }
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        (self.good >= self.thresholds.good).then_some(seen)
    }

    fn set(&mut self, status: Status, output: Arc<str>, now: Timestamp) -> Option<Change> {
        let from = std::mem::replace(&mut self.status, status);
        let said = std::mem::replace(&mut self.output, output);
        if from != status {
            self.watch_for_removal(now);
            return Some(Change::Status { from, to: status });
        }
        (said != self.output).then_some(Change::Output)
    }

    fn watch_for_removal(&mut self, now: Timestamp) {
        let critical = self.status == Status::Critical;
        if let Some(removal) = &mut self.removal {
            removal.at = critical.then(|| next_look(now.after(removal.after)));
        }
    }
}

impl Thresholds {
    fn of(spec: &CheckSpec) -> Self {
        let critical = spec.failures_before_critical.max(1);
        let warning = match spec.failures_before_warning {
            0 => critical,
            count => count,
        };
        Self {
            good: spec.success_before_passing,
            warning,
            critical,
            slow_warning: spec.slow_warning,
            slow_critical: spec.slow_critical,
        }
    }

    /// A result in the light of how long it took.
    fn weigh(&self, status: Status, output: Arc<str>, took: Duration) -> (Status, Arc<str>) {
        let reached = |limit: Option<Duration>| limit.is_some_and(|limit| took >= limit);
        let slow = match () {
            () if reached(self.slow_critical) => Status::Critical,
            () if reached(self.slow_warning) => Status::Warning,
            () => Status::Passing,
        };
        if slow <= status {
            return (status, output);
        }
        (slow, Arc::from(format!("slow answer, it took {} ms: {output}", took.as_millis())))
    }
}

/// The first moment at or after `at` when removals are looked for.
fn next_look(at: Timestamp) -> Timestamp {
    let looks = at.0.div_ceil(REMOVAL_GRANULARITY_MS);
    Timestamp(looks.saturating_mul(REMOVAL_GRANULARITY_MS))
}

fn expired(last: &str) -> Arc<str> {
    const EXPIRED: &str = "TTL expired";
    if last.is_empty() || last.starts_with(EXPIRED) {
        return Arc::from(EXPIRED);
    }
    Arc::from(format!("{EXPIRED} (last output before timeout follows): {last}"))
}
