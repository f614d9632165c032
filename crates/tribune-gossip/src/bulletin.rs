//! What is spread beside the state of members: facts, user events, dismissals. Decides what is new, so that it is
//! passed on once and no more. Pure.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use foca::{BroadcastHandler, Invalidates};
use parking_lot::Mutex;

use crate::event::{EventLog, UserEvent};
use crate::member::{Facts, Key, Peer};
use crate::wire::{MEMBERS_MAX, News, decode};

/// Facts up to this size are spread as they are; larger ones are announced and fetched.
pub(crate) const FACTS_BYTES_IN_PACKET: usize = 700;

/// Something that the loop has to do because of news.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arrival {
    /// A member's facts changed.
    Facts(Key),
    /// Newer facts are to be fetched, best from whoever said so.
    Wanted { key: Key, from: Key },
    /// Somebody has facts about this node that claim to be as new as or newer than its own.
    OwnFacts { version: u64 },
    /// There is a new event.
    Event,
    /// A member will not come back.
    Dismissed { peer: Peer, prune: bool },
}

/// All news known here.
#[derive(Debug)]
pub(crate) struct Bulletin {
    own: Arc<Facts>,
    own_key: Key,
    facts: BTreeMap<Key, Arc<Facts>>,
    /// Versions heard of but not fetched yet.
    noticed: BTreeMap<Key, u64>,
    /// The newest generation of a member that was dismissed, and whether it was to vanish from the list.
    dismissed: BTreeMap<Key, (u64, bool)>,
    /// How many more pieces of news may wait to be passed on; the rest comes with the full exchange.
    room: usize,
    log: EventLog,
    arrivals: Vec<Arrival>,
}

impl Bulletin {
    pub(crate) fn new(own: Facts, clock: u64) -> Self {
        Self {
            own_key: own.key(),
            own: Arc::new(own),
            facts: BTreeMap::new(),
            noticed: BTreeMap::new(),
            dismissed: BTreeMap::new(),
            room: usize::MAX,
            log: EventLog::new(clock),
            arrivals: Vec::new(),
        }
    }

    pub(crate) fn own(&self) -> &Arc<Facts> {
        &self.own
    }

    pub(crate) fn set_own(&mut self, facts: Facts) {
        self.own = Arc::new(facts);
    }

    pub(crate) fn facts(&self, key: Key) -> Option<&Arc<Facts>> {
        if key == self.own_key { Some(&self.own) } else { self.facts.get(&key) }
    }

    pub(crate) fn version(&self, key: Key) -> u64 {
        self.facts(key).map_or(0, |facts| facts.version)
    }

    pub(crate) fn log(&self) -> &EventLog {
        &self.log
    }

    pub(crate) fn log_mut(&mut self) -> &mut EventLog {
        &mut self.log
    }

    /// What arrived since the last call.
    pub(crate) fn arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// Nothing is known any more of a member that was forgotten.
    pub(crate) fn forget(&mut self, key: Key) {
        self.facts.remove(&key);
        self.noticed.remove(&key);
        self.dismissed.remove(&key);
    }

    /// Everything that is known of members that nobody knows any more.
    pub(crate) fn retain(&mut self, known: impl Fn(Key) -> bool) {
        self.facts.retain(|key, _| known(*key));
        self.noticed.retain(|key, _| known(*key));
        self.dismissed.retain(|key, _| known(*key));
    }

    /// Takes facts from wherever they come. Says whether they are news.
    pub(crate) fn take_facts(&mut self, facts: Facts) -> bool {
        let key = facts.key();
        if key == self.own_key {
            if facts.version >= self.own.version && facts != *self.own {
                self.arrivals.push(Arrival::OwnFacts { version: facts.version });
            }
            return false;
        }
        let unknown = !self.facts.contains_key(&key);
        if facts.version <= self.version(key)
            || facts.check().is_err()
            || (unknown && self.facts.len() >= MEMBERS_MAX)
        {
            return false;
        }
        self.facts.insert(key, Arc::new(facts));
        self.noticed.remove(&key);
        self.arrivals.push(Arrival::Facts(key));
        true
    }

    /// Takes an event. Says whether it is new.
    pub(crate) fn take_event(&mut self, event: UserEvent) -> bool {
        let new = self.log.take(event);
        if new {
            self.arrivals.push(Arrival::Event);
        }
        new
    }

    fn take(&mut self, news: News, from: Key) -> Option<Topic> {
        let topic = news.topic();
        let new = match news {
            News::Facts(facts) => self.take_facts(facts),
            News::Newer { key, .. } if key == self.own_key => false,
            News::Newer { key, version } => {
                let noticed = self.noticed.get(&key).copied().unwrap_or(0);
                let newer = version > self.version(key).max(noticed) && self.noticed.len() < MEMBERS_MAX;
                if newer {
                    self.noticed.insert(key, version);
                    self.arrivals.push(Arrival::Wanted { key, from });
                }
                newer
            }
            News::Event(event) => self.take_event(event),
            News::Dismissed { peer, prune } => self.take_dismissal(peer, prune),
        };
        (new && self.room > 0).then_some(topic)
    }

    /// Takes the word that a member will not come back. Says whether that is news.
    pub(crate) fn take_dismissal(&mut self, peer: Peer, prune: bool) -> bool {
        let known = self.dismissed.get(&peer.key).copied().unwrap_or((0, false));
        if (peer.generation, prune) <= known || self.dismissed.len() >= MEMBERS_MAX {
            return false;
        }
        self.dismissed.insert(peer.key, (peer.generation, prune));
        self.arrivals.push(Arrival::Dismissed { peer, prune });
        true
    }

