//! Which of several nodes to ask: what is remembered of each, and the order that follows from it. Pure; time and
//! chance are arguments.
//!
//! ```text
//!            a failure                     a knock is answered
//!  closed ─────────────▶ open, nursed ───────────────────────────▶ closed
//!     ▲                     │      ▲
//!     │                     │      └── a knock is not answered: the next one comes later
//!     │                     │ nobody has wanted it for a while
//!     └── one request ◀── open, left alone
//!         tries it
//! ```
//!
//! One failure is enough to open when nothing was reached: whoever calls it that could not connect, or has knocked in
//! vain. A single lost answer is not: a connection breaks when a node starts again or something in between does, and
//! the only gateway of a datacenter would refuse everybody for it. Such a node only becomes dearer, is knocked at
//! before it gets anything that must not be lost, and is open when what is sent after that is lost too. While all nodes
//! of a datacenter are open, requests to it fail at once; knocks find out when that is over, so that no request has to.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tokio::time::Instant;
use tribune_core::Datacenter;
use tribune_net::Endpoint;

use crate::roster::Candidate;

/// After this time a measurement or a failure counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// How much dearer one recent failure makes a node.
const FAILURE_PRICE: f64 = 4.0;
/// What a node costs of which nothing is known: little, so that it is tried.
const UNKNOWN_ROUND_TRIP: f64 = 0.005;
/// Rest after a first failure; doubles with each further one.
const REST_MIN: Duration = Duration::from_millis(500);
/// Longest rest: with a knock in vain before and one that is answered after it, a link that has healed is used again
/// within a few seconds.
const REST_MAX: Duration = Duration::from_millis(1500);
/// How long a node that is tried again counts as being tried.
const TRIAL: Duration = Duration::from_secs(1);
/// Most nodes remembered; beyond it what no longer is a candidate is forgotten.
const SCORES_MAX: usize = 4096;

/// How a node has answered lately.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkHealth {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether requests go there: it has answered lately, or has not been tried.
    pub is_open: bool,
    /// How long its answers take, smoothed; before the first one, what was told of it.
    pub round_trip: Option<Duration>,
    /// When it last answered.
    pub last_answer: Option<Instant>,
}

/// Why a node counts as not having answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Silence {
    /// It could not be reached, or did not open.
    Gone,
    /// The answer to what was sent to it then did not come, or not all of it.
    Lost(Instant),
}

/// What is remembered of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    scores: HashMap<Endpoint, Score>,
    heard: HashMap<Datacenter, Instant>,
}

#[derive(Debug, Clone)]
struct Score {
    /// Smoothed, in seconds; `None` before the first answer.
    round_trip: Option<f64>,
    /// Failures, each halved once per half-life.
    failures: f64,
    /// Since the last success.
    failures_in_row: u32,
    /// When an answer was lost first since the last success.
    lost_at: Option<Instant>,
    updated: Instant,
    last_success: Option<Instant>,
    rests_until: Option<Instant>,
    /// Whether somebody knocks at it until it opens.
    is_nursed: bool,
    /// Whether its last failure was that it does not know our datacenter.
    is_strange: bool,
    last_wanted: Instant,
}

impl Score {
    fn new(now: Instant) -> Self {
        Self {
            round_trip: None,
            failures: 0.0,
            failures_in_row: 0,
            lost_at: None,
            updated: now,
            last_success: None,
            rests_until: None,
            is_nursed: false,
            is_strange: false,
            last_wanted: now,
        }
    }

    fn decay(&mut self, now: Instant) {
        self.failures *= remaining(now.saturating_duration_since(self.updated));
        self.updated = now;
    }
}

