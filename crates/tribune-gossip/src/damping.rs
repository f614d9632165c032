//! What keeps one bad link or one overloaded node from taking others for dead. Pure: time comes in.
//!
//! * [`Health`] is how well this node itself does: the worse, the more time it gives the others.
//! * [`Hearing`] is whether it hears anything at all: a node that hears nobody does not judge anybody.
//! * [`Failures`] sees when many members fail at once, which is more often a fault of the network than of all of
//!   them, and puts on the [`Brake`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The worst that a node may think of itself; times are multiplied by one more.
const SCORE_MAX: u32 = 8;

/// The most by which a suspected member's time is multiplied.
const PATIENCE_MAX: u32 = 3;

/// Fewer failures than this never put on the brake.
const BRAKE_FAILURES_MIN: usize = 3;

/// Failures remembered for the brake.
const FAILURES_MAX: usize = 16_384;

/// How well this node does, judged by what it sees of itself.
#[derive(Debug, Default)]
pub(crate) struct Health {
    score: u32,
}

impl Health {
    /// A probe was answered: the others hear us and we hear them.
    pub(crate) fn probe_answered(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// A probe was not answered, directly or through others.
    pub(crate) fn probe_failed(&mut self) {
        self.worse();
    }

    /// Others took us for dead and we had to object.
    pub(crate) fn suspected(&mut self) {
        self.worse();
    }

    /// The time that a suspected member has, made longer by how bad it is here.
    pub(crate) fn patience(&self, time: Duration) -> Duration {
        time * (self.score + 1).min(PATIENCE_MAX)
    }

    /// A time between probes, made longer by how bad it is.
    pub(crate) fn stretch(&self, time: Duration) -> Duration {
        time * (self.score + 1)
    }

    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    fn worse(&mut self) {
        self.score = (self.score + 1).min(SCORE_MAX);
    }
}

/// Whether this node hears the others.
#[derive(Debug)]
pub(crate) struct Hearing {
    heard: Instant,
}

impl Hearing {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now }
    }

    /// Something came from somebody.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether the silence is more likely to be here than there: several others are known, and not one of them
    /// was heard for a time in which this node probed some. With one or two others there is nothing to compare.
    pub(crate) fn is_deaf(&self, now: Instant, others: usize, probe_interval: Duration) -> bool {
        others >= 3 && now.duration_since(self.heard) > probe_interval * 5 / 2
    }
}

/// Whether the catalog should follow what the members seem to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brake {
    /// Members fail one by one, if at all.
    Off,
    /// Many members failed at once: more than a quarter of them, at least three, within seconds. Whoever keeps a
    /// catalog keeps its last good answers until the members return or the brake is released.
    On {
        /// Since when.
        since: Instant,
        /// So many of those members are still away.
        failed: usize,
    },
}

/// Who failed lately, and whether that was too many at once.
#[derive(Debug)]
pub(crate) struct Failures<K> {
    window: Duration,
    bound: Duration,
    recent: VecDeque<(Instant, K)>,
    /// Those who failed together, while the brake is on.
    away: BTreeSet<K>,
    since: Option<Instant>,
}

impl<K: Ord + Copy> Failures<K> {
    pub(crate) fn new(window: Duration, bound: Duration) -> Self {
        Self { window, bound, recent: VecDeque::new(), away: BTreeSet::new(), since: None }
    }

    /// A member failed; `active` members, this node included, are left.
    pub(crate) fn failed(&mut self, now: Instant, who: K, active: usize) {
        self.expire(now);
        if self.recent.len() < FAILURES_MAX {
            self.recent.push_back((now, who));
        }
        if self.since.is_some() {
            self.away.insert(who);
        } else if too_many(self.recent.len(), active) {
            self.since = Some(now);
            self.away = self.recent.iter().map(|(_, who)| *who).collect();
        }
    }

