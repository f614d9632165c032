//! Answers of other nodes, kept: which may be given to whom, and which has to go. Pure; time is an argument.
//!
//! An entry that a blocking query keeps fresh is as old as the last sign of life from its datacenter, any other as
//! old as its last fetch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tribune_api::headers::CacheControl;

/// How old an answer may be for those who accept the cache and say no more.
const ACCEPTED_AGE_MAX: Duration = Duration::from_secs(10);
/// Signs of life come about once a second: what is not older than this is current.
const CURRENT_AGE_MAX: Duration = Duration::from_secs(2);
/// What an entry costs beside its body.
const ENTRY_BYTES: usize = 1024;

/// An answer in full.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Where a blocking query goes on from.
    pub(crate) index: Option<u64>,
    /// How old it was when it came: whoever gave it may have had it kept, because there was nobody to ask.
    pub(crate) age: Duration,
}

impl Answer {
    /// Whether it tells nothing about what was asked, only that it cannot be told now.
    pub(crate) fn is_no_answer(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        ENTRY_BYTES + headers + self.body.len()
    }
}

/// Kept answers by question, within a number of bytes; the one unused for longest goes first.
#[derive(Debug)]
pub(crate) struct ForwardCache {
    entries: HashMap<Arc<str>, Entry>,
    /// From the one unused for longest to the one used last.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

/// A kept answer and what is known of it.
#[derive(Debug)]
pub(crate) struct Entry {
    answer: Arc<Answer>,
    /// When it was last known to be true.
    confirmed: Instant,
    /// Whether a blocking query stands on the other side for it.
    is_live: bool,
    /// Whether somebody is at work to keep it fresh.
    has_keeper: bool,
    last_use: Instant,
    use_serial: u64,
    bytes: usize,
}

impl Entry {
    fn age(&self, now: Instant, heard: Option<Instant>) -> Duration {
        let signs = heard.filter(|_| self.is_live);
        let confirmed = signs.map_or(self.confirmed, |heard| heard.max(self.confirmed));
        let age = self.answer.age + now.saturating_duration_since(confirmed);
        if self.is_live && age <= CURRENT_AGE_MAX { Duration::ZERO } else { age }
    }
}

/// A kept answer with its age.
pub(crate) type Aged = (Arc<Answer>, Duration);

impl ForwardCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    /// The kept answer, if the client accepts it without looking further. `heard` is when the datacenter it came
    /// from last gave a sign of life.
    pub(crate) fn fresh(
        &mut self,
        key: &str,
        control: &CacheControl,
        now: Instant,
        heard: Option<Instant>,
    ) -> Option<Aged> {
        let age = self.entries.get(key)?.age(now, heard);
        let accepted = match (control.must_revalidate, control.max_age) {
            (true, _) => Duration::ZERO,
            (false, given) => given.unwrap_or(ACCEPTED_AGE_MAX),
        };
        let answer = self.used(key, now)?;
        (age <= accepted).then_some((answer, age))
    }

    /// The kept answer for when no newer one can be had: within what the client says, else, unless it is strict
    /// about the age, within `age_max`.
    pub(crate) fn fallback(
        &mut self,
        key: &str,
        control: &CacheControl,
        age_max: Duration,
        now: Instant,
        heard: Option<Instant>,
    ) -> Option<Aged> {
        let age = self.entries.get(key)?.age(now, heard);
        let is_strict = control.must_revalidate || control.max_age.is_some();
        let accepted = match control.stale_if_error {
            Some(given) => given,
            None if is_strict => return None,
            None => age_max,
        };
        let answer = self.used(key, now)?;
        (age <= accepted).then_some((answer, age))
    }

    fn used(&mut self, key: &str, now: Instant) -> Option<Arc<Answer>> {
        let (name, entry) = self.entries.get_key_value(key)?;
        let (name, old) = (name.clone(), entry.use_serial);
        self.uses += 1;
        self.by_use.remove(&old);
        self.by_use.insert(self.uses, name);
        let entry = self.entries.get_mut(key)?;
        (entry.use_serial, entry.last_use) = (self.uses, now);
        Some(entry.answer.clone())
    }

    /// Keeps an answer that somebody has asked for, unless a younger one is there.
    pub(crate) fn put(&mut self, key: &Arc<str>, answer: Arc<Answer>, now: Instant) {
        self.used(key, now);
        if self.entries.get(key).is_none_or(|kept| answer.age <= kept.age(now, None)) {
            self.keep(key, answer, now);
        }
    }

