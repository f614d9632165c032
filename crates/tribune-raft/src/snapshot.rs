//! The snapshots of one replica: when one is due, building it beside the work, keeping the newest.
//!
//! A snapshot is a state that was cloned in no time; on a disk it is also a file (see [`file`]), written on a
//! thread of its own. The newest is held in memory as well: it shares nearly everything with the present state.

pub(crate) mod file;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotOf;
use parking_lot::Mutex;
use tribune_core::State;

use crate::machine::SnapshotHandle;
use crate::types::{SnapshotMeta, TypeConfig};

type Snapshot = SnapshotOf<TypeConfig, SnapshotHandle>;

/// What is kept of the past.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Where the files are; `None` keeps the newest snapshot in memory only.
    directory: Option<PathBuf>,
    interval: Duration,
    newest: Mutex<Newest>,
    /// One file is written at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Newest {
    snapshot: Option<Snapshot>,
    built: Option<Instant>,
}

impl Snapshots {
    /// Continues from `snapshot`, which has been read from `directory` already.
    pub(crate) fn new(directory: Option<PathBuf>, interval: Duration, snapshot: Option<Snapshot>) -> Self {
        Self {
            directory,
            interval,
            newest: Mutex::new(Newest { snapshot, built: None }),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether the last snapshot was built long enough ago for the next one.
    pub(crate) fn is_due(&self) -> bool {
        self.newest.lock().built.is_none_or(|built| built.elapsed() >= self.interval)
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<Snapshot> {
        self.newest.lock().snapshot.clone()
    }

    /// Makes this the newest snapshot, on the disk first. An older one than the newest is left aside.
    pub(crate) async fn keep(&self, meta: SnapshotMeta, state: State) -> Result<(), io::Error> {
        let _one_at_a_time = self.writing.lock().await;
        if self.current().is_some_and(|newest| newest.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        if let Some(directory) = self.directory.clone() {
            let (meta, state) = (meta.clone(), state.clone());
            let written = tokio::task::spawn_blocking(move || file::write(&directory, &meta, &state));
            written.await.map_err(io::Error::other)??;
        }
        let mut newest = self.newest.lock();
        newest.snapshot = Some(Snapshot { meta, snapshot: SnapshotHandle(state) });
        newest.built = Some(Instant::now());
        Ok(())
    }
}

/// Builds one snapshot of the state it was made with.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    snapshots: Arc<Snapshots>,
    meta: SnapshotMeta,
    state: State,
}

impl SnapshotBuilder {
    pub(crate) fn new(snapshots: Arc<Snapshots>, meta: SnapshotMeta, state: State) -> Self {
        Self { snapshots, meta, state }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let begun = Instant::now();
        self.snapshots.keep(self.meta.clone(), self.state.clone()).await?;
        metrics::histogram!("raft.snapshot.create").record(begun.elapsed().as_secs_f64() * 1e3);
        Ok(Snapshot { meta: self.meta.clone(), snapshot: SnapshotHandle(self.state.clone()) })
    }
}