    /// A member is back, or gone for good by its own word or somebody's.
    pub(crate) fn settled(&mut self, who: K, active: usize) {
        self.recent.retain(|(_, failed)| *failed != who);
        if self.away.remove(&who) && !too_many(self.away.len(), active) {
            self.release();
        }
    }

    /// Looks at the clock.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.expire(now);
        if self.since.is_some_and(|since| now.duration_since(since) >= self.bound) {
            self.release();
        }
    }

    pub(crate) fn brake(&self) -> Brake {
        match self.since {
            Some(since) => Brake::On { since, failed: self.away.len() },
            None => Brake::Off,
        }
    }

    fn release(&mut self) {
        self.since = None;
        self.away.clear();
        // Those who are still away have been reckoned with; they do not put the brake on again.
        self.recent.clear();
    }

    fn expire(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > self.window) {
            self.recent.pop_front();
        }
    }
}

/// More than a quarter of those that were there.
fn too_many(failed: usize, active: usize) -> bool {
    failed >= BRAKE_FAILURES_MIN && failed * 4 > active + failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);
    const BOUND: Duration = Duration::from_secs(180);

    fn second(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_in_trouble_gives_more_time_and_recovers() {
        let mut health = Health::default();
        let time = Duration::from_secs(1);
        assert_eq!(health.stretch(time), time);
        for _ in 0..20 {
            health.probe_failed();
        }
        assert_eq!((health.score(), health.stretch(time)), (8, time * 9));
        health.suspected();
        for _ in 0..8 {
            health.probe_answered();
        }
        assert_eq!(health.stretch(time), time);
    }

    #[test]
    fn who_hears_nobody_judges_nobody() {
        let start = Instant::now();
        let mut hearing = Hearing::new(start);
        let interval = Duration::from_secs(1);
        assert!(!hearing.is_deaf(second(start, 2), 5, interval));
        assert!(hearing.is_deaf(second(start, 3), 5, interval));
        assert!(!hearing.is_deaf(second(start, 3), 2, interval), "with two others it may well be them");
        hearing.heard(second(start, 3));
        assert!(!hearing.is_deaf(second(start, 4), 5, interval));
    }

    #[test]
    fn single_failures_do_not_brake() {
        let start = Instant::now();
        let mut failures = Failures::new(WINDOW, BOUND);
        for number in 0..20 {
            failures.failed(second(start, number * 11), number, 20);
            assert_eq!(failures.brake(), Brake::Off);
        }
        let mut failures = Failures::new(WINDOW, BOUND);
        failures.failed(start, 1, 2);
        failures.failed(start, 2, 1);
        assert_eq!(failures.brake(), Brake::Off, "two of three: the number says nothing yet");
    }

    #[test]
    fn many_failures_at_once_brake_until_enough_return() {
        let start = Instant::now();
        let mut failures = Failures::new(WINDOW, BOUND);
        for number in 0..5 {
            failures.failed(second(start, number), number, 15 - number as usize);
        }
        assert_eq!(failures.brake(), Brake::On { since: second(start, 4), failed: 5 });
        failures.failed(second(start, 5), 5, 10);
        failures.settled(0, 11);
        assert!(matches!(failures.brake(), Brake::On { failed: 5, .. }));
        failures.settled(1, 12);
        assert_eq!(failures.brake(), Brake::Off, "a quarter and no more is away");
    }

    #[test]
    fn the_brake_does_not_hold_for_ever() {
        let start = Instant::now();
        let mut failures = Failures::new(WINDOW, BOUND);
        for number in 0..8 {
            failures.failed(start, number, 15 - number as usize);
        }
        failures.tick(second(start, 179));
        assert!(matches!(failures.brake(), Brake::On { .. }));
        failures.tick(second(start, 180));
        assert_eq!(failures.brake(), Brake::Off);
        failures.settled(3, 9);
        assert_eq!(failures.brake(), Brake::Off);
    }
}
