//! The part of the log that is held in memory: what is not on the disk yet, and the newest of what is.

use std::collections::VecDeque;
use std::ops::Range;

use super::disk::Recovered;
use crate::types::{Entry, LogId, Vote};

/// Entries held although they are on the disk, so that applying and replicating them reads no disk. Commands are
/// shared with the state machine's queue; a few megabytes at their usual size.
pub(super) const ENTRIES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Tail {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// The last entry removed from the front.
    pub(super) purged: Option<LogId>,
    /// The last entry, or the last removed one when there is none.
    pub(super) last: Option<LogId>,
    /// Where the log begins; meaningful while it is not empty.
    first: u64,
    /// Entries above this index may not be on the disk yet. Moved by the writer.
    pub(super) durable: u64,
    /// The newest entries without a gap, up to `last`.
    entries: VecDeque<Entry>,
}

impl Tail {
    pub(super) fn new(recovered: Recovered) -> Self {
        let Recovered { vote, committed, purged, last, newest } = recovered;
        let durable = last.map_or(0, |last| last.index);
        let first = purged.map_or(0, |purged| purged.index + 1);
        Self { vote, committed, purged, last, first, durable, entries: newest.into() }
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        if self.last == self.purged {
            self.first = first.log_id.index;
        }
        self.last = Some(last.log_id);
        self.entries.extend(entries.iter().cloned());
        while self.entries.len() > ENTRIES_MAX
            && self.entries.front().is_some_and(|oldest| oldest.log_id.index <= self.durable)
        {
            self.entries.pop_front();
        }
    }

    /// Removes the entry at `first_removed` and all behind it; `last` is the one before.
    pub(super) fn truncate(&mut self, first_removed: u64, last: Option<LogId>) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= first_removed) {
            self.entries.pop_back();
        }
        self.last = self.last.min(last).max(self.purged);
    }

    /// Removes all entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(self.purged);
        self.first = self.first.max(upto.index + 1);
    }

    /// The entries from `from` to before `to`: first the range that only the disk has, then those held here.
    pub(super) fn read(&self, from: u64, to: u64) -> (Range<u64>, Vec<Entry>) {
        let from = from.max(self.first);
        let to = to.min(self.last.map_or(0, |last| last.index + 1));
        if from >= to {
            return (0..0, Vec::new());
        }
        let held_from = self.entries.front().map_or(to, |oldest| oldest.log_id.index.min(to));
        let skip = from.saturating_sub(held_from) as usize;
        let take = to.saturating_sub(from.max(held_from)) as usize;
        let recent = self.entries.iter().skip(skip).take(take).cloned().collect();
        let older = if from < held_from { from..held_from } else { 0..0 };
        (older, recent)
    }
}
