//! Servers whose states differ although they have applied the same log: that must never stay unnoticed, and nothing
//! else may look like it. One thread and a clock that jumps, so the comparisons come at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use tokio::time::Instant;
use tribune_core::NodeName;
use tribune_raft::fabric::Fabric;
use tribune_raft::simulation::{Disk, fix_chance};
use tribune_raft::{AdminError, Config, Replica, ServerInfo, Storage};

use harness::{eventually, propose, register};

const SERVERS: usize = 3;
/// Entries between two states that are compared.
const INTERVAL: u64 = 4;
/// Several comparisons.
const WHILE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);

/// What is logged and counted on this thread.
#[derive(Clone, Default)]
struct Alarms {
    log: Arc<Mutex<Vec<u8>>>,
    counted: Arc<AtomicU64>,
}

impl Alarms {
    fn logged(&self) -> Vec<String> {
        let log = String::from_utf8(self.log.lock().clone()).unwrap();
        log.lines().filter(|line| line.contains("differ")).map(str::to_owned).collect()
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::SeqCst)
    }
}

impl Write for Alarms {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.log.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Recorder for Alarms {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "raft.state.diverged" => Counter::from_arc(self.counted.clone()),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

struct Datacenter {
    fabric: Fabric,
    /// Of each server that was ever started.
    disks: Vec<Disk>,
    /// With their numbers.
    numbers: Vec<usize>,
    replicas: Vec<Replica>,
}

fn info(number: usize) -> ServerInfo {
    let name = NodeName::new(format!("server-{number}")).unwrap();
    ServerInfo { id: format!("id-{number}"), name, address: ([127, 0, 0, 1], 8300 + number as u16).into() }
}

impl Datacenter {
    async fn found() -> Self {
        fix_chance(1);
        let (disks, replicas) = (Vec::new(), Vec::new());
        let mut datacenter =
            Self { fabric: Fabric::new(1), disks, numbers: (0..SERVERS).collect(), replicas };
        for number in 0..SERVERS {
            datacenter.disks.push(Disk::new(number as u64));
            let replica = datacenter.start(number).await;
            datacenter.replicas.push(replica);
        }
        let servers: Vec<_> = (0..SERVERS).map(info).collect();
        for replica in &datacenter.replicas {
            let founded = replica.admin().bootstrap(&servers).await;
            assert!(matches!(founded, Ok(()) | Err(AdminError::Initialised)), "{founded:?}");
        }
        datacenter.leader().await;
        datacenter
    }

    /// Starts a server from its disk.
    async fn start(&self, number: usize) -> Replica {
        let storage = Storage::Simulated(self.disks[number].clone());
        let transport = self.fabric.transport(&info(number).id);
        let config = Config { transport, hash_interval: INTERVAL, ..Config::new(storage, info(number)) };
        let replica = Replica::start(config).await.unwrap();
        self.fabric.connect(&info(number).id, &replica);
        replica
    }

