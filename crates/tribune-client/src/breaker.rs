//! The circuit breaker of one agent. Pure: time comes in as an argument.
//!
//! ```text
//!            failures_max failures in a row
//!   closed ─────────────────────────────────▶ open
//!     ▲                                       │  ▲
//!     │ all probes                cool-down   │  │ one probe
//!     │ succeeded                  is over    ▼  │ failed
//!     └────────────────────────────────── half-open   (lets `probes` requests through, no more)
//! ```
//!
//! Every admitted request gets a [`Ticket`]. A result counts only in the phase that admitted it: an answer that
//! was asked for long ago says nothing about how the agent is now.

use std::time::{Duration, Instant};

/// When a breaker opens and how it closes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row that open it; at least 1.
    pub failures_max: u32,
    /// How long it stays open.
    pub cool_down: Duration,
    /// Requests let through after that; all must succeed. At least 1.
    pub probes: u32,
}

impl Default for Thresholds {
    /// Five failures, a minute, three probes.
    fn default() -> Self {
        Self { failures_max: 5, cool_down: Duration::from_secs(60), probes: 3 }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everything passes.
    Closed,
    /// Nothing passes until the cool-down is over.
    Open,
    /// A few probes pass.
    HalfOpen,
}

/// Leave to send one request. Hand it back with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    phase_number: u64,
}

/// Decides whether an agent is asked at all.
#[derive(Debug, Clone)]
pub struct Breaker {
    thresholds: Thresholds,
    /// Grows with each change of phase, so that a ticket knows whether it is still of use.
    phase_number: u64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { under_way: u32, succeeded: u32 },
}

