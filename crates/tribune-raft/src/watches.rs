//! Who waits for which topic.
//!
//! A topic has a channel while somebody waits for it: made by the first waiter, gone with the last. Waiters
//! subscribe first and read the state afterwards; the state machine publishes first and announces afterwards. So
//! no change is missed, and only those who asked for a topic are woken.
//!
//! A key is touched under its own name only, but it may be waited for under any of its prefixes. The prefixes that
//! are waited for are kept in order beside the channels, so that finding those of a key costs a few look-ups,
//! however many keys and waiters there are.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::watch;
use tribune_core::{KvKey, Topic};

/// Parts the registry is divided into, so that waiters of different topics hardly ever meet at one lock.
const SHARDS: usize = 16;

type Channels = HashMap<Topic, watch::Sender<()>>;

/// All topics that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    shards: [Mutex<Channels>; SHARDS],
    prefixes: Mutex<Prefixes>,
}

/// The prefixes of keys that are waited for, and by how many.
#[derive(Debug, Default)]
struct Prefixes(BTreeMap<SmolStr, usize>);

impl Watches {
    /// Joins those who wait for `topic`.
    pub(crate) fn subscribe(self: &Arc<Self>, topic: &Topic) -> Subscription {
        if let Topic::Prefix(prefix) = topic {
            self.prefixes.lock().add(prefix);
        }
        let mut channels = self.shard(topic).lock();
        let receiver = match channels.get(topic) {
            Some(sender) => sender.subscribe(),
            None => channels.entry(topic.clone()).insert_entry(watch::Sender::new(())).get().subscribe(),
        };
        Subscription { watches: self.clone(), topic: topic.clone(), receiver: Some(receiver) }
    }

    /// Wakes everybody who waits for one of these topics, or for a prefix of one of these keys.
    pub(crate) fn announce(&self, touched: &BTreeSet<Topic>) {
        touched.iter().for_each(|topic| self.wake(topic));
        let keys =
            touched.iter().filter_map(|topic| if let Topic::Key(key) = topic { Some(key) } else { None });
        let prefixes = self.prefixes.lock().of_any(keys);
        prefixes.into_iter().for_each(|prefix| self.wake(&Topic::Prefix(prefix)));
    }

    /// Wakes everybody who waits for `topic`. The lock is not held while they are woken.
    fn wake(&self, topic: &Topic) {
        let sender = self.shard(topic).lock().get(topic).cloned();
        if let Some(sender) = sender {
            sender.send_replace(());
        }
    }

    /// Wakes everybody: after a snapshot was installed any topic may have changed.
    pub(crate) fn announce_all(&self) {
        for shard in &self.shards {
            let senders: Vec<_> = shard.lock().values().cloned().collect();
            for sender in senders {
                sender.send_replace(());
            }
        }
    }

    fn shard(&self, topic: &Topic) -> &Mutex<Channels> {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        &self.shards[hasher.finish() as usize % SHARDS]
    }
}

impl Prefixes {
    fn add(&mut self, prefix: &SmolStr) {
        *self.0.entry(prefix.clone()).or_default() += 1;
    }

    fn remove(&mut self, prefix: &SmolStr) {
        if let Some(count) = self.0.get_mut(prefix) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(prefix);
            }
        }
    }

    /// Those that any of the keys starts with. Stops as soon as all are found.
    fn of_any<'a>(&self, keys: impl Iterator<Item = &'a KvKey>) -> BTreeSet<SmolStr> {
        let mut found = BTreeSet::new();
        for key in keys {
            if found.len() == self.0.len() {
                break;
            }
            self.of(key.as_str(), &mut found);
        }
        found
    }

    /// Those that the key starts with, the longest first: each look-up gives one of them or shows how short the
    /// next can be at most.
    fn of(&self, key: &str, found: &mut BTreeSet<SmolStr>) {
        let mut candidate = self.greatest(Bound::Included(key));
        while let Some(prefix) = candidate {
            let common = key.bytes().zip(prefix.bytes()).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                let head = &key[..key.floor_char_boundary(common)];
                candidate = self.greatest(Bound::Included(head));
            } else {
                found.insert(prefix.clone());
                candidate = self.greatest(Bound::Excluded(prefix));
            }
        }
    }

    fn greatest(&self, end: Bound<&str>) -> Option<&SmolStr> {
        self.0.range::<str, _>((Bound::Unbounded, end)).next_back().map(|(prefix, _)| prefix)
    }
}

/// A place among those who wait for one topic.
#[derive(Debug)]
pub(crate) struct Subscription {
    watches: Arc<Watches>,
    topic: Topic,
    receiver: Option<watch::Receiver<()>>,
}

impl Subscription {
    /// Waits for the next announcement since the subscription or since the last call.
    pub(crate) async fn announced(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The registry keeps the sender as long as this subscription lives, so there is no end to see.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Topic::Prefix(prefix) = &self.topic {
            self.watches.prefixes.lock().remove(prefix);
        }
        let mut channels = self.watches.shard(&self.topic).lock();
        self.receiver = None;
        if channels.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            channels.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(watches: &Watches) -> usize {
        watches.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[tokio::test]
    async fn a_topic_is_kept_as_long_as_somebody_waits_for_it() {
        let watches = Arc::new(Watches::default());
        let first = watches.subscribe(&Topic::Nodes);
        let mut second = watches.subscribe(&Topic::Nodes);
        assert_eq!(topics(&watches), 1);
        drop(first);
        watches.announce(&BTreeSet::from([Topic::Nodes]));
        second.announced().await;
        drop(second);
        assert_eq!(topics(&watches), 0);
    }

    #[tokio::test]
    async fn an_announcement_between_subscribing_and_waiting_is_seen() {
        let watches = Arc::new(Watches::default());
        let mut waiter = watches.subscribe(&Topic::Services);
        watches.announce_all();
        waiter.announced().await;
    }

    #[test]
    fn the_prefixes_of_a_key_are_those_that_it_starts_with() {
        let mut prefixes = Prefixes::default();
        let watched = ["", "a", "a/", "a/b", "a/b/c/d", "a/c", "b", "é", "éa", "a/é", "a/b/zz", "a!"];
        watched.iter().for_each(|prefix| prefixes.add(&SmolStr::new(prefix)));
        for key in ["a", "a/b", "a/b/c", "a/b/c/d/e", "a/è", "a/éx", "b", "c", "é", "ê", "a/b/y", "a0"] {
            let key = KvKey::new(key).unwrap();
            let expected: BTreeSet<SmolStr> = watched
                .iter()
                .filter(|prefix| key.as_str().starts_with(**prefix))
                .map(SmolStr::new)
                .collect();
            assert_eq!(prefixes.of_any([&key].into_iter()), expected, "{key}");
        }
    }

    #[tokio::test]
    async fn a_key_wakes_those_who_wait_for_its_prefixes() {
        let watches = Arc::new(Watches::default());
        let mut waiter = watches.subscribe(&Topic::Prefix("a/".into()));
        let mut other = watches.subscribe(&Topic::Prefix("b/".into()));
        watches.announce(&BTreeSet::from([Topic::Key(KvKey::new("a/1").unwrap())]));
        waiter.announced().await;
        assert!(futures::poll!(std::pin::pin!(other.announced())).is_pending());
        drop((waiter, other));
        assert!(watches.prefixes.lock().0.is_empty());
    }
}
