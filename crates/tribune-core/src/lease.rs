//! Leases: whose time runs, and what has run out. Time is an argument: how long ago some fixed moment was, by a
//! clock that never jumps.
//!
//! The leader alone measures. It follows the state, so that it misses nothing, and starts every lease that it sees
//! for the first time at its full length: what a new leader does not know it takes for fresh. So a lease may last
//! longer than it says and never shorter, whatever happens to leaders and clocks.
//!
//! ```text
//!   in the state ──follow──▶ running ──expire, time is up──▶ ending ──follow, no longer in the state──▶ forgotten
//!                              ▲  │                             │
//!                              └──┘ renew                       └─ retry: the proposal failed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Index;
use crate::kv::KvKey;
use crate::session::SessionId;
use crate::state::State;

/// Something whose time is limited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lease {
    /// A session with a time to live.
    Session(SessionId),
    /// A key that nobody may have for a while, because its holder ended.
    LockDelay(KvKey),
}

/// Since when a lease is in the state, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The log position at which it began; tells one lease from another of the same name.
    pub since: Index,
    /// How long it lasts at least.
    pub length: Duration,
}

/// All leases whose time runs.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    /// The leases as they were seen last; a clone of a table costs nothing.
    seen: imbl::OrdMap<Lease, Span>,
    /// The log position of that.
    at: Index,
    running: BTreeMap<Lease, Duration>,
    deadlines: BTreeSet<(Duration, Lease)>,
    /// What has run out and is still in the state.
    ending: BTreeSet<Lease>,
}

/// What has run out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Sessions that were not renewed.
    pub sessions: Vec<SessionId>,
    /// Keys that may be had again, with the index since which they could not.
    pub delays: Vec<(KvKey, Index)>,
}

impl Expired {
    /// Whether nothing has run out.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.delays.is_empty()
    }
}

/// What came of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It lasts for its full length from now.
    Renewed,
    /// It came too late: the session is being ended.
    TooLate,
    /// No time of such a session runs.
    Unknown,
}

impl Leases {
    /// Takes up the leases that are new in the state and forgets those that are gone. Costs as much as differs
    /// from the state before. An older state than the last is passed over.
    pub fn follow(&mut self, state: &State, now: Duration) {
        if state.index() < self.at {
            return;
        }
        self.at = state.index();
        let table = state.lease_table().clone();
        let seen = std::mem::replace(&mut self.seen, table.clone());
        for difference in seen.diff(&table) {
            match difference {
                imbl::ordmap::DiffItem::Add(lease, span) => self.start(lease, *span, now),
                imbl::ordmap::DiffItem::Update { new: (lease, span), .. } => {
                    self.forget(lease);
                    self.start(lease, *span, now);
                }
                imbl::ordmap::DiffItem::Remove(lease, _) => self.forget(lease),
            }
        }
    }

    /// Starts the time of a session anew.
    pub fn renew(&mut self, id: &SessionId, now: Duration) -> Renewal {
        let lease = Lease::Session(id.clone());
        if self.ending.contains(&lease) {
            return Renewal::TooLate;
        }
        let Some(span) = self.seen.get(&lease).copied() else { return Renewal::Unknown };
        self.stop(&lease);
        self.start(&lease, span, now);
        Renewal::Renewed
    }

    /// What has run out by now, at most `count` of it, the longest overdue first.
    pub fn expire(&mut self, now: Duration, count: usize) -> Expired {
        let mut expired = Expired::default();
        for _ in 0..count {
            let Some((deadline, lease)) = self.deadlines.first().cloned() else { break };
            if deadline > now {
                break;
            }
            self.stop(&lease);
            match &lease {
                Lease::Session(id) => expired.sessions.push(id.clone()),
                Lease::LockDelay(key) => {
                    expired.delays.extend(self.seen.get(&lease).map(|span| (key.clone(), span.since)));
                }
            }
            self.ending.insert(lease);
        }
        expired
    }

    /// Has everything that has run out and is still in the state run out again at `at`. What has run out once is
    /// never renewed: its holder may have been told so.
    pub fn retry(&mut self, at: Duration) {
        for lease in &self.ending {
            if !self.running.contains_key(lease) {
                self.running.insert(lease.clone(), at);
                self.deadlines.insert((at, lease.clone()));
            }
        }
    }

    /// When the next lease runs out.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn start(&mut self, lease: &Lease, span: Span, now: Duration) {
        let deadline = now.saturating_add(full_length(lease, span));
        self.running.insert(lease.clone(), deadline);
        self.deadlines.insert((deadline, lease.clone()));
    }

    fn stop(&mut self, lease: &Lease) {
        if let Some(deadline) = self.running.remove(lease) {
            self.deadlines.remove(&(deadline, lease.clone()));
        }
    }

    fn forget(&mut self, lease: &Lease) {
        self.stop(lease);
        self.ending.remove(lease);
    }
}

/// A session is given half as much again as it asked for: a renewal may be on its way for a while, and the clocks
/// of its holder and of the leader need not run at quite the same speed. Its end must be in effect before twice its
/// length has passed.
fn full_length(lease: &Lease, span: Span) -> Duration {
    match lease {
        Lease::Session(_) => span.length.saturating_add(span.length / 2),
        Lease::LockDelay(_) => span.length,
    }
}

/// How a renewal is asked of the leader, and how it answers: short words, understood by whoever leads.
impl Renewal {
    /// The question for the renewal of this session.
    pub fn question(id: &SessionId) -> Vec<u8> {
        format!("{RENEW}{id}").into_bytes()
    }