impl Breaker {
    /// A closed breaker.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, phase_number: 0, state: State::Closed { failures: 0 } }
    }

    /// Where it stands at `now`.
    pub fn phase(&self, now: Instant) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { until } if now < until => Phase::Open,
            State::Open { .. } | State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    /// Asks for leave to send a request. Refused, it says how long there is no point in asking again; zero
    /// means as soon as a probe that is under way has come back.
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen { under_way: 0, succeeded: 0 });
        }
        if let State::HalfOpen { under_way, succeeded } = &mut self.state {
            if *under_way + *succeeded >= self.thresholds.probes.max(1) {
                return Err(Duration::ZERO);
            }
            *under_way += 1;
        }
        Ok(Ticket { phase_number: self.phase_number })
    }

    /// The request was answered.
    pub fn succeeded(&mut self, ticket: Ticket) {
        if ticket.phase_number != self.phase_number {
            return;
        }
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            State::HalfOpen { under_way, succeeded } => {
                *under_way -= 1;
                *succeeded += 1;
                if *succeeded >= self.thresholds.probes.max(1) {
                    self.enter(State::Closed { failures: 0 });
                }
            }
            State::Open { .. } => {}
        }
    }

    /// The request failed in a way that speaks against the agent.
    pub fn failed(&mut self, ticket: Ticket, now: Instant) {
        if ticket.phase_number != self.phase_number {
            return;
        }
        let opens = match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                *failures >= self.thresholds.failures_max
            }
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if opens {
            self.enter(State::Open { until: now + self.thresholds.cool_down });
        }
    }

    /// The request was given up by the caller before anything could be learnt from it.
    pub fn abandoned(&mut self, ticket: Ticket) {
        if ticket.phase_number == self.phase_number
            && let State::HalfOpen { under_way, .. } = &mut self.state
        {
            *under_way -= 1;
        }
    }

    fn enter(&mut self, state: State) {
        self.phase_number += 1;
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLDS: Thresholds =
        Thresholds { failures_max: 2, cool_down: Duration::from_secs(60), probes: 2 };

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Admit,
        /// Result for the oldest ticket at hand.
        Succeed,
        Fail,
        Abandon,
        /// Thirty seconds pass.
        Pass,
    }
    const STEPS: [Step; 5] = [Step::Admit, Step::Succeed, Step::Fail, Step::Abandon, Step::Pass];

    /// The rules once more, told by history instead of by counters.
    struct Story {
        breaker: Breaker,
        now: Instant,
        tickets: Vec<Ticket>,
        opened: Option<Instant>,
    }

    impl Story {
        fn new() -> Self {
            Self { breaker: Breaker::new(THRESHOLDS), now: Instant::now(), tickets: vec![], opened: None }
        }

        fn take(&mut self, step: Step) {
            let before = self.breaker.phase(self.now);
            match step {
                Step::Pass => self.now += Duration::from_secs(30),
                Step::Admit => self.admit(before),
                Step::Succeed | Step::Fail | Step::Abandon => {
                    if !self.tickets.is_empty() {
                        let ticket = self.tickets.remove(0);
                        self.report(step, ticket, before);
                    }
                }
            }
            self.bounded();
        }

        fn admit(&mut self, before: Phase) {
            let in_half_open = self.counting();
            match (before, self.breaker.admit(self.now)) {
                (Phase::Closed, answer) => self.tickets.push(answer.expect("a closed breaker admits")),
                (Phase::Open, answer) => {
                    let left = answer.expect_err("an open breaker refuses");
                    assert_eq!(self.opened.unwrap() + THRESHOLDS.cool_down, self.now + left);
                }
                (Phase::HalfOpen, Ok(ticket)) => {
                    assert!(in_half_open < THRESHOLDS.probes as usize);
                    self.tickets.push(ticket);
                }
                (Phase::HalfOpen, Err(left)) => assert_eq!(left, Duration::ZERO),
            }
        }

        fn report(&mut self, step: Step, ticket: Ticket, before: Phase) {
            let current = ticket.phase_number == self.breaker.phase_number;
            match step {
                Step::Succeed => self.breaker.succeeded(ticket),
                Step::Fail => self.breaker.failed(ticket, self.now),
                _ => self.breaker.abandoned(ticket),
            }
            let after = self.breaker.phase(self.now);
            match (before, after) {
                (Phase::Closed, Phase::Open) | (Phase::HalfOpen, Phase::Open) => {
                    assert!(current && matches!(step, Step::Fail));
                    self.opened = Some(self.now);
                }
                (Phase::HalfOpen, Phase::Closed) => assert!(current && matches!(step, Step::Succeed)),
                (Phase::HalfOpen, Phase::HalfOpen) => assert!(!current || !matches!(step, Step::Fail)),
                (before, after) => assert_eq!(before, after),
            }
        }

        /// Tickets at hand that still count.
        fn counting(&self) -> usize {
            let number = self.breaker.phase_number;
            self.tickets.iter().filter(|ticket| ticket.phase_number == number).count()
        }

        fn bounded(&self) {
            if let State::HalfOpen { under_way, succeeded } = self.breaker.state {
                assert_eq!(under_way as usize, self.counting());
                assert!(under_way + succeeded <= THRESHOLDS.probes);
            }
        }
    }

    /// All stories of eight steps: every state is reached and every transition out of it is taken.
    #[test]
    fn every_short_story_keeps_the_rules() {
        let mut phases = [0_u32; 3];
        for number in 0..STEPS.len().pow(8) {
            let mut story = Story::new();
            let mut rest = number;
            for _ in 0..8 {
                story.take(STEPS[rest % STEPS.len()]);
                rest /= STEPS.len();
            }
            phases[story.breaker.phase(story.now) as usize] += 1;
        }
        assert!(phases.iter().all(|&count| count > 0), "{phases:?}");
    }

    proptest! {
        #[test]
        fn long_stories_keep_the_rules(steps in prop::collection::vec(0..STEPS.len(), 0..400)) {
            let mut story = Story::new();
            for step in steps {
                story.take(STEPS[step]);
            }
        }
    }

    #[test]
    fn the_whole_way_round() {
        let mut breaker = Breaker::new(Thresholds::default());
        let mut now = Instant::now();
        for _ in 0..5 {
            let ticket = breaker.admit(now).unwrap();
            breaker.failed(ticket, now);
        }
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(60)));
        now += Duration::from_secs(60);
        let probes: Vec<Ticket> = (0..3).map(|_| breaker.admit(now).unwrap()).collect();
        assert_eq!(breaker.admit(now), Err(Duration::ZERO), "a fourth probe must not pass");
        probes.into_iter().for_each(|ticket| breaker.succeeded(ticket));
        assert_eq!(breaker.phase(now), Phase::Closed);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(Thresholds::default());
        let now = Instant::now();
        for round in 0..50 {
            let ticket = breaker.admit(now).unwrap();
            if round % 5 == 4 { breaker.succeeded(ticket) } else { breaker.failed(ticket, now) }
        }
        assert_eq!(breaker.phase(now), Phase::Closed);
    }

    #[test]
    fn an_abandoned_probe_makes_room_for_another() {
        let mut breaker = Breaker::new(Thresholds { failures_max: 1, probes: 1, ..Thresholds::default() });
        let mut now = Instant::now();
        let ticket = breaker.admit(now).unwrap();
        breaker.failed(ticket, now);
        now += Duration::from_secs(60);
        let probe = breaker.admit(now).unwrap();
        breaker.abandoned(probe);
        assert!(breaker.admit(now).is_ok());
    }
}