    /// Takes a newer answer for an entry that is kept fresh, which is no use of it.
    pub(crate) fn renew(&mut self, key: &Arc<str>, answer: Arc<Answer>, now: Instant) {
        if self.entries.contains_key(key) {
            self.keep(key, answer, now);
        }
    }

    fn keep(&mut self, key: &Arc<str>, answer: Arc<Answer>, now: Instant) {
        let bytes = answer.bytes() + 2 * key.len();
        let old = self.remove(key);
        if bytes > self.bytes_max {
            return;
        }
        let entry = match old {
            Some(old) => Entry { answer, confirmed: now, bytes, ..old },
            None => {
                self.uses += 1;
                let (is_live, has_keeper, use_serial) = (false, false, self.uses);
                Entry { answer, confirmed: now, is_live, has_keeper, last_use: now, use_serial, bytes }
            }
        };
        self.by_use.insert(entry.use_serial, key.clone());
        self.bytes += bytes;
        self.entries.insert(key.clone(), entry);
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }

    /// Forgets an answer.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let gone = self.entries.remove(key)?;
        self.by_use.remove(&gone.use_serial);
        self.bytes -= gone.bytes;
        Some(gone)
    }

    /// Hands the care for an entry to the caller, unless somebody has it or it cannot be kept fresh.
    pub(crate) fn take_care(&mut self, key: &str) -> bool {
        match self.entries.get_mut(key) {
            Some(entry) if !entry.has_keeper && entry.answer.index.is_some() => {
                entry.has_keeper = true;
                true
            }
            _ => false,
        }
    }

    /// Where the blocking query for an entry goes on from; `None` when the entry is gone or was not used for
    /// `idle_max`, and so needs no care any more.
    pub(crate) fn next_index(&mut self, key: &str, idle_max: Duration, now: Instant) -> Option<u64> {
        let entry = self.entries.get_mut(key)?;
        let index = entry.answer.index.filter(|_| now.saturating_duration_since(entry.last_use) <= idle_max);
        if index.is_none() {
            (entry.is_live, entry.has_keeper) = (false, false);
        }
        index
    }

    /// A blocking query stands for the entry, or has failed.
    pub(crate) fn set_live(&mut self, key: &str, is_live: bool, heard: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(key) {
            if entry.is_live && !is_live {
                entry.confirmed = entry.confirmed.max(heard.unwrap_or(entry.confirmed));
            }
            entry.is_live = is_live;
        }
    }

    /// How many entries and bytes there are.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Arc<Answer> {
        let body = Bytes::from_static(body.as_bytes());
        Arc::new(Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body,
            index: Some(7),
            age: Duration::ZERO,
        })
    }

    fn control(header: &str) -> CacheControl {
        CacheControl::parse(header).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_given_within_what_the_client_accepts() {
        let (start, mut cache) = (Instant::now(), ForwardCache::new(1 << 20));
        cache.put(&"k".into(), answer("a"), start);
        let mut age = |header: &str, seconds: u64| {
            let found = cache.fresh("k", &control(header), start + secs(seconds), None);
            found.map(|(_, age)| age.as_secs())
        };
        assert_eq!(age("", 0), Some(0));
        assert_eq!(age("", 10), Some(10));
        assert_eq!(age("", 11), None);
        assert_eq!(age("max-age=60", 60), Some(60));
        assert_eq!(age("max-age=60", 61), None);
        assert_eq!(age("max-age=0", 1), None);
        assert_eq!(age("must-revalidate", 1), None);
        assert_eq!(age("max-age=60, must-revalidate", 1), None);
    }

    #[test]
    fn without_a_newer_answer_the_last_one_goes_to_those_who_allow_it() {
        let (start, mut cache) = (Instant::now(), ForwardCache::new(1 << 20));
        cache.put(&"k".into(), answer("a"), start);
        let mut age = |header: &str, seconds: u64| {
            let now = start + secs(seconds);
            let found = cache.fallback("k", &control(header), secs(600), now, None);
            found.map(|(_, age)| age.as_secs())
        };
        assert_eq!(age("", 600), Some(600));
        assert_eq!(age("", 601), None);
        assert_eq!(age("max-age=5", 6), None);
        assert_eq!(age("must-revalidate", 6), None);
        assert_eq!(age("max-age=5, stale-if-error=30", 30), Some(30));
        assert_eq!(age("max-age=5, stale-if-error=30", 31), None);
        assert_eq!(age("stale-if-error=5000", 4000), Some(4000));
    }

    #[test]
    fn an_answer_that_came_old_is_as_old_as_that_and_does_not_replace_a_younger_one() {
        let (start, mut cache) = (Instant::now(), ForwardCache::new(1 << 20));
        let aged = |body, seconds| Arc::new(Answer { age: secs(seconds), ..(*answer(body)).clone() });
        cache.put(&"k".into(), aged("old", 30), start);
        let found = |cache: &mut ForwardCache, seconds| {
            let found = cache.fallback("k", &control(""), secs(600), start + secs(seconds), None);
            found.map(|(answer, age)| (answer.body.clone(), age.as_secs())).unwrap()
        };
        assert_eq!(found(&mut cache, 5), ("old".into(), 35));
        cache.put(&"k".into(), aged("older", 36), start + secs(5));
        assert_eq!(found(&mut cache, 5), ("old".into(), 35));
        cache.put(&"k".into(), aged("younger", 34), start + secs(5));
        assert_eq!(found(&mut cache, 6), ("younger".into(), 35));
    }

    #[test]
    fn an_entry_that_is_kept_fresh_is_as_old_as_the_last_sign_of_life() {
        let (start, mut cache) = (Instant::now(), ForwardCache::new(1 << 20));
        cache.put(&"k".into(), answer("a"), start);
        assert!(cache.take_care("k"));
        assert!(!cache.take_care("k"), "one keeper is enough");
        cache.set_live("k", true, None);
        let strict = control("must-revalidate");
        let heard = Some(start + secs(99));
        assert!(matches!(cache.fresh("k", &strict, start + secs(100), heard), Some((_, Duration::ZERO))));
        let found = cache.fresh("k", &control("max-age=60"), start + secs(109), heard).unwrap();
        assert_eq!(found.1, secs(10));
        cache.set_live("k", false, heard);
        let found =
            cache.fresh("k", &control("max-age=60"), start + secs(119), Some(start + secs(119))).unwrap();
        assert_eq!(found.1, secs(20), "what comes later from there confirms nothing");
    }

    #[test]
    fn what_is_unused_for_longest_goes_first() {
        let (now, mut cache) = (Instant::now(), ForwardCache::new(3 * ENTRY_BYTES + 100));
        for key in ["a", "b", "c"] {
            cache.put(&key.into(), answer("x"), now);
        }
        cache.fresh("a", &control(""), now, None).unwrap();
        cache.put(&"d".into(), answer("x"), now);
        let held = |cache: &mut ForwardCache, key: &str| cache.fresh(key, &control(""), now, None).is_some();
        assert!(
            held(&mut cache, "a") && !held(&mut cache, "b") && held(&mut cache, "c") && held(&mut cache, "d")
        );
        let large = Answer { body: Bytes::from(vec![0; 4 * ENTRY_BYTES]), ..(*answer("")).clone() };
        cache.put(&"e".into(), Arc::new(large), now);
        assert!(!held(&mut cache, "e"));
        let (entries, bytes) = cache.size();
        assert_eq!((entries, cache.by_use.len()), (3, 3));
        assert!(bytes <= cache.bytes_max);
    }

    #[test]
    fn to_be_kept_fresh_is_no_use() {
        let (now, mut cache) = (Instant::now(), ForwardCache::new(3 * ENTRY_BYTES + 100));
        for key in ["unused", "used", "late"] {
            cache.put(&key.into(), answer("x"), now);
        }
        cache.fresh("used", &control(""), now, None).unwrap();
        cache.renew(&"unused".into(), answer("y"), now);
        cache.put(&"new".into(), answer("x"), now);
        let held = |key: &str| cache.entries.contains_key(key);
        assert!(!held("unused") && held("used") && held("late") && held("new"));
        cache.renew(&"unused".into(), answer("z"), now);
        assert_eq!((cache.entries.len(), cache.by_use.len()), (3, 3), "what has gone does not come back");
    }

    #[test]
    fn care_ends_when_an_entry_is_not_used() {
        let (start, mut cache) = (Instant::now(), ForwardCache::new(1 << 20));
        cache.put(&"k".into(), answer("a"), start);
        assert!(cache.take_care("k"));
        assert_eq!(cache.next_index("k", secs(60), start + secs(60)), Some(7));
        assert_eq!(cache.next_index("k", secs(60), start + secs(61)), None);
        assert!(cache.take_care("k"), "it may be taken care of again");
    }
}
