//! What the loop has to do later, in order of time.

use std::collections::BTreeMap;

use foca::Timer;
use tokio::time::Instant;

use crate::member::Peer;

/// Something to do at a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Alarm {
    /// The protocol asked for it.
    Protocol(Timer<Peer>),
    /// A suspected member had its time to object.
    Condemn { peer: Peer, incarnation: u16 },
    /// Exchange the full state with somebody.
    Sync,
    /// Exchange it once more, because the last exchange brought members that were not known.
    CatchUp,
    /// Try failed members again.
    Reconnect,
    /// Look after everything that has a time limit.
    Tick,
    /// Say good-bye once more; the number of times that remain.
    Farewell(u32),
}

/// All alarms. What was set first for a time goes first.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    queue: BTreeMap<(Instant, u64), Alarm>,
    count: u64,
}

impl Alarms {
    pub(crate) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.count += 1;
        self.queue.insert((at, self.count), alarm);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Alarm> {
        let first = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}