/// The part that is left after `elapsed`.
fn remaining(elapsed: Duration) -> f64 {
    0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

impl Peers {
    /// The candidates that may be asked now, best first. `salt` spreads requests over those that are alike. A node
    /// that was left alone is tried by the one request that finds it in front, while others go on without it.
    pub(crate) fn choose(&mut self, candidates: &[Candidate], now: Instant, salt: u64) -> Vec<Endpoint> {
        self.forget_others(candidates);
        for candidate in candidates {
            if let Some(score) = self.scores.get_mut(&candidate.endpoint) {
                score.last_wanted = now;
            }
        }
        let mut ready: Vec<(f64, &Endpoint)> = candidates
            .iter()
            .filter(|candidate| !self.rests(&candidate.endpoint, now))
            .map(|candidate| (self.cost(candidate, now, salt), &candidate.endpoint))
            .collect();
        ready.sort_by(|a, b| a.0.total_cmp(&b.0));
        let order: Vec<Endpoint> = ready.into_iter().map(|(_, endpoint)| endpoint.clone()).collect();
        if let Some(score) = order.first().and_then(|first| self.scores.get_mut(first))
            && score.rests_until.is_some()
        {
            score.rests_until = Some(now + TRIAL);
        }
        order
    }

    fn rests(&self, endpoint: &Endpoint, now: Instant) -> bool {
        let Some(score) = self.scores.get(endpoint) else { return false };
        score.is_nursed || score.rests_until.is_some_and(|until| until > now)
    }

    fn cost(&self, candidate: &Candidate, now: Instant, salt: u64) -> f64 {
        let score = self.scores.get(&candidate.endpoint);
        let told = candidate.round_trip.map(|span| span.as_secs_f64());
        let measured = score.and_then(|score| score.round_trip).or(told).unwrap_or(UNKNOWN_ROUND_TRIP);
        let failures = score
            .map_or(0.0, |score| score.failures * remaining(now.saturating_duration_since(score.updated)));
        // A millisecond more for all, so that nodes on one network are alike.
        (measured + 0.001) * (1.0 + FAILURE_PRICE * failures) * spread(&candidate.endpoint, salt)
    }

    /// How the candidates have answered lately, the best first.
    pub(crate) fn links(&self, candidates: &[Candidate], now: Instant) -> Vec<LinkHealth> {
        let link = |candidate: &Candidate| {
            let score = self.scores.get(&candidate.endpoint);
            LinkHealth {
                name: candidate.name.clone(),
                endpoint: candidate.endpoint.clone(),
                is_open: !self.rests(&candidate.endpoint, now),
                round_trip: self.measured(&candidate.endpoint).or(candidate.round_trip),
                last_answer: score.and_then(|score| score.last_success),
            }
        };
        let mut sorted: Vec<(f64, LinkHealth)> =
            candidates.iter().map(|candidate| (self.cost(candidate, now, 0), link(candidate))).collect();
        sorted.sort_by(|a, b| b.1.is_open.cmp(&a.1.is_open).then(a.0.total_cmp(&b.0)));
        sorted.into_iter().map(|(_, link)| link).collect()
    }

    /// Whether the node has answered within `span`, and has lost nothing since.
    pub(crate) fn is_proven(&self, endpoint: &Endpoint, now: Instant, span: Duration) -> bool {
        let score = self.scores.get(endpoint).filter(|score| score.lost_at.is_none());
        let last = score.and_then(|score| score.last_success);
        last.is_some_and(|last| now.saturating_duration_since(last) <= span)
    }

    /// The round trip of a node, if one was measured.
    pub(crate) fn measured(&self, endpoint: &Endpoint) -> Option<Duration> {
        self.scores.get(endpoint).and_then(|score| score.round_trip).map(Duration::from_secs_f64)
    }

    /// The smallest round trip among the candidates, as far as one is known.
    pub(crate) fn round_trip(&self, candidates: &[Candidate]) -> Option<Duration> {
        let known = candidates
            .iter()
            .filter_map(|candidate| candidate.round_trip.or_else(|| self.measured(&candidate.endpoint)));
        known.min()
    }

    /// When anything last came from a datacenter.
    pub(crate) fn heard(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.heard.get(datacenter).copied()
    }

    /// Notes that something came from a datacenter.
    pub(crate) fn hear(&mut self, datacenter: &Datacenter, now: Instant) {
        self.heard.insert(datacenter.clone(), now);
    }

    /// Notes an answer. Only answers made without waiting say something about the distance.
    pub(crate) fn succeeded(&mut self, endpoint: &Endpoint, took: Option<Duration>, now: Instant) {
        let score = self.scores.entry(endpoint.clone()).or_insert_with(|| Score::new(now));
        let weight = 1.0 - remaining(now.saturating_duration_since(score.updated)).min(0.75);
        score.decay(now);
        (score.failures_in_row, score.rests_until, score.last_success) = (0, None, Some(now));
        (score.is_nursed, score.is_strange, score.lost_at) = (false, false, None);
        if let Some(took) = took.map(|took| took.as_secs_f64()) {
            score.round_trip = Some(score.round_trip.map_or(took, |old| old + (took - old) * weight));
        }
    }

    /// Notes that the failure just noted was one of a node that is there and does not know our datacenter.
    pub(crate) fn estranged(&mut self, endpoint: &Endpoint) {
        if let Some(score) = self.scores.get_mut(endpoint) {
            score.is_strange = true;
        }
    }

    /// Whether one of the candidates does not know our datacenter.
    pub(crate) fn are_strange(&self, candidates: &[Candidate]) -> bool {
        candidates
            .iter()
            .any(|candidate| self.scores.get(&candidate.endpoint).is_some_and(|score| score.is_strange))
    }

    /// Notes that there was no answer, and has the node rest unless that may have been an accident. Whether the caller
    /// is to nurse it, which it then must.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint, silence: Silence, now: Instant, salt: u64) -> bool {
        let score = self.scores.entry(endpoint.clone()).or_insert_with(|| Score::new(now));
        score.decay(now);
        score.failures += 1.0;
        score.is_strange = false;
        let is_first = score.lost_at.is_none();
        if let Silence::Lost(sent) = silence
            && score.rests_until.is_none()
        {
            let before = *score.lost_at.get_or_insert(now);
            // All that was under way on a connection is lost with it: that is one failure.
            if is_first || sent < before {
                return false;
            }
        }
        score.failures_in_row = score.failures_in_row.saturating_add(1);
        let rest = REST_MIN.saturating_mul(1 << (score.failures_in_row - 1).min(4)).min(REST_MAX);
        score.rests_until = Some(now + rest.mul_f64(spread(endpoint, salt).min(1.0)));
        !std::mem::replace(&mut score.is_nursed, true)
    }

    /// When whoever nurses the node should knock next; `None`, and the node is left alone, when nobody has wanted it
    /// within `span` or it has answered.
    pub(crate) fn next_knock(
        &mut self,
        endpoint: &Endpoint,
        now: Instant,
        span: Duration,
    ) -> Option<Instant> {
        let score = self.scores.get_mut(endpoint)?;
        let is_wanted = now.saturating_duration_since(score.last_wanted) <= span;
        let next = score.rests_until.filter(|_| is_wanted);
        score.is_nursed = next.is_some();
        next
    }

    fn forget_others(&mut self, candidates: &[Candidate]) {
        if self.scores.len() > SCORES_MAX {
            let kept = |endpoint: &Endpoint| candidates.iter().any(|held| held.endpoint == *endpoint);
            self.scores.retain(|endpoint, _| kept(endpoint));
        }
    }
}

