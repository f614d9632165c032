//! Starting a replica: opening what is there, or making a new datacenter.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::SnapshotPolicy;
use openraft::alias::SnapshotOf;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use tokio::sync::Semaphore;
use tribune_core::State;

use super::duties::Duties;
use super::propose::PROPOSALS_MAX;
use super::{Inner, Replica};
use crate::config::{Config, Storage};
use crate::directory::{Directory, Opened};
use crate::error::StartError;
use crate::forgetful::Forgetful;
use crate::hashes::StateHashes;
use crate::heard::Heard;
use crate::identity::{Identity, Notes};
use crate::log::{Disk, LogStore};
use crate::machine::{Machine, SnapshotHandle, Told};
use crate::network::{Caller, Lines};
use crate::offload::Offload;
use crate::questions::Questions;
use crate::quorum::{Quorum, probe_interval};
use crate::service::Service;
use crate::snapshot::incoming::Incoming;
use crate::snapshot::{Place, Snapshots};
use crate::space::Space;
use crate::types::{Raft, ServerNode, SnapshotMeta, TypeConfig, consensus_id};

/// Entries sent to another server in one go.
const ENTRIES_PER_PAYLOAD: u64 = 512;
/// Entries purged in one commit; fewer when fewer are kept anyway.
const PURGE_BATCH: u64 = 4096;
/// How many times more entries than usual are kept for a server that lags; beyond that it gets a snapshot.
const TRAILING_STRETCH: u64 = 4;
/// Bounds sending a whole snapshot to another server.
const SNAPSHOT_TRANSFER: Duration = Duration::from_secs(60);

impl Replica {
    /// Opens the replica, or makes one where nothing is. When it alone makes up the datacenter, it leads and has
    /// everything that was ever acknowledged by the time this returns.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let consensus = Arc::new(consensus_config(&config)?);
        let parts = open(&config).await?;
        Box::pin(Self::assemble(config, consensus, parts)).await
    }

    /// Puts a replica together and lets it begin.
    async fn assemble(
        config: Config,
        consensus: Arc<openraft::Config>,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let Parts { log, notes, space, snapshots, offload } = parts;
        let told = Told::default();
        let (published, watches) = (told.published.clone(), told.watches.clone());
        let lapse = told.lapse.clone();
        let (applied_term, applied) = (told.applied_term.subscribe(), told.applied_index.subscribe());
        let hashes = Arc::new(StateHashes::new(config.hash_interval, offload));
        let snapshots = Arc::new(snapshots);
        let machine = Machine::new(told, snapshots.clone(), hashes.clone(), offload);
        let id = consensus_id(&config.server.id);
        let identity = Arc::new(Identity::new(&config, notes));
        let caller = Caller::new(&config, identity.clone());
        let quorum = Arc::new(Quorum::new(&config));
        let forgetful = Forgetful::default();
        let lines = Lines {
            caller: caller.clone(),
            own_id: id,
            append_patience: config.election_timeout_min,
            quorum: quorum.clone(),
            forgetful: forgetful.clone(),
            offload,
            place: snapshots.place().clone(),
        };
        let raft = match Box::pin(Raft::new(id, consensus, lines, log.clone(), machine)).await {
            Ok(raft) => raft,
            Err(fatal) => {
                log.close().await;
                return Err(refused(fatal));
            }
        };
        quorum.watch(raft.metrics());
        let replica = Self(Arc::new(Inner {
            space,
            config,
            id,
            metrics: raft.metrics(),
            raft,
            identity,
            caller,
            offload,
            log,
            published,
            watches,
            applied_term,
            applied,
            proposals: Semaphore::new(PROPOSALS_MAX),
            passed_on: Semaphore::new(PROPOSALS_MAX),
            reads: Questions::new(),
            confirmed_reads: Questions::new(),
            confirmed_for_others: Questions::new(),
            heard: Heard::new(),
            forgetful,
            incoming: Incoming::default(),
            hashes,
            diverged: ArcSwap::default(),
            lapse,
            service: Service::default(),
            duties: Duties::default(),
            yielded: AtomicU64::new(0),
            recovered: AtomicBool::new(false),
        }));
        if let Err(error) = replica.begin().await {
            replica.end().await;
            return Err(error);
        }
        replica.0.duties.begin(&replica);
        Ok(replica)
    }

    /// Takes up this server's part: makes the datacenter when told to, and leads it when nobody else is there.
    async fn begin(&self) -> Result<(), StartError> {
        let raft = &self.0.raft;
        let initialized = raft.is_initialized().await.map_err(refused)?;
        let creates = !initialized && self.0.config.bootstrap;
        if (initialized || creates) && self.0.identity.cluster().is_empty() {
            // A directory from before clusters had ids is that of one server alone.
            let alone = self.0.identity.founded_by(std::slice::from_ref(&self.0.config.server.id));
            self.join(&alone).await.map_err(refused)?;
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
    notes: Notes,
    space: Option<Space>,
    snapshots: Snapshots,
    offload: Offload,
}

impl Parts {
    fn in_memory(log: LogStore, offload: Offload, interval: Duration) -> Self {
        let snapshots = Snapshots::new(Place::Nowhere, offload, interval, None);
        Self { log, notes: Notes::Nowhere, space: None, snapshots, offload }
    }
}

fn as_snapshot((meta, state): (SnapshotMeta, State)) -> SnapshotOf<TypeConfig, SnapshotHandle> {
    SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot: SnapshotHandle(state) }
}