    /// The session whose renewal is asked for, if the question is one for a renewal.
    pub fn asked(question: &[u8]) -> Option<SessionId> {
        SessionId::new(std::str::from_utf8(question).ok()?.strip_prefix(RENEW)?).ok()
    }

    /// The answer as it is sent.
    pub fn word(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::TooLate => "too late",
            Self::Unknown => "unknown",
        }
    }

    /// Reads an answer.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        [Self::Renewed, Self::TooLate, Self::Unknown].into_iter().find(|one| one.word().as_bytes() == word)
    }
}

const RENEW: &str = "renew session ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Registration};
    use crate::ids::NodeName;
    use crate::model::{Node, Pairs};
    use crate::session::{Behavior, Session, SessionChange};

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: u64) -> SessionId {
        SessionId::new(&format!("00000000-0000-0000-0000-{number:012}")).unwrap()
    }

    fn session(number: u64, ttl: u64) -> Session {
        Session {
            id: id(number),
            name: "".into(),
            node: NodeName::new("n").unwrap(),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            ttl: (ttl > 0).then_some(SECOND * ttl as u32),
            ttl_text: "".into(),
            node_checks: None,
            service_checks: None,
        }
    }

    struct Datacenter(State);

    impl Datacenter {
        fn new(sessions: &[Session]) -> Self {
            let (tagged_addresses, meta) = (Pairs::default(), Pairs::default());
            let (name, id) = (NodeName::new("n").unwrap(), "".into());
            let node = Node { name, id, address: "1.1.1.1".into(), tagged_addresses, meta };
            let registration = Registration { node, skip_node_update: false, service: None, checks: vec![] };
            let mut state = State::default();
            state.apply(Index(1), &Command::Register(Box::new(registration)));
            let mut datacenter = Self(state);
            sessions.iter().for_each(|session| datacenter.change(SessionChange::Create(session.clone())));
            datacenter
        }

        fn change(&mut self, change: SessionChange) {
            let next = Index(self.0.index().0 + 1);
            self.0.apply(next, &Command::Session(Box::new(change)));
        }
    }

    #[test]
    fn a_session_ends_between_once_and_twice_its_time_to_live() {
        let datacenter = Datacenter::new(&[session(1, 10), session(2, 20), session(3, 0)]);
        let mut leases = Leases::default();
        leases.follow(&datacenter.0, SECOND * 100);
        assert_eq!(leases.seen.len(), 2);
        assert!(leases.expire(SECOND * 114, 9).is_empty());
        assert_eq!(leases.expire(SECOND * 115, 9).sessions, [id(1)]);
        assert!(leases.expire(SECOND * 129, 9).is_empty());
        assert_eq!(leases.expire(SECOND * 130, 9).sessions, [id(2)]);
        assert_eq!(leases.next_deadline(), None);
    }

    #[test]
    fn a_renewal_starts_the_time_anew_until_it_is_too_late() {
        let mut datacenter = Datacenter::new(&[session(1, 10)]);
        let mut leases = Leases::default();
        leases.follow(&datacenter.0, Duration::ZERO);
        assert_eq!(leases.renew(&id(1), SECOND * 14), Renewal::Renewed);
        assert_eq!(leases.renew(&id(2), SECOND * 14), Renewal::Unknown);
        // Looking at the same state again starts nothing anew.
        leases.follow(&datacenter.0, SECOND * 20);
        assert_eq!(leases.next_deadline(), Some(SECOND * 29));
        assert_eq!(leases.expire(SECOND * 29, 9).sessions, [id(1)]);
        assert_eq!(leases.renew(&id(1), SECOND * 29), Renewal::TooLate);
        // The proposal to end it failed: it is proposed again and still cannot be renewed.
        leases.retry(SECOND * 30);
        assert_eq!(leases.renew(&id(1), SECOND * 30), Renewal::TooLate);
        assert_eq!(leases.expire(SECOND * 30, 9).sessions, [id(1)]);
        datacenter.change(SessionChange::Destroy(id(1)));
        leases.follow(&datacenter.0, SECOND * 31);
        assert_eq!((leases.renew(&id(1), SECOND * 31), leases.seen.len()), (Renewal::Unknown, 0));
    }

    #[test]
    fn a_new_leader_gives_everybody_the_full_time() {
        let datacenter = Datacenter::new(&[session(1, 10)]);
        let (mut old, mut new) = (Leases::default(), Leases::default());
        old.follow(&datacenter.0, Duration::ZERO);
        new.follow(&datacenter.0, SECOND * 14);
        assert_eq!(old.next_deadline(), Some(SECOND * 15));
        assert_eq!(new.next_deadline(), Some(SECOND * 29));
    }

    #[test]
    fn many_that_run_out_together_are_ended_in_parts() {
        let sessions: Vec<_> = (1..=5).map(|number| session(number, 10)).collect();
        let datacenter = Datacenter::new(&sessions);
        let mut leases = Leases::default();
        leases.follow(&datacenter.0, Duration::ZERO);
        let counts: Vec<_> = (0..4).map(|_| leases.expire(SECOND * 60, 2).sessions.len()).collect();
        assert_eq!(counts, [2, 2, 1, 0]);
    }

    #[test]
    fn questions_and_answers_are_understood() {
        assert_eq!(Renewal::asked(&Renewal::question(&id(7))), Some(id(7)));
        assert_eq!(Renewal::asked(b"renew session x"), None);
        assert_eq!(Renewal::asked(&[0xff]), None);
        for renewal in [Renewal::Renewed, Renewal::TooLate, Renewal::Unknown] {
            assert_eq!(Renewal::from_word(renewal.word().as_bytes()), Some(renewal));
        }
        assert_eq!(Renewal::from_word(b"?"), None);
    }
}
