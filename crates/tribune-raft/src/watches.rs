//! Who waits for which topic.
//!
//! A topic has a channel while somebody waits for it: made by the first waiter, gone with the last. Waiters
//! subscribe first and read the state afterwards; the state machine publishes first and announces afterwards. So
//! no change is missed, and only those who asked for a topic are woken.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tribune_core::Topic;

/// Parts the registry is divided into, so that waiters of different topics hardly ever meet at one lock.
const SHARDS: usize = 16;

type Channels = HashMap<Topic, watch::Sender<()>>;

/// All topics that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    shards: [Mutex<Channels>; SHARDS],
}

impl Watches {
    /// Joins those who wait for `topic`.
    pub(crate) fn subscribe(self: &Arc<Self>, topic: &Topic) -> Subscription {
        let mut channels = self.shard(topic).lock();
        let receiver = match channels.get(topic) {
            Some(sender) => sender.subscribe(),
            None => channels.entry(topic.clone()).insert_entry(watch::Sender::new(())).get().subscribe(),
        };
        Subscription { watches: self.clone(), topic: topic.clone(), receiver: Some(receiver) }
    }

    /// Wakes everybody who waits for `topic`. The lock is not held while they are woken.
    pub(crate) fn announce(&self, topic: &Topic) {
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
        watches.announce(&Topic::Nodes);
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
}
