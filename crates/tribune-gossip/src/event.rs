//! User events: what was fired, in which order, and what is new of what arrives. Pure.
//!
//! An event reaches a member many times: by broadcast from several others and again by full exchange. It is known
//! by its Lamport time and its id, and the last [`EVENTS_MAX`] are kept, as in Consul.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How many events are kept.
pub(crate) const EVENTS_MAX: usize = 256;

/// Largest encoded event, as in Consul. It fits a packet beside its header.
pub(crate) const EVENT_BYTES_MAX: usize = 512;

/// Something that a user told all members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEvent {
    /// A UUID.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Regular expression for the names of the nodes it is meant for; empty for all. Carried, not applied.
    pub node_filter: String,
    /// Regular expression for the services whose nodes it is meant for; empty for all.
    pub service_filter: String,
    /// Regular expression for tags of that service.
    pub tag_filter: String,
    /// Version of the event's form.
    pub version: u32,
    /// When it was fired, in the order of events; set by [`Pool::fire`](crate::Pool::fire).
    pub lamport_time: u64,
}

impl UserEvent {
    /// An event for everybody.
    pub fn new(id: impl Into<String>, name: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            payload: payload.into(),
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
            version: 1,
            lamport_time: 0,
        }
    }

    /// What it is told apart by in a full exchange.
    pub(crate) fn key(&self) -> u64 {
        let text = format!("{}\n{}", self.lamport_time, self.id);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&digest.as_ref()[..8]);
        u64::from_be_bytes(key)
    }
}

/// Why an event was not fired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is too large.
    #[error(
        "user event exceeds configured limit of {EVENT_BYTES_MAX} bytes before encoding: it has {bytes} bytes; send a reference instead of the payload itself"
    )]
    TooLarge {
        /// Its size, encoded.
        bytes: usize,
    },
    /// The pool has stopped.
    #[error("the pool of members has stopped")]
    Stopped,
}

/// The events known here, in order.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    clock: u64,
    /// Oldest first, by time and id.
    events: VecDeque<Arc<UserEvent>>,
    /// Events up to this time were dropped for want of room and are not taken again.
    floor: u64,
}

impl EventLog {
    /// A log whose clock goes on where it stood before a restart.
    pub(crate) fn new(clock: u64) -> Self {
        Self { clock, ..Self::default() }
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// The time for the next event that is fired here.
    pub(crate) fn next_time(&self) -> u64 {
        self.clock + 1
    }

    /// The clock of somebody else.
    pub(crate) fn witness(&mut self, clock: u64) {
        // A clock that is ahead without bound would make all events of others too old.
        if clock < u64::MAX / 2 {
            self.clock = self.clock.max(clock);
        }
    }

    /// Takes an event. Says whether it is new.
    pub(crate) fn take(&mut self, event: UserEvent) -> bool {
        let place = |known: &Arc<UserEvent>| {
            (known.lamport_time, known.id.as_str()) < (event.lamport_time, &event.id)
        };
        let at = self.events.partition_point(place);
        let known =
            self.events.get(at).is_some_and(|it| it.lamport_time == event.lamport_time && it.id == event.id);
        if known || event.lamport_time <= self.floor || event.lamport_time >= u64::MAX / 2 {
            return false;
        }
        self.witness(event.lamport_time);
        self.events.insert(at, Arc::new(event));
        if self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.floor = self.floor.max(oldest.lamport_time);
            return at > 0;
        }
        true
    }

    pub(crate) fn list(&self) -> Arc<[Arc<UserEvent>]> {
        self.events.iter().cloned().collect()
    }

    pub(crate) fn keys(&self) -> Vec<u64> {
        self.events.iter().map(|event| event.key()).collect()
    }

    /// The events that are not among these.
    pub(crate) fn missing(&self, known: &[u64]) -> Vec<UserEvent> {
        let known: std::collections::BTreeSet<u64> = known.iter().copied().collect();
        let missing = self.events.iter().filter(|event| !known.contains(&event.key()));
        missing.map(|event| UserEvent::clone(event)).collect()
    }

    /// The events with these keys.
    pub(crate) fn chosen(&self, keys: &[u64]) -> Vec<UserEvent> {
        let keys: std::collections::BTreeSet<u64> = keys.iter().copied().collect();
        let chosen = self.events.iter().filter(|event| keys.contains(&event.key()));
        chosen.map(|event| UserEvent::clone(event)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, id: &str) -> UserEvent {
        UserEvent { lamport_time: time, ..UserEvent::new(id, "deploy", b"x".to_vec()) }
    }

    #[test]
    fn an_event_is_taken_once_and_in_order() {
        let mut log = EventLog::default();
        assert!(log.take(event(3, "c")));
        assert!(log.take(event(1, "a")));
        assert!(log.take(event(3, "b")), "two nodes may fire at one time");
        assert!(!log.take(event(3, "c")) && !log.take(event(1, "a")));
        let order: Vec<String> = log.list().iter().map(|event| event.id.clone()).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(log.next_time(), 4);
    }

    #[test]
    fn the_last_256_are_kept_and_older_ones_never_return() {
        let mut log = EventLog::default();
        for time in 1..=300 {
            assert!(log.take(event(time, "x")));
        }
        assert_eq!(log.list().len(), EVENTS_MAX);
        assert!(!log.take(event(44, "x")), "dropped and replayed");
        assert!(!log.take(event(10, "other")));
        assert_eq!(log.list()[0].lamport_time, 45);
    }

    #[test]
    fn the_clock_goes_on_after_a_restart_and_cannot_be_driven_to_the_end() {
        let mut log = EventLog::new(41);
        assert_eq!(log.next_time(), 42);
        log.witness(u64::MAX);
        assert!(!log.take(event(u64::MAX, "evil")));
        assert_eq!(log.next_time(), 42);
        log.witness(50);
        assert_eq!(log.next_time(), 51);
    }

    #[test]
    fn what_one_side_lacks_is_found_by_keys() {
        let (mut one, mut two) = (EventLog::default(), EventLog::default());
        one.take(event(1, "a"));
        one.take(event(2, "b"));
        two.take(event(2, "b"));
        let missing = one.missing(&two.keys());
        assert_eq!(missing.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(one.chosen(&[event(2, "b").key()]), [event(2, "b")]);
    }
}