async fn open(config: &Config) -> Result<Parts, StartError> {
    let (interval, offload) = (config.snapshot_interval, Offload::Threads);
    let path = match config.storage.clone() {
        Storage::Directory(path) => path,
        Storage::Memory => {
            let disk = Disk::on(InMemoryBackend::new()).map_err(refused)?;
            let log = LogStore::open(disk, offload).map_err(refused)?;
            return Ok(Parts::in_memory(log, offload, interval));
        }
        #[cfg(feature = "testing")]
        Storage::Simulated(disk) => return open_simulated(&disk, interval),
    };
    let server = config.server.id.clone();
    let opened = offload.run(move || Directory::open(&path, &server)).await;
    let Opened { directory, log, snapshot } = opened.map_err(refused)??;
    let place = Place::Directory(directory.snapshots());
    let snapshots = Snapshots::new(place, offload, interval, snapshot.map(as_snapshot));
    let space = Some(Space::new(directory.path().to_owned()));
    Ok(Parts { log, notes: Notes::Directory(Mutex::new(directory)), space, snapshots, offload })
}

#[cfg(feature = "testing")]
fn open_simulated(disk: &crate::simulation::Disk, interval: Duration) -> Result<Parts, StartError> {
    let (disk, offload) = (disk.open(), Offload::Inline);
    let log = Disk::on(disk.clone()).and_then(|disk| LogStore::open(disk, offload)).map_err(refused)?;
    let snapshot = disk.snapshot().map(crate::snapshot::file::assemble).transpose().map_err(refused)?;
    let place = Place::Simulated(disk.clone());
    let snapshots = Snapshots::new(place, offload, interval, snapshot.map(as_snapshot));
    Ok(Parts { log, notes: Notes::Simulated(disk), space: None, snapshots, offload })
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
        // A leader that starts again and leads on without an election knows no more of what was agreed upon than the
        // hint on its disk: its reads would miss what it had acknowledged just before.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_threshold),
        max_in_snapshot_log_to_keep: config.trailing_logs.saturating_mul(TRAILING_STRETCH),
        purge_batch_size: PURGE_BATCH.min(config.trailing_logs.max(1)),
        max_payload_entries: ENTRIES_PER_PAYLOAD,
        install_snapshot_timeout: millis(SNAPSHOT_TRANSFER),
        quorum_loss_probe_interval: Some(millis(probe_interval(config))),
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
        let offload = Offload::Threads;
        let log = LogStore::open(Disk::on(disk.clone()).unwrap(), offload).unwrap();
        let parts = Parts::in_memory(log, offload, Duration::ZERO);
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