/// A factor between 0.8 and 1.2.
fn spread(endpoint: &Endpoint, salt: u64) -> f64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((salt, endpoint));
    0.8 + 0.4 * f64::from((hash >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn candidate(port: u16, round_trip_ms: Option<u64>) -> Candidate {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let endpoint = Endpoint { address, datacenter: Datacenter::new("dc2").unwrap() };
        Candidate { name: port.to_string(), endpoint, round_trip: round_trip_ms.map(Duration::from_millis) }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How often each of the candidates comes first.
    fn firsts(peers: &mut Peers, candidates: &[Candidate], now: Instant) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for salt in 0..1000 {
            let order = peers.choose(candidates, now, salt);
            let first =
                order.first().and_then(|first| candidates.iter().position(|it| it.endpoint == *first));
            first.into_iter().for_each(|at| counts[at] += 1);
        }
        counts
    }

    #[test]
    fn those_that_are_alike_share_and_the_near_ones_are_preferred() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let alike = firsts(&mut peers, &[candidate(1, Some(20)), candidate(2, Some(21))], now);
        assert!(alike.iter().all(|count| *count > 300), "{alike:?}");
        let apart =
            firsts(&mut peers, &[candidate(1, Some(80)), candidate(2, Some(10)), candidate(3, None)], now);
        assert_eq!(apart[0], 0, "{apart:?}");
        let slow = candidate(1, Some(10));
        (0..10).for_each(|_| peers.succeeded(&slow.endpoint, Some(secs(1)), now + secs(20)));
        let measured = firsts(&mut peers, &[slow, candidate(2, Some(20))], now + secs(20));
        assert_eq!(measured[0], 0, "what was measured counts for more than what is told");
    }

    #[test]
    fn a_node_that_failed_is_left_out_until_it_answers() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let both = [candidate(1, Some(10)), candidate(2, Some(10))];
        assert!(peers.failed(&both[0].endpoint, Silence::Gone, now, 1), "somebody has to nurse it");
        assert!(!peers.failed(&both[0].endpoint, Silence::Gone, now, 1), "but only one");
        assert_eq!(firsts(&mut peers, &both, now + secs(30)), [0, 1000]);
        let links = peers.links(&both, now);
        let seen: Vec<_> = links.iter().map(|link| (link.name.as_str(), link.is_open)).collect();
        assert_eq!(seen, [("2", true), ("1", false)]);
        peers.failed(&both[1].endpoint, Silence::Gone, now, 1);
        assert_eq!(firsts(&mut peers, &both, now + secs(30)), [0, 0], "then requests fail at once");
        peers.succeeded(&both[0].endpoint, None, now + secs(31));
        assert_eq!(firsts(&mut peers, &both, now + secs(31)), [1000, 0]);
    }

    #[test]
    fn one_lost_answer_makes_a_node_dearer_and_another_one_opens() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let both = [candidate(1, Some(10)), candidate(2, Some(10))];
        let endpoint = &both[0].endpoint;
        peers.succeeded(endpoint, None, now);
        // Three on one connection, which breaks.
        for after in 1..=3 {
            let broke = now + secs(after);
            assert!(!peers.failed(endpoint, Silence::Lost(now), broke, 1), "nobody has to nurse it");
        }
        let later = now + secs(4);
        assert_eq!(peers.choose(&both[..1], later, 1).len(), 1, "the only node is still asked");
        assert_eq!(firsts(&mut peers, &both, later), [0, 1000], "another one is preferred");
        assert!(!peers.is_proven(endpoint, later, secs(60)), "what must not be lost is preceded by a knock");
        assert!(
            peers.failed(endpoint, Silence::Lost(later), later + secs(1), 1),
            "sent after the first was lost"
        );
        assert!(peers.choose(&both[..1], later + secs(1), 1).is_empty());

        peers.succeeded(endpoint, None, later + secs(2));
        assert!(peers.is_proven(endpoint, later + secs(2), secs(60)));
        let (sent, lost) = (later + secs(2), later + secs(3));
        assert!(!peers.failed(endpoint, Silence::Lost(sent), lost, 1), "an answer in between counts");
        assert!(peers.failed(endpoint, Silence::Gone, lost, 1), "and one that is gone is gone");
    }

    #[test]
    fn a_failure_is_forgotten_by_and_by() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let both = [candidate(1, Some(10)), candidate(2, Some(10))];
        peers.failed(&both[0].endpoint, Silence::Gone, now, 1);
        peers.succeeded(&both[0].endpoint, None, now);
        assert_eq!(firsts(&mut peers, &both, now)[0], 0);
        let later = firsts(&mut peers, &both, now + 10 * HALF_LIFE);
        assert!(later[0] > 300, "{later:?}");
    }

    #[test]
    fn rests_grow_and_are_bounded_and_end_when_nobody_asks() {
        let (mut peers, mut now) = (Peers::default(), Instant::now());
        let one = [candidate(1, None)];
        let mut rests = Vec::new();
        for _ in 0..8 {
            peers.failed(&one[0].endpoint, Silence::Gone, now, 7);
            let next = peers.next_knock(&one[0].endpoint, now, secs(60)).unwrap();
            rests.push(next - now);
            now = next;
        }
        assert!(rests.is_sorted() && rests[0] >= REST_MIN.mul_f64(0.8) && *rests.last().unwrap() <= REST_MAX);
        assert_eq!(peers.next_knock(&one[0].endpoint, now + secs(60), secs(60)), None);
        assert_eq!(peers.choose(&one, now + secs(70), 1).len(), 1, "left alone, one request tries it");
        assert!(peers.choose(&one, now + secs(70), 1).is_empty(), "and no other meanwhile");
        assert_eq!(peers.choose(&one, now + secs(72), 1).len(), 1);
    }
}
