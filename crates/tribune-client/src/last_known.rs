//! The last good answers, for the time when all agents are away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::endpoint::Reply;

/// All remembered answers together take no more than this. A client that asks for more than that has a few giant
/// answers, and the newest of them are the ones it still needs.
const BYTES_MAX: usize = 64 << 20;

/// Remembers one answer per question; the one given longest ago makes room.
#[derive(Debug)]
pub(crate) struct LastKnown {
    answers: HashMap<String, (Reply, Instant)>,
    answers_max: usize,
    bytes: usize,
}

impl LastKnown {
    /// Remembers at most `answers_max` answers.
    pub(crate) fn new(answers_max: usize) -> Self {
        Self { answers: HashMap::new(), answers_max, bytes: 0 }
    }

    /// Remembers what was answered to `question` at `now`.
    pub(crate) fn remember(&mut self, question: String, reply: &Reply, now: Instant) {
        if self.answers_max == 0 || reply.body.len() > BYTES_MAX {
            return;
        }
        self.forget(&question);
        self.bytes += reply.body.len();
        self.answers.insert(question, (reply.clone(), now));
        while self.answers.len() > self.answers_max || self.bytes > BYTES_MAX {
            let oldest =
                self.answers.iter().min_by_key(|(_, (_, at))| *at).map(|(question, _)| question.clone());
            let Some(oldest) = oldest else { break };
            self.forget(&oldest);
        }
    }

    /// What was last answered to `question`, and how long ago.
    pub(crate) fn recall(&self, question: &str, now: Instant) -> Option<(Reply, Duration)> {
        let (reply, at) = self.answers.get(question)?;
        Some((reply.clone(), now.saturating_duration_since(*at)))
    }

    fn forget(&mut self, question: &str) {
        if let Some((reply, _)) = self.answers.remove(question) {
            self.bytes -= reply.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: usize) -> Reply {
        Reply { headers: http::HeaderMap::new(), body: vec![b'x'; bytes].into(), address: String::new() }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut known = LastKnown::new(2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (number, question) in ["a", "b", "a", "c"].into_iter().enumerate() {
            known.remember(question.into(), &reply(1), at(number as u64));
        }
        assert!(known.recall("b", at(9)).is_none());
        assert_eq!(known.recall("a", at(9)).unwrap().1, Duration::from_secs(7));
        assert_eq!(known.recall("c", at(9)).unwrap().1, Duration::from_secs(6));
        assert_eq!(known.bytes, 2);
    }

    #[test]
    fn bytes_are_bounded_and_zero_remembers_nothing() {
        let mut known = LastKnown::new(10);
        let now = Instant::now();
        known.remember("huge".into(), &reply(BYTES_MAX + 1), now);
        assert!(known.recall("huge", now).is_none());
        known.remember("one".into(), &reply(BYTES_MAX - 1), now);
        known.remember("two".into(), &reply(10), now + Duration::from_secs(1));
        assert!(known.recall("one", now).is_none() && known.bytes == 10);
        let mut off = LastKnown::new(0);
        off.remember("a".into(), &reply(1), now);
        assert!(off.recall("a", now).is_none());
    }
}
