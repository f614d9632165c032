//! The log and the vote of one server.
//!
//! ```text
//! append ──► tail (readable at once) ──► queue ──► writer thread: one commit for all that is queued ──► callbacks
//! read   ◄── tail, or the disk for what is older
//! ```
//!
//! Everything that is written goes through the one queue, so votes, entries, truncations and purges reach the
//! disk in the order they were asked for.

mod disk;
mod tail;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::faults::Fault;
use crate::offload::Offload;
use crate::types::{Entry, LogId, TypeConfig, Vote};

pub(crate) use disk::{Disk, DiskError};
use tail::Tail;
use writer::{Job, Writer};

/// A cheap handle to the log.
#[derive(Debug, Clone)]
pub(crate) struct LogStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tail: Arc<RwLock<Tail>>,
    /// Gone once the log is closed.
    disk: ArcSwapOption<Disk>,
    writer: Mutex<Option<Writer>>,
    queue: UnboundedSender<Job>,
    offload: Offload,
    failure: Failure,
}

/// Why nothing can be written any more, once that is so. A write or sync that failed leaves it open what is on
/// the disk; trying again could report as safe what is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// The first failure counts.
    fn set(&self, reason: String) {
        let _ = self.0.set(reason);
    }

    /// The reason, once there is one.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn error(&self) -> io::Error {
        io::Error::other(self.reason().unwrap_or("the log is closed").to_owned())
    }
}

impl LogStore {
    /// Continues with what the disk holds.
    pub(crate) fn open(disk: Disk, offload: Offload) -> Result<Self, DiskError> {
        let tail = Arc::new(RwLock::new(Tail::new(disk.recover(tail::ENTRIES_MAX)?)));
        let disk = Arc::new(disk);
        let failure = Failure::default();
        let (writer, queue) = Writer::start(disk.clone(), tail.clone(), failure.clone(), offload)?;
        Ok(Self(Arc::new(Inner {
            tail,
            disk: ArcSwapOption::new(Some(disk)),
            writer: Mutex::new(Some(writer)),
            queue,
            offload,
            failure,
        })))
    }

    /// Why the log can no longer be written, if that is so.
    pub(crate) fn failure(&self) -> Failure {
        self.0.failure.clone()
    }

    /// The last entry that was removed from the front of the log.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.0.tail.read().purged
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_pristine(&self) -> bool {
        let tail = self.0.tail.read();
        tail.last.is_none() && tail.vote.is_none()
    }

    /// Writes what is queued and lets go of the disk.
    pub(crate) async fn close(&self) {
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            // The writer ends at this job, or has ended already.
            let _ = self.0.queue.send(Job::Close);
            writer.ended().await;
        }
        self.0.disk.store(None);
    }

    /// The same outside of the runtime. Blocks.
    pub(crate) fn close_blocking(&self) {
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            let _ = self.0.queue.send(Job::Close);
            writer.join();
        }
        self.0.disk.store(None);
    }

    /// The whole log and the disk it is on. Blocks.
    pub(crate) fn read_all(&self) -> Result<(Vec<Entry>, Arc<Disk>), io::Error> {
        let Some(disk) = self.0.disk.load_full() else { return Err(self.0.failure.error()) };
        let entries = disk.read(0..u64::MAX).map_err(io::Error::other)?;
        Ok((entries, disk))
    }

    fn send(&self, job: Job) -> Result<(), io::Error> {
        self.0.queue.send(job).map_err(|_| self.0.failure.error())
    }

    /// Queues a job and waits until it is safe on the disk.
    async fn write(&self, job: impl FnOnce(writer::Done) -> Job) -> Result<(), io::Error> {
        let (done, outcome) = oneshot::channel();
        self.send(job(done))?;
        outcome.await.map_err(|_| self.0.failure.error())?
    }

    async fn read_disk(&self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        let Some(disk) = self.0.disk.load_full() else { return Err(self.0.failure.error()) };
        self.0.offload.run(move || disk.read(from..to)).await?.map_err(io::Error::other)
    }
}

/// A range as its first index and the one after its last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let (older, recent) = self.0.tail.read().read(from, to);
        if older.is_empty() {
            return Ok(recent);
        }
        let mut entries = self.read_disk(older.start, older.end).await?;
        if entries.last().is_none_or(|last| last.log_id.index + 1 != older.end) {
            return Err(io::Error::other(format!(
                "the log has no entry {}, though nobody removed it",
                older.end - 1
            )));
        }
        entries.extend(recent);
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.tail.read().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.0.tail.read();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if !Fault::VoteNotSaved.is_planted() {
            self.write(|done| Job::Vote(*vote, done)).await?;
        }
        self.0.tail.write().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.tail.write().committed = committed;
        committed.map_or(Ok(()), |committed| self.send(Job::Committed(committed)))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.tail.read().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.0.tail.write().append(&entries);
        if let Some(last) = entries.last() {
            metrics::gauge!("raft.last_index").set(last.log_id.index as f64);
        }
        self.send(Job::Append(entries, callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_removed = last.map_or(0, |last| last.index + 1);
        self.0.tail.write().truncate(first_removed, last);
        self.write(|done| Job::Truncate(first_removed, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.tail.write().purge(upto);
        self.write(|done| Job::Purge(upto, done)).await
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::types::log_id;

    const COUNT: u64 = tail::ENTRIES_MAX as u64 + 2000;

    async fn filled() -> LogStore {
        let mut log = LogStore::open(Disk::on(InMemoryBackend::new()).unwrap(), Offload::Threads).unwrap();
        for first in (0..COUNT).step_by(16) {
            let entry = |index| Entry { log_id: log_id(1, index), payload: EntryPayload::Blank };
            let entries: Vec<_> = (first..first + 16).map(entry).collect();
            log.append(entries, IOFlushed::noop()).await.unwrap();
            if first % 1024 == 0 {
                // A vote is durable when it returns, and so is all that was queued before it.
                log.save_vote(&Vote::new(1, first)).await.unwrap();
            }
        }
        log
    }

    async fn indexes(log: &mut LogStore, range: impl RangeBounds<u64> + Clone + Debug + Send) -> Vec<u64> {
        let entries = log.try_get_log_entries(range).await.unwrap();
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[tokio::test]
    async fn entries_are_read_from_memory_and_disk_as_one() {
        let mut log = filled().await;
        let count = log.0.tail.read().last.unwrap().index + 1;
        for (from, to) in [(0, 1), (0, count), (17, 500), (1000, count - 1), (count - 5, count + 9), (3, 3)] {
            let expected: Vec<_> = (from..to.min(count)).collect();
            assert_eq!(indexes(&mut log, from..to).await, expected, "{from}..{to}");
        }
        log.purge(log_id(1, 1500)).await.unwrap();
        assert_eq!(indexes(&mut log, ..1504).await, [1501, 1502, 1503]);
        log.truncate_after(Some(log_id(1, 1502))).await.unwrap();
        assert_eq!(indexes(&mut log, ..).await, [1501, 1502]);
        let entry = Entry { log_id: log_id(2, 1503), payload: EntryPayload::Blank };
        log.append([entry], IOFlushed::noop()).await.unwrap();
        assert_eq!(indexes(&mut log, ..).await, [1501, 1502, 1503]);
        log.close().await;
    }

    #[tokio::test]
    async fn a_closed_log_refuses_everything() {
        let mut log = filled().await;
        log.clone().close().await;
        assert!(log.save_vote(&Vote::new(9, 9)).await.is_err());
        assert!(log.try_get_log_entries(0..1).await.is_err());
    }
}
