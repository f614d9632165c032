//! Starting a replica: opening what is there, or making a new datacenter.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::alias::SnapshotOf;
use openraft::async_runtime::watch::WatchReceiver;
use redb::backends::InMemoryBackend;
use tokio::sync::{Semaphore, watch};

use super::propose::PROPOSALS_MAX;
use super::{Inner, Replica};
use crate::config::{Config, Storage};
use crate::directory::{Directory, Opened};
use crate::error::StartError;
use crate::log::{Disk, LogStore};
use crate::machine::{Machine, SnapshotHandle};
use crate::network::NoRoad;
use crate::published::Published;
use crate::snapshot::Snapshots;
use crate::space::Space;
use crate::types::{Raft, ServerNode, TypeConfig, consensus_id};
use crate::watches::Watches;

/// Entries sent to another server in one go.
const ENTRIES_PER_PAYLOAD: u64 = 512;
/// Entries purged in one commit; fewer when fewer are kept anyway.
const PURGE_BATCH: u64 = 4096;
/// Bounds sending a whole snapshot to another server.
const SNAPSHOT_TRANSFER: Duration = Duration::from_secs(60);

impl Replica {
    /// Opens the replica, or makes one where nothing is. When it alone makes up the datacenter, it leads and has
    /// everything that was ever acknowledged by the time this returns.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let consensus = Arc::new(consensus_config(&config)?);
        let Parts { log, directory, snapshots } = open(&config).await?;
        let published = Published::default();
        let watches = Arc::new(Watches::default());
        let (term_told, applied_term) = watch::channel(0);
        let machine = Machine::new(published.clone(), watches.clone(), term_told, Arc::new(snapshots));
        let id = consensus_id(&config.server.id);
        let raft = match Raft::new(id, consensus, NoRoad, log.clone(), machine).await {
            Ok(raft) => raft,
            Err(fatal) => {
                close(log).await;
                return Err(refused(fatal));
            }
        };
        let replica = Self(Arc::new(Inner {
            space: directory.as_ref().map(|directory| Space::new(directory.path().to_owned())),
            config,
            id,
            raft,
            log,
            published,
            watches,
            applied_term,
            proposals: Semaphore::new(PROPOSALS_MAX),
            recovered: AtomicBool::new(false),
        }));
        if let Err(error) = replica.begin(directory).await {
            replica.shutdown().await;
            return Err(error);
        }
        Ok(replica)
    }

    /// Takes up this server's part: makes the datacenter when told to, and leads it when nobody else is there.
    async fn begin(&self, directory: Option<Directory>) -> Result<(), StartError> {
        let raft = &self.0.raft;
        let initialized = raft.is_initialized().await.map_err(refused)?;
        let creates = !initialized && self.0.config.bootstrap;
        if let Some(directory) = directory
            && (initialized || creates)
        {
            tokio::task::spawn_blocking(move || directory.mark_used()).await.map_err(refused)??;
        }
        if creates {
            let members = BTreeMap::from([(self.0.id, ServerNode::from(&self.0.config.server))]);
            raft.initialize(members).await.map_err(refused)?;
        }
        let alone = self.is_sole_voter(&raft.metrics().borrow_watched());
        if alone && initialized {
            raft.trigger().elect(false).await.map_err(refused)?;
        }
        if alone || creates {
            raft.wait_for_recovery(Some(self.0.config.rpc_hold_timeout)).await.map_err(refused)?;
            self.0.recovered.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// What a replica is put together from.
struct Parts {
    log: LogStore,
    directory: Option<Directory>,
    snapshots: Snapshots,
}

async fn open(config: &Config) -> Result<Parts, StartError> {
    let interval = config.snapshot_interval;
    let path = match config.storage.clone() {
        Storage::Directory(path) => path,
        Storage::Memory => {
            let log = Disk::on(InMemoryBackend::new()).and_then(LogStore::open).map_err(refused)?;
            return Ok(Parts { log, directory: None, snapshots: Snapshots::new(None, interval, None) });
        }
    };
    let server = config.server.id.clone();
    let opened = tokio::task::spawn_blocking(move || Directory::open(&path, &server)).await;
    let Opened { directory, log, snapshot } = opened.map_err(refused)??;
    let snapshot = snapshot.map(|(meta, state)| SnapshotOf::<TypeConfig, SnapshotHandle> {
        meta,
        snapshot: SnapshotHandle(state),
    });
    let snapshots = Snapshots::new(Some(directory.snapshots()), interval, snapshot);
    Ok(Parts { log, directory: Some(directory), snapshots })
}

async fn close(log: LogStore) {
    if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
        tracing::warn!(%error, "the log was not closed cleanly");
    }
}

fn refused(error: impl Display) -> StartError {
    StartError::Consensus(error.to_string())
}

fn consensus_config(config: &Config) -> Result<openraft::Config, StartError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let consensus = openraft::Config {
        cluster_name: "tribune".to_owned(),
        heartbeat_interval: millis(config.heartbeat_interval),
        election_timeout_min: millis(config.election_timeout_min),
        election_timeout_max: millis(config.election_timeout_max),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_threshold),
        max_in_snapshot_log_to_keep: config.trailing_logs,
        purge_batch_size: PURGE_BATCH.min(config.trailing_logs.max(1)),
        max_payload_entries: ENTRIES_PER_PAYLOAD,
        install_snapshot_timeout: millis(SNAPSHOT_TRANSFER),
        ..openraft::Config::default()
    };
    consensus.validate().map_err(|error| StartError::Config(error.to_string()))
}
