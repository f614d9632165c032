//! The key/value store: entries, and how changes come about.
//!
//! A key that is gone leaves the index of its end behind, so that neither its own index nor that of any prefix
//! ever falls. Beyond [`TOMBSTONES_MAX`] of them the older half folds into one floor, which stands for every
//! absent key and below every prefix.

mod trie;

use std::sync::Arc;

use super::View;
use super::catalog::Change;
use super::tables::Map;
use super::topic::{TOMBSTONES_MAX, Topic, fold_older_half};
use crate::command::Refusal;
use crate::ids::Index;
use crate::kv::{KvChange, KvEntry, KvKey, KvPut, KvRefusal, PutMode};
use crate::model::Stored;
use crate::session::SessionId;

use trie::Trie;

/// The table of keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Keys {
    pub(super) entries: Map<KvKey, Arc<Stored<KvEntry>>>,
    /// When keys that are no more were removed.
    pub(super) gone: Map<KvKey, Index>,
    /// Below this no absent key and no prefix is ever reported.
    pub(super) floor: Index,
    /// The indexes of all of these, by prefix.
    newest: Trie,
}

impl Keys {
    pub(super) fn index_of_key(&self, key: &KvKey) -> Index {
        match self.entries.get(key) {
            Some(entry) => entry.modified,
            None => self.gone.get(key).copied().unwrap_or_default().max(self.floor),
        }
    }

    pub(super) fn index_of_prefix(&self, prefix: &str) -> Index {
        self.newest.newest_under(prefix).max(self.floor)
    }

    /// Notes that the key changed at `index`; whether it is there is seen in the table.
    pub(super) fn set_index(&mut self, key: &KvKey, index: Index) {
        self.newest.set(key.as_str(), index);
        if self.entries.contains_key(key) {
            self.gone.remove(key);
            return;
        }
        self.gone.insert(key.clone(), index);
        if self.gone.len() > TOMBSTONES_MAX {
            let (floor, folded) = fold_older_half(&mut self.gone);
            self.floor = floor;
            folded.iter().for_each(|key| self.newest.remove(key.as_str()));
        }
    }

    /// Puts an entry of a snapshot into the table.
    pub(super) fn place(&mut self, entry: Stored<KvEntry>) {
        self.newest.set(entry.value.key.as_str(), entry.modified);
        self.entries.insert(entry.value.key.clone(), Arc::new(entry));
    }

    /// The entries whose keys start with `prefix`, in the order of the keys.
    pub(super) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Stored<KvEntry>>> {
        let entries = self.entries.range(KvKey::bound(prefix)..);
        entries.take_while(move |(key, _)| key.as_str().starts_with(prefix)).map(|(_, entry)| entry)
    }
}

