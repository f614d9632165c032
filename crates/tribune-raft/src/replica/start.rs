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
        let parts = open(&config).await?;
        Self::assemble(config, consensus, parts).await
    }

    /// Puts a replica together and lets it begin.
    async fn assemble(
        config: Config,
        consensus: Arc<openraft::Config>,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let Parts { log, directory, snapshots } = parts;
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
            metrics: raft.metrics(),
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
        let alone = self.is_sole_voter(&self.0.metrics.borrow_watched());
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use redb::StorageBackend;
    use tribune_core::{Authority, Command, Node, NodeName, Outcome, Registration};

    use super::*;
    use crate::config::ServerInfo;
    use crate::error::Error;
    use crate::replica::Consistency;

    /// A disk that is full as soon as it is told so, and counts what is still asked of it then.
    #[derive(Debug, Clone, Default)]
    struct Filling {
        inner: Arc<InMemoryBackend>,
        full: Arc<AtomicBool>,
        writes_while_full: Arc<AtomicUsize>,
    }

    impl Filling {
        fn check(&self) -> Result<(), io::Error> {
            if self.full.load(Ordering::SeqCst) {
                self.writes_while_full.fetch_add(1, Ordering::SeqCst);
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Filling {
        fn len(&self) -> Result<u64, io::Error> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.check().and_then(|()| self.inner.set_len(len))
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            self.check().and_then(|()| self.inner.sync_data())
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.check().and_then(|()| self.inner.write(offset, data))
        }
    }

    fn put(name: &str) -> Command {
        let node = Node {
            name: NodeName::new(name).unwrap(),
            id: Default::default(),
            address: "10.0.0.1".into(),
            tagged_addresses: Default::default(),
            meta: Default::default(),
        };
        Command::Register(Box::new(Registration {
            node,
            skip_node_update: false,
            service: None,
            checks: vec![],
        }))
    }

    #[tokio::test]
    async fn a_disk_that_fails_ends_writing_with_its_reason_and_reading_goes_on() {
        let disk = Filling::default();
        let name = NodeName::new("server").unwrap();
        let server = ServerInfo { id: "server".into(), name, address: ([127, 0, 0, 1], 8300).into() };
        let config = Config { bootstrap: true, ..Config::new(Storage::Memory, server) };
        let log = LogStore::open(Disk::on(disk.clone()).unwrap()).unwrap();
        let parts = Parts { log, directory: None, snapshots: Snapshots::new(None, Duration::ZERO, None) };
        let consensus = Arc::new(consensus_config(&config).unwrap());
        let replica = Replica::assemble(config, consensus, parts).await.unwrap();
        let anyone = Authority::unrestricted();
        assert_eq!(replica.propose(&anyone, put("before")).await, Ok(Outcome::Applied));
        let before = replica.state();

        disk.full.store(true, Ordering::SeqCst);
        let error = replica.propose(&anyone, put("while")).await.unwrap_err();
        assert!(matches!(&error, Error::Unknown(reason) if reason.contains("cannot be written")), "{error}");
        let asked = disk.writes_while_full.load(Ordering::SeqCst);
        disk.full.store(false, Ordering::SeqCst);
        let error = replica.propose(&anyone, put("after")).await.unwrap_err();
        assert!(matches!(&error, Error::Stopped(reason) if reason.contains("cannot be written")), "{error}");
        assert_eq!(disk.writes_while_full.load(Ordering::SeqCst), asked, "a failed write was tried again");
        for consistency in [Consistency::Default, Consistency::Consistent, Consistency::Stale] {
            assert_eq!(replica.read(consistency).await, Ok(before.clone()));
        }
        assert!(replica.cluster().stopped.is_some_and(|reason| reason.contains("cannot be written")));
        replica.shutdown().await;
    }
}
