//! Whether a history of calls is linearizable: whether it could have come from one object that did one thing at a
//! time, each call somewhere between when it was sent and when it was answered.
//!
//! The algorithm is Wing and Gong's with Lowe's memory: try the calls that may be next, one after the other, and
//! never try the same set of done calls with the same state twice. A call without an answer may have been done at
//! any later time, or never.

mod catalog;
mod kv;
mod lock;

use std::collections::HashSet;
use std::hash::Hash;

pub use catalog::{Catalog, CatalogCall};
pub use kv::{Kv, KvCall};
pub use lock::{Lock, LockCall};

/// Sets of done calls remembered before a history is given up as too tangled: some hundred megabytes.
const REMEMBERED_MAX: usize = 2_000_000;

/// What an object does, one call at a time.
pub trait Model {
    /// All that matters of the past.
    type State: Clone + Eq + Hash;
    /// A call with its answer; the answer is absent when the outcome is unknown.
    type Call;

    /// Before the first call.
    fn initial() -> Self::State;

    /// The state after the call, unless its answer cannot be given in this state. A call with unknown outcome is
    /// taken to have been done; that it was not done is the checker's business.
    fn apply(state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

/// One call of a history.
#[derive(Debug, Clone)]
pub struct Event<C> {
    /// The call.
    pub call: C,
    /// When it was sent, on a clock that all clients share.
    pub sent: u64,
    /// When it was answered; absent when the outcome is unknown.
    pub answered: Option<u64>,
}

/// What the checker found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One order explains everything.
    Linearizable,
    /// No order does; in the best one, this call had to be done and could not.
    Violated(usize),
    /// Too tangled to tell.
    Undecided,
}

/// Judges the history of one object.
pub fn check<M: Model>(history: &[Event<M::Call>]) -> Verdict {
    let mut search = Search::<M>::new(history);
    loop {
        if search.owed == 0 {
            return Verdict::Linearizable;
        }
        if search.remembered.len() > REMEMBERED_MAX {
            return Verdict::Undecided;
        }
        match search.line.entries[search.at] {
            Entry::Sent(call) => {
                if !search.try_call(call) {
                    search.at = search.line.next[search.at];
                }
            }
            Entry::Answered(call) => {
                if search.done.len() >= search.deepest.0 {
                    search.deepest = (search.done.len(), call);
                }
                if !search.undo() {
                    return Verdict::Violated(search.deepest.1);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Sent(usize),
    Answered(usize),
}

/// What is sent and answered, in the order of time; calls are taken out when done and put back when undone.
struct Line {
    entries: Vec<Entry>,
    /// Neighbours of each entry; the last place is before the first and after the last entry.
    next: Vec<usize>,
    before: Vec<usize>,
    /// Where each call is sent and answered.
    places: Vec<(usize, Option<usize>)>,
}

struct Search<'a, M: Model> {
    history: &'a [Event<M::Call>],
    line: Line,
    at: usize,
    state: M::State,
    /// Calls done so far, with the state before each.
    done: Vec<(usize, M::State)>,
    set: Vec<u64>,
    remembered: HashSet<(Box<[u64]>, M::State)>,
    /// Answered calls that are not done yet.
    owed: usize,
    /// The most calls that were done when one stood in the way, and that one.
    deepest: (usize, usize),
}

impl<'a, M: Model> Search<'a, M> {
    fn new(history: &'a [Event<M::Call>]) -> Self {
        let line = Line::new(history);
        Self {
            at: line.next[line.entries.len()],
            line,
            state: M::initial(),
            done: Vec::new(),
            set: vec![0; history.len().div_ceil(64)],
            remembered: HashSet::new(),
            owed: history.iter().filter(|event| event.answered.is_some()).count(),
            deepest: (0, 0),
            history,
        }
    }

    /// Does the call next, if that is possible and new.
    fn try_call(&mut self, call: usize) -> bool {
        let Some(after) = M::apply(&self.state, &self.history[call].call) else { return false };
        self.set[call / 64] |= 1 << (call % 64);
        if !self.remembered.insert((self.set.clone().into(), after.clone())) {
            self.set[call / 64] &= !(1 << (call % 64));
            return false;
        }
        self.done.push((call, std::mem::replace(&mut self.state, after)));
        self.owed -= usize::from(self.history[call].answered.is_some());
        self.line.take_out(call);
        self.at = self.line.next[self.line.entries.len()];
        true
    }

    /// Takes the last call back and goes on behind it; false when there is none.
    fn undo(&mut self) -> bool {
        let Some((call, before)) = self.done.pop() else { return false };
        self.state = before;
        self.set[call / 64] &= !(1 << (call % 64));
        self.owed += usize::from(self.history[call].answered.is_some());
        self.line.put_back(call);
        self.at = self.line.next[self.line.places[call].0];
        true
    }
}

impl Line {
    fn new<C>(history: &[Event<C>]) -> Self {
        // At the same moment what is sent comes first: calls that touch count as concurrent.
        let sent = history.iter().enumerate().map(|(call, event)| (event.sent, 0, Entry::Sent(call)));
        let answered = history.iter().enumerate().filter_map(|(call, event)| Some((event.answered?, call)));
        let answered = answered.map(|(time, call)| (time, 1, Entry::Answered(call)));
        let mut timed: Vec<_> = sent.chain(answered).collect();
        timed.sort_by_key(|(time, order, _)| (*time, *order));
        let entries: Vec<_> = timed.into_iter().map(|(_, _, entry)| entry).collect();
        let mut places = vec![(0, None); history.len()];
        for (place, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Sent(call) => places[*call].0 = place,
                Entry::Answered(call) => places[*call].1 = Some(place),
            }
        }
        let count = entries.len() + 1;
        let next = (0..count).map(|place| (place + 1) % count).collect();
        let before = (0..count).map(|place| (place + count - 1) % count).collect();
        Self { entries, next, before, places }
    }

    fn take_out(&mut self, call: usize) {
        let (sent, answered) = self.places[call];
        for place in [Some(sent), answered].into_iter().flatten() {
            let (before, next) = (self.before[place], self.next[place]);
            self.next[before] = next;
            self.before[next] = before;
        }
    }

    /// In the opposite order of taking out, so that each place finds its neighbours as they were.
    fn put_back(&mut self, call: usize) {
        let (sent, answered) = self.places[call];
        for place in [answered, Some(sent)].into_iter().flatten() {
            let (before, next) = (self.before[place], self.next[place]);
            self.next[before] = place;
            self.before[next] = place;
        }
    }
}

#[cfg(test)]
mod tests;