impl Change<'_> {
    /// Makes a change, or says what stands against it; nothing is touched then.
    pub(super) fn kv(&mut self, change: &KvChange) -> Result<(), Refusal> {
        match change {
            KvChange::Put(put) => self.put_key(put).map_err(|why| Refusal::Kv { key: put.key.clone(), why }),
            KvChange::Delete { key, only_at } => {
                if let Some(entry) = self.state.keys.entries.get(key)
                    && only_at.is_some_and(|index| index != entry.modified)
                {
                    return Err(Refusal::Kv { key: key.clone(), why: KvRefusal::StaleIndex });
                }
                self.remove_key(key);
                Ok(())
            }
            KvChange::DeleteTree(prefix) => {
                let keys: Vec<KvKey> =
                    self.state.keys.under(prefix).map(|entry| entry.value.key.clone()).collect();
                keys.iter().for_each(|key| self.remove_key(key));
                Ok(())
            }
        }
    }

    fn put_key(&mut self, put: &KvPut) -> Result<(), KvRefusal> {
        let old = self.state.keys.entries.get(&put.key).map(Arc::as_ref);
        let held = old.and_then(|old| old.value.session.as_ref());
        let locked = old.map_or(0, |old| old.value.lock_index);
        let (session, lock_index) = match &put.mode {
            PutMode::Always => (held.cloned(), 0),
            PutMode::OnlyAt(index) => {
                if old.map_or(Index(0), |old| old.modified) != *index {
                    return Err(KvRefusal::StaleIndex);
                }
                (held.cloned(), 0)
            }
            PutMode::Acquire(session) => {
                (Some(session.clone()), self.lock_index_for(&put.key, session, held, locked)?)
            }
            PutMode::Release(session) if held == Some(session) => (None, locked),
            PutMode::Release(_) => return Err(KvRefusal::NotHeld),
        };
        let KvPut { key, value, flags, .. } = put;
        self.store_key(KvEntry {
            key: key.clone(),
            value: value.clone(),
            flags: *flags,
            lock_index,
            session,
        });
        Ok(())
    }

    /// The lock index of a key once `session` holds it, if it may.
    fn lock_index_for(
        &self,
        key: &KvKey,
        session: &SessionId,
        held: Option<&SessionId>,
        locked: u64,
    ) -> Result<u64, KvRefusal> {
        if self.state.sessions.is_delayed(key) {
            return Err(KvRefusal::Delayed);
        }
        if !self.state.sessions.by_id.contains_key(session) {
            return Err(KvRefusal::NoSession(session.clone()));
        }
        match held {
            Some(holder) if holder == session => Ok(locked),
            Some(_) => Err(KvRefusal::Held),
            None => Ok(locked.saturating_add(1)),
        }
    }

    /// Writes an entry, unless it is there in just this form.
    pub(super) fn store_key(&mut self, entry: KvEntry) {
        let old = self.state.keys.entries.get(&entry.key).cloned();
        if old.as_ref().is_some_and(|old| old.value == entry) {
            return;
        }
        let before = old.as_ref().and_then(|old| old.value.session.as_ref());
        self.state.sessions.move_key(&entry.key, before, entry.session.as_ref());
        self.touch_key(&entry.key);
        let created = old.map_or(self.index, |old| old.created);
        let key = entry.key.clone();
        self.state.keys.entries.insert(key, Arc::new(Stored { value: entry, created, modified: self.index }));
    }

    pub(super) fn remove_key(&mut self, key: &KvKey) {
        let Some(old) = self.state.keys.entries.get(key).cloned() else { return };
        self.touch_key(key);
        self.state.sessions.move_key(key, old.value.session.as_ref(), None);
        self.state.keys.entries.remove(key);
    }

    fn touch_key(&mut self, key: &KvKey) {
        let is_first = self.touched.insert(Topic::Key(key.clone()));
        if is_first && !self.state.keys.entries.contains_key(key) {
            self.keys_made.push(key.clone());
        }
    }

    /// A key that came and went within one command was never seen by anybody.
    pub(super) fn forget_passing_keys(&mut self) {
        for key in std::mem::take(&mut self.keys_made) {
            if !self.state.keys.entries.contains_key(&key) {
                self.touched.remove(&Topic::Key(key));
            }
        }
    }
}

impl<'a> View<'a> {
    /// What is kept under a key.
    pub fn key(self, key: &KvKey) -> Option<&'a Stored<KvEntry>> {
        if !self.authority.reads_key(key) {
            return None;
        }
        self.state().keys.entries.get(key).map(Arc::as_ref)
    }

    /// What is kept under all keys that start with `prefix`, in the order of the keys.
    pub fn keys_under(self, prefix: &'a str) -> impl Iterator<Item = &'a Stored<KvEntry>> {
        let entries = self.state().keys.under(prefix).map(Arc::as_ref);
        entries.filter(move |entry| self.authority.reads_key(&entry.value.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_the_older_half_folds_and_no_index_falls() {
        let mut keys = Keys::default();
        let count = TOMBSTONES_MAX as u64 + 1;
        let key = |at: u64| KvKey::new(format!("k/{at}")).unwrap();
        (1..=count).for_each(|at| keys.set_index(&key(at), Index(at)));
        assert!(keys.gone.len() <= TOMBSTONES_MAX / 2 + 1);
        for at in [1, count / 2, count] {
            assert!(keys.index_of_key(&key(at)) >= Index(at));
            assert!(keys.index_of_prefix(key(at).as_str()) >= Index(at));
        }
        assert_eq!(keys.index_of_prefix("k/"), Index(count));
        assert_eq!(keys.index_of_prefix("other"), keys.floor);
    }
}