    /// Ends a server, and has another one with an empty disk join in its place, as the alarm says.
    async fn replace(&mut self, place: usize) {
        let (old, new) = (info(self.numbers[place]), self.disks.len());
        self.replicas[place].kill().await;
        self.fabric.disconnect(&old.id);
        self.disks.push(Disk::new(new as u64));
        self.numbers[place] = new;
        self.replicas[place] = self.start(new).await;
        let admin = self.replicas[self.leader().await].admin();
        admin.remove(&old.id).await.unwrap();
        admin.add_learner(info(new)).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = admin.promote(&info(new).id).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn leader(&self) -> usize {
        let leads = |replica: &Replica| replica.cluster().is_leader;
        eventually("a leader", || self.replicas.iter().any(leads)).await;
        self.replicas.iter().position(leads).unwrap()
    }

    /// Writes until all servers have several states to compare.
    async fn write(&self, from: u32) {
        for number in from..from + 4 * INTERVAL as u32 {
            propose(&self.replicas[0], register(number, "web")).await;
        }
        let last = self.replicas[0].cluster().applied;
        eventually("what was written", || self.replicas.iter().all(|one| one.cluster().applied >= last))
            .await;
    }

    /// The names of the servers that the leader has found to differ.
    fn diverged(&self) -> Vec<String> {
        let all = self.replicas.iter().flat_map(|replica| replica.cluster().diverged);
        all.map(|server| server.name.to_string()).collect()
    }

    async fn end(self) {
        for replica in &self.replicas {
            replica.kill().await;
        }
    }
}

/// Runs a test on one thread, where all that is logged and counted is seen.
fn on_stage<F: Future<Output = ()>>(play: impl FnOnce(Alarms) -> F) {
    let alarms = Alarms::default();
    let sink = alarms.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let _metrics = metrics::set_default_local_recorder(&alarms);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(play(alarms.clone()));
}

#[test]
fn equal_states_raise_no_alarm_whatever_happens_to_the_servers() {
    on_stage(async |alarms| {
        let mut datacenter = Datacenter::found().await;
        datacenter.write(0).await;
        tokio::time::sleep(WHILE).await;
        // A server that starts again replays its log; one that begins anew gets it, or a snapshot.
        let leader = datacenter.leader().await;
        datacenter.replicas[leader].kill().await;
        datacenter.replicas[leader] = datacenter.start(datacenter.numbers[leader]).await;
        datacenter.write(100).await;
        let follower = (datacenter.leader().await + 1) % SERVERS;
        datacenter.replicas[datacenter.leader().await].snapshot().await.unwrap();
        datacenter.replace(follower).await;
        datacenter.write(200).await;
        tokio::time::sleep(WHILE).await;
        let compared = datacenter.replicas.iter().all(|one| one.state_hashes().len() >= 3);
        assert!(compared, "there was nothing to compare");
        assert_eq!((alarms.logged(), alarms.counted(), datacenter.diverged()), (vec![], 0, vec![]));
        datacenter.end().await;
    });
}

#[test]
fn the_server_that_passed_a_command_over_is_named_until_it_has_joined_anew() {
    on_stage(async |alarms| {
        let mut datacenter = Datacenter::found().await;
        datacenter.write(0).await;
        let odd = (datacenter.leader().await + 1) % SERVERS;
        datacenter.replicas[odd].lapse();
        datacenter.write(100).await;
        check_named(&datacenter, &alarms, odd).await;

        datacenter.replace(odd).await;
        datacenter.write(200).await;
        eventually("that all agree", || datacenter.diverged().is_empty()).await;
        let before = alarms.counted();
        tokio::time::sleep(WHILE).await;
        assert_eq!(alarms.counted(), before, "the alarm went on");
        datacenter.end().await;
    });
}

#[test]
fn a_leader_whose_own_state_is_the_odd_one_does_not_accuse_the_others() {
    on_stage(async |alarms| {
        let datacenter = Datacenter::found().await;
        let leader = datacenter.leader().await;
        datacenter.replicas[leader].lapse();
        datacenter.write(0).await;
        assert_eq!(datacenter.leader().await, leader);
        check_named(&datacenter, &alarms, leader).await;
        datacenter.end().await;
    });
}

/// This server and no other is named: in the log, by the counter and by what the leader tells of the cluster.
async fn check_named(datacenter: &Datacenter, alarms: &Alarms, odd: usize) {
    let name = info(odd).name.to_string();
    let deadline = Instant::now() + PATIENCE;
    while datacenter.diverged().is_empty() {
        assert!(Instant::now() < deadline, "no alarm was raised");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(datacenter.diverged().join(" "), name);
    let logged = alarms.logged();
    assert!(!logged.is_empty() && logged.iter().all(|line| line.contains("ERROR")), "{logged:?}");
    assert!(logged.iter().all(|line| line.contains(&format!("name={name} "))), "{logged:?}");
    assert_eq!(alarms.counted(), logged.len() as u64);
}
