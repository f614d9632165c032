//! Damaged, missing and foreign files: the replica does not start, says which file it is, and never starts empty.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{config, eventually, propose, register};
use tempfile::TempDir;
use tribune_core::Index;
use tribune_raft::{Config, Replica, StartError, Storage};

/// A data directory that held 40 registrations and some snapshots, closed.
struct Data {
    _place: TempDir,
    directory: PathBuf,
    config: Config,
}

async fn data() -> Data {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("raft");
    let mut config = config(&Storage::Directory(directory.clone()));
    config.snapshot_threshold = 10;
    config.snapshot_interval = Duration::ZERO;
    config.trailing_logs = 1;
    let replica = Replica::start(config.clone()).await.unwrap();
    for number in 0..40 {
        propose(&replica, register(number, "web")).await;
    }
    eventually("a purge", || replica.cluster().first_log > Index(20)).await;
    replica.shutdown().await;
    Data { _place: place, directory, config }
}

impl Data {
    fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.join("snapshots")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    async fn refusal(&self) -> StartError {
        match Replica::start(self.config.clone()).await {
            Err(error) => error,
            Ok(replica) => panic!("it started with {} nodes", replica.state().records().count()),
        }
    }

    /// Expects a start that is refused and names the file.
    async fn refuses_naming(&self, file: &Path) {
        let error = self.refusal().await;
        assert!(
            error.to_string().contains(&*file.display().to_string()),
            "{} is not named: {error}",
            file.display()
        );
        assert!(!matches!(error, StartError::Consensus(_)), "{error}");
    }
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x40;
    fs::write(file, bytes).unwrap();
}

fn cut(file: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

#[tokio::test]
async fn a_damaged_log_is_named() {
    let data = data().await;
    let log = data.directory.join("log.redb");
    let whole = fs::read(&log).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for part in 1..20 {
        let at = used[used.len() * part / 20];
        flip(&log, at);
        if let Ok(replica) = Replica::start(data.config.clone()).await {
            // Parts of the file are free space, where a change harms nobody: then everything is still there.
            assert_eq!(replica.state().records().filter(is_node).count(), 40, "byte {at}");
            replica.shutdown().await;
        } else {
            data.refuses_naming(&log).await;
        }
        fs::write(&log, &whole).unwrap();
    }
}

fn is_node(record: &tribune_core::state::Record) -> bool {
    matches!(record, tribune_core::state::Record::Node(_))
}

#[tokio::test]
async fn a_log_that_was_cut_is_named() {
    let data = data().await;
    let log = data.directory.join("log.redb");
    let whole = fs::read(&log).unwrap();
    for length in [0, 10, 4096, whole.len() as u64 / 2] {
        cut(&log, length);
        data.refuses_naming(&log).await;
        fs::write(&log, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_lost_log_is_not_replaced_by_an_empty_one() {
    let data = data().await;
    let log = data.directory.join("log.redb");
    fs::remove_file(&log).unwrap();
    data.refuses_naming(&log).await;
    assert!(!log.exists());

    // A new and empty log in its place is no better.
    let other = tempfile::tempdir().unwrap();
    let fresh = Config { bootstrap: false, ..config(&Storage::Directory(other.path().into())) };
    Replica::start(fresh).await.unwrap().shutdown().await;
    fs::copy(other.path().join("log.redb"), &log).unwrap();
    data.refuses_naming(&log).await;
}

#[tokio::test]
async fn a_lost_or_damaged_identity_is_named() {
    let data = data().await;
    let identity = data.directory.join("identity");
    let whole = fs::read(&identity).unwrap();
    flip(&identity, 40);
    data.refuses_naming(&identity).await;
    cut(&identity, 12);
    data.refuses_naming(&identity).await;
    fs::remove_file(&identity).unwrap();
    data.refuses_naming(&identity).await;
    fs::write(&identity, whole).unwrap();
    Replica::start(data.config.clone()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn the_directory_of_another_server_is_not_taken() {
    let data = data().await;
    let mut config = data.config.clone();
    config.server.id = "another".into();
    let error = Replica::start(config).await.unwrap_err();
    assert!(matches!(error, StartError::OtherServer { .. }), "{error}");
}

#[tokio::test]
async fn a_directory_in_use_is_not_opened_twice() {
    let data = data().await;
    let replica = Replica::start(data.config.clone()).await.unwrap();
    let error = data.refusal().await;
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    replica.shutdown().await;
}

#[tokio::test]
async fn damaged_and_lost_snapshots_are_named() {
    let data = data().await;
    let mut snapshots = data.snapshots();
    let newest = snapshots.pop().unwrap();
    // The older one ends before the log begins in most runs; without it that is certain.
    snapshots.into_iter().for_each(|older| fs::remove_file(older).unwrap());
    let whole = fs::read(&newest).unwrap();
    for part in 0..10 {
        flip(&newest, (whole.len() - 1) * part / 9);
        data.refuses_naming(&newest).await;
        fs::write(&newest, &whole).unwrap();
    }
    for part in 0..10 {
        cut(&newest, whole.len() as u64 * part / 10);
        data.refuses_naming(&newest).await;
        fs::write(&newest, &whole).unwrap();
    }
    for snapshot in data.snapshots() {
        fs::remove_file(snapshot).unwrap();
    }
    data.refuses_naming(&data.directory.join("snapshots")).await;
}

#[tokio::test]
async fn an_older_snapshot_stands_in_when_the_log_covers_the_gap() {
    let mut data = data().await;
    // From now on nothing is purged.
    data.config.trailing_logs = 1_000_000;
    let replica = Replica::start(data.config.clone()).await.unwrap();
    for number in 100..160 {
        propose(&replica, register(number, "web")).await;
    }
    eventually("a snapshot", || replica.cluster().snapshot > Index(90)).await;
    let before: Vec<_> = replica.state().records().skip(1).collect();
    replica.shutdown().await;

    let newest = data.snapshots().pop().unwrap();
    cut(&newest, 100);
    let replica = Replica::start(data.config.clone()).await.unwrap();
    assert_eq!(replica.state().records().skip(1).collect::<Vec<_>>(), before);
    replica.shutdown().await;
}