    /// Whether this life of a member was pruned from the list.
    pub(crate) fn is_pruned(&self, peer: Peer) -> bool {
        self.dismissed
            .get(&peer.key)
            .is_some_and(|(generation, prune)| *prune && peer.generation <= *generation)
    }

    /// Members of whose facts newer versions are known to exist.
    pub(crate) fn noticed(&self) -> impl Iterator<Item = Key> {
        self.noticed.keys().copied()
    }

    /// How many more pieces of news may wait to be passed on.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
    }
}

impl News {
    fn topic(&self) -> Topic {
        match self {
            Self::Facts(facts) => Topic::Facts(facts.key(), facts.version),
            Self::Newer { key, version } => Topic::Facts(*key, *version),
            Self::Event(event) => Topic::Event(event.key()),
            Self::Dismissed { peer, .. } => Topic::Dismissed(peer.key, peer.generation),
        }
    }
}

/// What a piece of news is about: newer news of the same replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    Facts(Key, u64),
    Event(u64),
    Dismissed(Key, u64),
}

impl Invalidates for Topic {
    fn invalidates(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Facts(one, version), Self::Facts(two, older)) => one == two && version >= older,
            (Self::Dismissed(one, generation), Self::Dismissed(two, older)) => {
                one == two && generation >= older
            }
            (Self::Event(one), Self::Event(two)) => one == two,
            _ => false,
        }
    }
}

/// The bulletin as the protocol sees it. The loop holds the other end; both are in one task, so the lock is never
/// waited for.
#[derive(Debug, Clone)]
pub(crate) struct Reader(pub(crate) Arc<Mutex<Bulletin>>);

impl BroadcastHandler<Peer> for Reader {
    type Key = Topic;
    type Error = Infallible;

    fn receive_item(&mut self, data: &[u8], sender: Option<&Peer>) -> Result<Option<Topic>, Infallible> {
        // News of a kind that is not known here comes from a later version and is left out; the rest of the
        // packet still counts.
        let Some(news) = decode::<News>(data) else { return Ok(None) };
        match sender {
            Some(sender) => Ok(self.0.lock().take(news, sender.key)),
            // What this node says is news by its own decision.
            None => Ok(Some(news.topic())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tribune_core::Datacenter;

    use super::*;
    use crate::wire::encode;

    fn facts(name: &str, version: u64) -> Facts {
        let datacenter = Datacenter::new("dc1").unwrap();
        Facts { name: name.into(), id: "1".into(), datacenter, tags: Arc::default(), leaving: false, version }
    }

    fn peer(name: &str, generation: u64) -> Peer {
        Peer { key: Key::of(name, "1"), address: SocketAddr::from(([10, 0, 0, 1], 1)), generation }
    }

    fn reader() -> Reader {
        Reader(Arc::new(Mutex::new(Bulletin::new(facts("me", 10), 0))))
    }

    #[test]
    fn each_piece_of_news_is_passed_on_once() {
        let mut reader = reader();
        let sender = peer("b", 1);
        let news = [
            News::Facts(facts("a", 2)),
            News::Newer { key: Key::of("c", "1"), version: 7 },
            News::Event(UserEvent { lamport_time: 1, ..UserEvent::new("id", "deploy", b"x".to_vec()) }),
            News::Dismissed { peer: peer("d", 3), prune: false },
        ];
        for item in &news {
            let bytes = encode(item);
            assert!(reader.receive_item(&bytes, Some(&sender)).unwrap().is_some(), "{item:?}");
            assert_eq!(reader.receive_item(&bytes, Some(&sender)).unwrap(), None, "{item:?}");
        }
        assert_eq!(reader.0.lock().arrivals().len(), 4);
        let older = encode(&News::Facts(facts("a", 1)));
        assert_eq!(reader.receive_item(&older, Some(&sender)).unwrap(), None);
        let newer = encode(&News::Facts(facts("a", 3)));
        assert!(reader.receive_item(&newer, Some(&sender)).unwrap().is_some());
    }

    #[test]
    fn nobody_else_says_what_this_node_is() {
        let mut reader = reader();
        let mut forged = facts("me", 11);
        forged.leaving = true;
        let bytes = encode(&News::Facts(forged));
        assert_eq!(reader.receive_item(&bytes, Some(&peer("b", 1))).unwrap(), None);
        let mut bulletin = reader.0.lock();
        assert_eq!(bulletin.arrivals(), [Arrival::OwnFacts { version: 11 }]);
        assert!(!bulletin.own().leaving);
    }

    #[test]
    fn unreadable_news_is_left_out() {
        let mut reader = reader();
        for bytes in [&[][..], &[9, 9, 9], &[0, 200]] {
            assert_eq!(reader.receive_item(bytes, Some(&peer("b", 1))).unwrap(), None);
        }
        let mut huge = facts("a", 2);
        huge.name = "n".repeat(600);
        assert_eq!(reader.receive_item(&encode(&News::Facts(huge)), Some(&peer("b", 1))).unwrap(), None);
    }

    #[test]
    fn newer_news_replaces_older_of_the_same() {
        let key = Key::of("a", "1");
        assert!(Topic::Facts(key, 2).invalidates(&Topic::Facts(key, 1)));
        assert!(!Topic::Facts(key, 1).invalidates(&Topic::Facts(key, 2)));
        assert!(!Topic::Facts(key, 1).invalidates(&Topic::Dismissed(key, 1)));
    }
}
