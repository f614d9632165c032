//! Prepared answers by question. Every worker and every TCP connection has a cache of its own, so no question waits
//! for another.
//!
//! An entry is true while the state has not moved, and beyond that while none of the topics it was made from has.
//! Two generations bound the memory: when the young one is full it becomes the old one, and what is asked for
//! again moves back.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tribune_core::dns::{Depends, Kind, NAME_WIRE_BYTES_MAX, Prepared};
use tribune_core::{Index, State};

use crate::config::Config;

/// Most bytes, roughly, in one generation of a worker's cache: the answers of a large datacenter.
pub(crate) const WORKER_BYTES_MAX: usize = 16 << 20;
/// The same for a TCP connection. There may be a thousand, each asking for ever new names: two generations of all of
/// them are 128 MiB.
pub(crate) const CONNECTION_BYTES_MAX: usize = 64 << 10;
/// Most entries in one generation, however small.
const GENERATION_ENTRIES_MAX: usize = 16_384;
/// What an entry costs beside its records.
const ENTRY_BYTES: usize = 256;

type Generation = HashMap<Box<[u8]>, Entry, RandomState>;

#[derive(Debug)]
pub(crate) struct Cache {
    /// Of one generation.
    bytes_max: usize,
    young: Generation,
    old: Generation,
    young_bytes: usize,
    /// The settings that the entries were made with.
    config: Option<Arc<Config>>,
}

#[derive(Debug)]
struct Entry {
    prepared: Arc<Prepared>,
    depends: Depends,
    /// The newest state in which the entry is known to be true.
    checked: Index,
}

/// A question as a key: the name in lower case and the type.
#[derive(Debug)]
pub(crate) struct Key {
    bytes: [u8; NAME_WIRE_BYTES_MAX + 3],
    length: usize,
}

impl Key {
    /// Names longer than a name can be are cut; they are refused before they could be stored.
    pub(crate) fn new(name: &[u8], kind: Kind) -> Self {
        let mut bytes = [0; NAME_WIRE_BYTES_MAX + 3];
        let length = name.len().min(NAME_WIRE_BYTES_MAX);
        bytes[..length].copy_from_slice(&name[..length]);
        bytes[..length].make_ascii_lowercase();
        bytes[length..length + 2].copy_from_slice(&kind.0.to_be_bytes());
        Self { bytes, length: length + 2 }
    }

    /// The same question, answered from the state of another datacenter: what is true there is kept apart from what
    /// is true here.
    pub(crate) fn elsewhere(&self) -> Self {
        let (mut bytes, length) = (self.bytes, self.length);
        bytes[length] = 1;
        Self { bytes, length: length + 1 }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Cache {
    /// An empty cache with about so many bytes in each of its two generations.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            young: Generation::default(),
            old: Generation::default(),
            young_bytes: 0,
            config: None,
        }
    }

    /// Forgets everything when the settings have changed.
    pub(crate) fn keep_for(&mut self, config: &Arc<Config>) {
        if self.config.as_ref().is_none_or(|held| !Arc::ptr_eq(held, config)) {
            *self = Self { config: Some(config.clone()), ..Self::new(self.bytes_max) };
        }
    }

    /// The prepared answer, if it is still true in `state`.
    pub(crate) fn get(&mut self, key: &Key, state: &State) -> Option<&Arc<Prepared>> {
        if !self.young.contains_key(key.as_slice()) {
            let (key, entry) = self.old.remove_entry(key.as_slice())?;
            self.store(key, entry);
        }
        let entry = self.young.get_mut(key.as_slice())?;
        if entry.checked != state.index() {
            if !entry.depends.holds_in(state) {
                return None;
            }
            entry.checked = state.index();
        }
        Some(&entry.prepared)
    }

    /// Keeps a prepared answer that was made from `state`.
    pub(crate) fn put(&mut self, key: &Key, prepared: Arc<Prepared>, depends: Depends, state: &State) {
        let entry = Entry { prepared, depends, checked: state.index() };
        self.store(key.as_slice().into(), entry);
    }

    fn store(&mut self, key: Box<[u8]>, entry: Entry) {
        let bytes = ENTRY_BYTES + entry.prepared.weight();
        if self.young_bytes + bytes > self.bytes_max || self.young.len() >= GENERATION_ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(replaced) = self.young.insert(key, entry) {
            self.young_bytes = self.young_bytes.saturating_sub(ENTRY_BYTES + replaced.prepared.weight());
        }
    }
}

#[cfg(test)]
mod tests {
    use tribune_core::dns::Code;

    use super::*;

    #[test]
    fn ever_new_questions_take_no_more_than_two_generations() {
        let mut cache = Cache::new(10 * ENTRY_BYTES);
        let prepared = Arc::new(Prepared::of_code(Code::NxDomain));
        for number in 0..1000_u16 {
            let key = Key::new(&number.to_be_bytes(), Kind::A);
            cache.put(&key, prepared.clone(), Depends::Topics(Vec::new()), &State::default());
            assert!(cache.get(&key, &State::default()).is_some());
        }
        assert!(cache.young.len() + cache.old.len() <= 20);
    }
}
