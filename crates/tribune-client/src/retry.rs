//! How often and after which pauses something is tried again. Pure: chance comes in as an argument.

use std::time::Duration;

/// When to try again, and when to give up.
///
/// Before attempt *n*+1 the caller waits a random time between nothing and `delay_base` × 2ⁿ⁻¹ ("full jitter"):
/// clients that failed together do not come back together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often all agents are tried before the call fails; at least 1, and 1 means no repetition.
    pub attempts_max: u32,
    /// Upper bound of the first pause; it doubles with each further attempt.
    pub delay_base: Duration,
    /// No pause is longer than this.
    pub delay_max: Duration,
}

impl Default for Policy {
    /// Four attempts within about one and a half seconds of pauses.
    fn default() -> Self {
        Self { attempts_max: 4, delay_base: Duration::from_millis(250), delay_max: Duration::from_secs(30) }
    }
}

impl Policy {
    /// One attempt, no repetition: what a person at a command line wants.
    pub fn once() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }

    /// The pause after `attempt` failed attempts (1 and up); `chance` is a random number from 0 up to 1.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let bound = self.delay_base.saturating_mul(1 << doublings).min(self.delay_max);
        bound.mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Repetitions a client has saved up. While agents are healthy it is full; when everything fails it runs dry,
/// and the client then adds no more than a tenth to the load of agents that have trouble already.
#[derive(Debug, Clone)]
pub struct Budget {
    tenths: u32,
}

impl Budget {
    /// Most repetitions that can be saved up: enough for a short outage hitting several calls at once.
    pub const REPETITIONS_MAX: u32 = 20;

    /// A full budget.
    pub fn new() -> Self {
        Self { tenths: Self::REPETITIONS_MAX * 10 }
    }

    /// A call succeeded: a tenth of a repetition is earned.
    pub fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(Self::REPETITIONS_MAX * 10);
    }

    /// Takes one repetition out; `false` when there is none left.
    pub fn spend(&mut self) -> bool {
        let enough = self.tenths >= 10;
        if enough {
            self.tenths -= 10;
        }
        enough
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let policy = Policy {
            attempts_max: 9,
            delay_base: Duration::from_secs(1),
            delay_max: Duration::from_secs(10),
        };
        let longest: Vec<u64> = (1..=6).map(|attempt| policy.delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 10, 10]);
        assert_eq!(policy.delay(u32::MAX, 1.0), Duration::from_secs(10));
        assert_eq!(policy.delay(3, 0.0), Duration::ZERO);
        assert_eq!(policy.delay(3, 0.5), Duration::from_secs(2));
    }

    #[test]
    fn a_budget_runs_dry_and_is_earned_back_by_successes() {
        let mut budget = Budget::new();
        let spent = (0..100).filter(|_| budget.spend()).count();
        assert_eq!(spent, Budget::REPETITIONS_MAX as usize);
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend());
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), Budget::REPETITIONS_MAX as usize);
    }
}
