//! The snapshots of one replica: when one is due, building it beside the work, keeping the newest.
//!
//! A snapshot is a state that was cloned in no time; on a disk it is also a file (see [`file`]), written on a
//! thread of its own. The newest is held in memory as well: it shares nearly everything with the present state.

pub(crate) mod file;
pub(crate) mod incoming;
pub(crate) mod outgoing;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotOf;
use parking_lot::Mutex;
use tribune_core::State;

use crate::machine::SnapshotHandle;
use crate::offload::Offload;
use crate::types::{SnapshotMeta, TypeConfig};

type Snapshot = SnapshotOf<TypeConfig, SnapshotHandle>;

/// What is kept of the past.
#[derive(Debug)]
pub(crate) struct Snapshots {
    place: Place,
    offload: Offload,
    interval: Duration,
    newest: Mutex<Newest>,
    /// One file is written at a time.
    writing: tokio::sync::Mutex<()>,
}

/// Where snapshots are kept besides the memory.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Nowhere,
    /// As files in this directory.
    Directory(PathBuf),
    #[cfg(feature = "testing")]
    Simulated(crate::simulation::Opened),
}

impl Place {
    /// Writes a snapshot safely. Blocks.
    fn write(&self, meta: &SnapshotMeta, state: &State) -> Result<(), io::Error> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Directory(directory) => file::write(directory, meta, state),
            #[cfg(feature = "testing")]
            Self::Simulated(disk) => disk.keep_snapshot(file::pieces(meta, state.records())?),
        }
    }
}

#[derive(Debug)]
struct Newest {
    snapshot: Option<Snapshot>,
    /// When the last one was begun, whatever came of it.
    begun: Option<Instant>,
}

impl Snapshots {
    /// Continues from `snapshot`, which has been read from `place` already.
    pub(crate) fn new(
        place: Place,
        offload: Offload,
        interval: Duration,
        snapshot: Option<Snapshot>,
    ) -> Self {
        Self {
            place,
            offload,
            interval,
            newest: Mutex::new(Newest { snapshot, begun: None }),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// Where they are kept.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the last snapshot was begun long enough ago for the next one.
    pub(crate) fn is_due(&self) -> bool {
        self.newest.lock().begun.is_none_or(|begun| begun.elapsed() >= self.interval)
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<Snapshot> {
        self.newest.lock().snapshot.clone()
    }

    /// Makes this the newest snapshot, on the disk first. An older one than the newest is left aside.
    pub(crate) async fn keep(&self, meta: SnapshotMeta, state: State) -> Result<(), io::Error> {
        let _one_at_a_time = self.writing.lock().await;
        self.newest.lock().begun = Some(Instant::now());
        if self.current().is_some_and(|newest| newest.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let (place, written) = (self.place.clone(), (meta.clone(), state.clone()));
        self.offload.run(move || place.write(&written.0, &written.1)).await??;
        self.newest.lock().snapshot = Some(Snapshot { meta, snapshot: SnapshotHandle(state) });
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

    /// A snapshot that cannot be written, for want of space perhaps, is no reason to stop: the log is kept, the
    /// snapshot before stays the newest, and the next attempt comes after the snapshot interval.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let begun = Instant::now();
        if let Err(error) = self.snapshots.keep(self.meta.clone(), self.state.clone()).await {
            tracing::error!(%error, "cannot write a snapshot, the log grows until one succeeds; is the disk full?");
            metrics::counter!("raft.snapshot.failed").increment(1);
        }
        metrics::histogram!("raft.snapshot.create").record(begun.elapsed().as_secs_f64() * 1e3);
        let nothing =
            || Snapshot { meta: SnapshotMeta::default(), snapshot: SnapshotHandle(State::default()) };
        Ok(self.snapshots.current().unwrap_or_else(nothing))
    }
}
