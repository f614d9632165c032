//! openraft's own storage suite over our log, state machine and snapshots, in memory and on a disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use redb::backends::InMemoryBackend;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::directory::Directory;
use crate::log::{Disk, LogStore};
use crate::machine::Machine;
use crate::published::Published;
use crate::snapshot::Snapshots;
use crate::types::TypeConfig;
use crate::watches::Watches;

fn machine(snapshots: Option<PathBuf>) -> Machine {
    let snapshots = Snapshots::new(snapshots, Duration::ZERO, None);
    Machine::new(
        Published::default(),
        Arc::new(Watches::default()),
        watch::Sender::new(0),
        Arc::new(snapshots),
    )
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let disk = Disk::on(InMemoryBackend::new()).unwrap();
        Ok(((), LogStore::open(disk).unwrap(), machine(None)))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let place = tempfile::tempdir().unwrap();
        let opened = Directory::open(&place.path().join("raft"), "server").unwrap();
        Ok((place, opened.log, machine(Some(opened.directory.snapshots()))))
    }
}

#[tokio::test]
async fn the_suite_passes_in_memory() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn the_suite_passes_on_a_disk() {
    Suite::test_all(OnDisk).await.unwrap();
}
