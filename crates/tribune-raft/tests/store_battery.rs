//! openraft's own storage suite over our log, state machine and snapshots, in memory and on a disk.

use std::sync::Arc;
use std::time::Duration;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use redb::backends::InMemoryBackend;
use tempfile::TempDir;

use crate::directory::Directory;
use crate::hashes::StateHashes;
use crate::log::{Disk, LogStore};
use crate::machine::{Machine, Told};
use crate::offload::Offload;
use crate::snapshot::{Place, Snapshots};
use crate::types::TypeConfig;

fn machine(place: Place) -> Machine {
    let snapshots = Snapshots::new(place, Offload::Threads, Duration::ZERO, None);
    let hashes = Arc::new(StateHashes::new(1, Offload::Threads));
    Machine::new(Told::default(), Arc::new(snapshots), hashes, Offload::Threads)
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let disk = Disk::on(InMemoryBackend::new()).unwrap();
        Ok(((), LogStore::open(disk, Offload::Threads).unwrap(), machine(Place::Nowhere)))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let place = tempfile::tempdir().unwrap();
        let opened = Directory::open(&place.path().join("raft"), "server").unwrap();
        Ok((place, opened.log, machine(Place::Directory(opened.directory.snapshots()))))
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
