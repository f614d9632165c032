//! What must hold, and the trace of all that happened.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use http::Request;
use parking_lot::Mutex;
use tokio::time::Instant;
use tribune_core::Datacenter;

use crate::fate::Fate;

/// What came of a write, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    NotDone,
    Unknown,
}

#[derive(Debug, Default)]
struct Write {
    datacenter: usize,
    applied: u32,
    verdict: Option<Verdict>,
}

/// Watches a run. A broken promise is remembered and ends it.
pub(crate) struct Oracle {
    begun: Instant,
    is_loud: bool,
    /// Over when a promise is broken.
    pub(crate) is_broken: Fate,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    trace: DefaultHasher,
    broken: Option<String>,
    writes: BTreeMap<u64, Write>,
    counts: BTreeMap<String, u64>,
    /// The worst that was seen of what has a bound, in milliseconds.
    worst: BTreeMap<&'static str, u128>,
}

impl Oracle {
    pub(crate) fn new(is_loud: bool) -> Self {
        Self { begun: Instant::now(), is_loud, is_broken: Fate::default(), inside: Mutex::default() }
    }

    /// Notes an event in the trace.
    pub(crate) fn note(&self, event: &str) {
        let at = self.begun.elapsed().as_micros();
        (at, event).hash(&mut self.inside.lock().trace);
        if self.is_loud {
            println!("{:>11.3} {event}", at as f64 / 1e3);
        }
    }

    /// Counts what the run has come across.
    pub(crate) fn count(&self, what: &str) {
        *self.inside.lock().counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Notes how long something took that has a bound.
    pub(crate) fn took(&self, what: &'static str, millis: u128) {
        let mut inside = self.inside.lock();
        let worst = inside.worst.entry(what).or_default();
        *worst = millis.max(*worst);
    }

    /// Holds or is broken; the first that is broken counts.
    pub(crate) fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if holds {
            return;
        }
        let what = format!("BROKEN: {}", what());
        self.note(&what);
        self.inside.lock().broken.get_or_insert(what);
        self.is_broken.end();
    }

    pub(crate) fn broken(&self) -> Option<String> {
        self.inside.lock().broken.clone()
    }

    /// A request has arrived at a gateway: it must have come straight, or through one other datacenter.
    pub(crate) fn arrived<B>(&self, from: &Datacenter, here: &Datacenter, request: &Request<B>) {
        let path = request.uri().path();
        if path.starts_with("/gossip/") {
            return;
        }
        let query = request.uri().query().unwrap_or_default();
        let via =
            request.headers().get("x-tribune-via").and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.note(&format!("{from} asks {here} {path}?{query} via {via}"));
        let names: Vec<&str> = via.split(',').collect();
        let circle = names.contains(&here.as_str()) || (names.len() == 2 && names[0] == names[1]);
        self.expect(!circle && names.last() == Some(&from.as_str()), || {
            format!("a request in a circle: {path}?{query} at {here} via {via}")
        });
        let named = query.split('&').find_map(|pair| pair.strip_prefix("dc="));
        let may_go_on = names.len() == 1;
        self.expect(may_go_on || (names.len() == 2 && named == Some(here.as_str())), || {
            format!("a second detour: {path}?{query} at {here} via {via}")
        });
        if !may_go_on {
            self.count("detours");
        }
    }

    /// A datacenter does what a write asks for.
    pub(crate) fn applied(&self, datacenter: usize, id: u64) {
        self.note(&format!("dc{datacenter} applies write {id}"));
        let (meant, applied, verdict) = {
            let mut inside = self.inside.lock();
            let write = inside.writes.entry(id).or_default();
            write.applied += 1;
            (write.datacenter, write.applied, write.verdict)
        };
        self.expect(meant == datacenter, || {
            format!("write {id} for dc{meant} was applied in dc{datacenter}")
        });
        self.expect(applied == 1, || format!("write {id} was applied {applied} times"));
        let refused = verdict == Some(Verdict::NotDone);
        self.expect(!refused, || format!("write {id} was applied after its client was told that it was not"));
    }

    /// A client is about to write.
    pub(crate) fn intend(&self, datacenter: usize, id: u64) {
        self.inside.lock().writes.insert(id, Write { datacenter, ..Write::default() });
    }

    /// A client was told what came of its write.
    pub(crate) fn judged(&self, id: u64, verdict: Verdict) {
        let applied = {
            let mut inside = self.inside.lock();
            let write = inside.writes.entry(id).or_default();
            write.verdict = Some(verdict);
            write.applied
        };
        match verdict {
            Verdict::Done => {
                self.expect(applied == 1, || format!("write {id} was acknowledged and not applied"))
            }
            Verdict::NotDone => self.expect(applied == 0, || format!("write {id} was refused and applied")),
            Verdict::Unknown => {}
        }
    }

    /// What the run has come across, in one line; and the hash of all that happened.
    pub(crate) fn summary(&self) -> (String, String) {
        let inside = self.inside.lock();
        let trace = format!("{:016x}", inside.trace.finish());
        (format!("{:?}; worst in ms {:?}", inside.counts, inside.worst), trace)
    }
}
