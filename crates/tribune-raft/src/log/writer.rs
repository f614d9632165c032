//! The thread that owns writing to the log: it takes everything that is queued, makes one commit of it, and then
//! tells everybody. A commit costs one sync whatever it holds, so the more is waiting, the cheaper each becomes.
//!
//! In a simulation it is a task instead, so that the order of events is the simulation's own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use openraft::storage::IOFlushed;
use parking_lot::RwLock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::Failure;
use super::disk::{Disk, DiskError};
use super::tail::Tail;
use crate::offload::Offload;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Jobs in one commit. What waits longer than one commit is bounded by the proposals that may wait at all; this
/// keeps a single commit from growing without end.
const BATCH_JOBS_MAX: usize = 4096;

pub(super) type Done = oneshot::Sender<Result<(), io::Error>>;

/// Something to write.
pub(super) enum Job {
    Append(Vec<Entry>, IOFlushed<TypeConfig>),
    Vote(Vote, Done),
    /// Remove the entry with this index and all behind it.
    Truncate(u64, Done),
    /// Remove all entries up to this one.
    Purge(LogId, Done),
    /// Note how far the log is agreed upon. A hint for the next start, so it rides with the next commit.
    Committed(LogId),
    /// Write the last hint and end.
    Close,
}

/// The owner of the thread or task.
#[derive(Debug)]
pub(super) enum Writer {
    Thread(JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Writer {
    pub(super) fn start(
        disk: Arc<Disk>,
        tail: Arc<RwLock<Tail>>,
        failure: Failure,
        offload: Offload,
    ) -> Result<(Self, UnboundedSender<Job>), DiskError> {
        let (sender, queue) = unbounded_channel();
        let work = Work { disk, tail, failure, committed: None };
        let writer = match offload {
            Offload::Threads => {
                let thread = std::thread::Builder::new().name("raft-log".into());
                Self::Thread(thread.spawn(move || work.run_as_thread(queue))?)
            }
            Offload::Inline => Self::Task(tokio::spawn(work.run_as_task(queue))),
        };
        Ok((writer, sender))
    }

    /// Waits for the end, which must have been asked for.
    pub(super) async fn ended(self) {
        let ended = match self {
            Self::Thread(_) => tokio::task::spawn_blocking(move || self.join()).await,
            Self::Task(task) => task.await,
        };
        if ended.is_err() {
            tracing::error!("the log's writer ended by a panic");
        }
    }

    /// The same outside of the runtime. Blocks.
    pub(super) fn join(self) {
        if let Self::Thread(thread) = self
            && thread.join().is_err()
        {
            tracing::error!("the log's writer ended by a panic");
        }
    }
}

struct Work {
    disk: Arc<Disk>,
    tail: Arc<RwLock<Tail>>,
    failure: Failure,
    /// The newest hint that is not written yet.
    committed: Option<LogId>,
}

impl Work {
    fn run_as_thread(mut self, mut queue: UnboundedReceiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            if !self.take(first, &mut queue) {
                return;
            }
        }
    }

    async fn run_as_task(mut self, mut queue: UnboundedReceiver<Job>) {
        while let Some(first) = queue.recv().await {
            tokio::time::sleep(crate::chance::disk_delay()).await;
            if !self.take(first, &mut queue) {
                return;
            }
        }
    }

    /// Writes this job and what else is queued; whether more may come.
    fn take(&mut self, first: Job, queue: &mut UnboundedReceiver<Job>) -> bool {
        let mut jobs = vec![first];
        while jobs.len() < BATCH_JOBS_MAX
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        let open = !jobs.iter().any(|job| matches!(job, Job::Close));
        self.note_committed(&jobs);
        if !open || jobs.iter().any(|job| !matches!(job, Job::Committed(_))) {
            self.write(jobs);
        }
        open
    }

    fn note_committed(&mut self, jobs: &[Job]) {
        for job in jobs {
            if let Job::Committed(committed) = job {
                self.committed = Some(*committed);
            }
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let begun = Instant::now();
        if self.failure.reason().is_none() {
            match self.disk.commit(&jobs, self.committed.take()) {
                Ok(()) => self.move_durable(&jobs),
                Err(error) => {
                    tracing::error!(%error, "the log cannot be written, nothing more is written until a restart");
                    self.failure.set(format!("the log cannot be written: {error}"));
                }
            }
            metrics::histogram!("raft.boltdb.storeLogs").record(begun.elapsed().as_secs_f64() * 1e3);
            metrics::histogram!("raft.boltdb.logsPerBatch")
                .record(jobs.iter().map(Job::entries).sum::<usize>() as f64);
        }
        for job in jobs {
            job.finish(&self.failure);
        }
    }

    fn move_durable(&self, jobs: &[Job]) {
        let mut tail = self.tail.write();
        for job in jobs {
            match job {
                Job::Append(entries, _) => {
                    if let Some(last) = entries.last() {
                        tail.durable = last.log_id.index;
                    }
                }
                Job::Truncate(first_removed, _) => {
                    tail.durable = tail.durable.min(first_removed.saturating_sub(1));
                }
                Job::Vote(..) | Job::Purge(..) | Job::Committed(_) | Job::Close => {}
            }
        }
    }
}

impl Job {
    fn entries(&self) -> usize {
        match self {
            Self::Append(entries, _) => entries.len(),
            _ => 0,
        }
    }

    fn finish(self, failure: &Failure) {
        let outcome = match failure.reason() {
            None => Ok(()),
            Some(_) => Err(failure.error()),
        };
        match self {
            Self::Append(_, callback) => callback.io_completed(outcome),
            Self::Vote(_, done) | Self::Truncate(_, done) | Self::Purge(_, done) => {
                // Whoever asked may have gone.
                let _ = done.send(outcome);
            }
            Self::Committed(_) | Self::Close => {}
        }
    }
}
