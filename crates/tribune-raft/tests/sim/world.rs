//! The datacenter of one seed: servers on simulated disks, clients, and what watches them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::LocalSet;
use tokio::time::Instant;
use tribune_core::{Authority, NodeName};
use tribune_raft::fabric::Fabric;
use tribune_raft::simulation::{Disk, fix_chance};
use tribune_raft::{AdminError, Config, Consistency, Error, Replica, ServerInfo, Storage};

use crate::oracle::{Broken, Oracle};
use crate::{chaos, harness};

/// How long everything goes wrong, in simulated time.
const CHAOS: Duration = Duration::from_secs(10);
/// How long the servers may take to go on afterwards.
const RECOVERY: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 6;
/// Servers that there may be; the first of them found the cluster.
pub(crate) const SERVERS: usize = 5;

pub(crate) struct World {
    pub(crate) fabric: Fabric,
    pub(crate) disks: BTreeMap<usize, Disk>,
    pub(crate) running: RefCell<BTreeMap<usize, Replica>>,
    pub(crate) oracle: RefCell<Oracle>,
    pub(crate) calm: RefCell<bool>,
    starts: RefCell<BTreeMap<usize, u64>>,
    begun: Instant,
    trace: RefCell<DefaultHasher>,
    loud: bool,
}

pub(crate) fn id(number: usize) -> String {
    format!("server-{number}")
}

pub(crate) fn info(number: usize) -> ServerInfo {
    let name = NodeName::new(id(number)).unwrap();
    ServerInfo { id: id(number), name, address: ([127, 0, 0, 1], 8300 + number as u16).into() }
}

/// Runs a seed and gives a hash of all that happened.
pub(crate) fn run(seed: u64) -> String {
    fix_chance(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Without this tokio wakes those who wait for the same thing in an order of its own.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    builder.build().unwrap().block_on(LocalSet::new().run_until(async move {
        let world = Rc::new(World::new(seed));
        live(&world, seed).await;
        format!("{:016x}", world.trace.borrow().finish())
    }))
}

async fn live(world: &Rc<World>, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed ^ 0xc1a5);
    let founders = if dice.random() { 3 } else { 5 };
    for number in 1..=SERVERS {
        world.start(number).await;
    }
    let servers: Vec<_> = (1..=founders).map(info).collect();
    for number in 1..=founders {
        let founded = world.server(number).unwrap().admin().bootstrap(&servers).await;
        assert!(matches!(founded, Ok(()) | Err(AdminError::Initialised)), "{founded:?}");
    }
    let watcher = tokio::task::spawn_local(watch(world.clone()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::task::spawn_local(be_client(world.clone(), seed * CLIENTS + client)))
        .collect();
    chaos::rage(world, &mut dice, Instant::now() + CHAOS).await;
    world.note("the chaos ends");
    *world.calm.borrow_mut() = true;
    for client in clients {
        client.await.unwrap();
    }
    chaos::mend(world).await;
    check_progress(world).await;
    watcher.abort();
    println!(
        "{} writes, {} of unknown outcome",
        world.oracle.borrow().writes(),
        world.oracle.borrow().unknown
    );
    let running: Vec<_> = world.running.borrow().values().cloned().collect();
    for replica in running {
        replica.kill().await;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            fabric: Fabric::new(seed),
            disks: (1..=SERVERS).map(|number| (number, Disk::new(seed * 100 + number as u64))).collect(),
            running: RefCell::default(),
            oracle: RefCell::default(),
            calm: RefCell::new(false),
            starts: RefCell::default(),
            begun: Instant::now(),
            trace: RefCell::default(),
            loud: std::env::var("TRIBUNE_SIM_LOUD").is_ok(),
        }
    }

    /// Notes an event in the trace.
    pub(crate) fn note(&self, event: &str) {
        let at = self.begun.elapsed().as_micros();
        (at, event).hash(&mut *self.trace.borrow_mut());
        if self.loud {
            println!("{:>10.3} {event}", at as f64 / 1e3);
        }
    }

    pub(crate) fn expect(&self, checked: Result<(), Broken>) {
        if let Err(broken) = checked {
            self.note(&broken);
            panic!("{broken}");
        }
    }

    pub(crate) fn server(&self, number: usize) -> Option<Replica> {
        self.running.borrow().get(&number).cloned()
    }

    fn config(&self, number: usize) -> Config {
        let storage = Storage::Simulated(self.disks[&number].clone());
        let transport = self.fabric.transport(&id(number));
        Config {
            transport,
            snapshot_threshold: 50,
            snapshot_interval: Duration::ZERO,
            trailing_logs: 20,
            rpc_hold_timeout: Duration::from_millis(1500),
            hash_interval: 4,
            ..Config::new(storage, info(number))
        }
    }

    /// Starts a server with what its disk holds.
    pub(crate) async fn start(&self, number: usize) {
        let replica = Replica::start(self.config(number)).await.expect("a server starts from its disk");
        self.fabric.connect(&id(number), &replica);
        *self.starts.borrow_mut().entry(number).or_default() += 1;
        self.running.borrow_mut().insert(number, replica);
        self.note(&format!("server {number} runs"));
    }

    /// Ends a server by a power cut.
    pub(crate) async fn crash(&self, number: usize) {
        let Some(replica) = self.running.borrow_mut().remove(&number) else { return };
        self.note(&format!("server {number} loses its power"));
        self.disks[&number].cut_power();
        self.fabric.disconnect(&id(number));
        replica.kill().await;
    }

    /// Ends all servers by a power cut. None counts as running while the others end: it would be taken for one whose
    /// disk has failed.
    pub(crate) async fn crash_all(&self) {
        let running = std::mem::take(&mut *self.running.borrow_mut());
        for disk in self.disks.values() {
            disk.cut_power();
        }
        for (number, replica) in running {
            self.note(&format!("server {number} loses its power"));
            self.fabric.disconnect(&id(number));
            replica.kill().await;
        }
    }

    /// Ends a server in good order.
    pub(crate) async fn stop(&self, number: usize) {
        let Some(replica) = self.running.borrow_mut().remove(&number) else { return };
        self.note(&format!("server {number} is stopped"));
        replica.shutdown().await;
        self.fabric.disconnect(&id(number));
    }

    fn any_server(&self, dice: &mut StdRng) -> Option<(usize, Replica)> {
        let running = self.running.borrow();
        let at = dice.random_range(0..running.len().max(1));
        running.iter().nth(at).map(|(number, replica)| (*number, replica.clone()))
    }
}

/// A client that writes and reads anywhere.
async fn be_client(world: Rc<World>, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    while !*world.calm.borrow() {
        let pause = Duration::from_millis(dice.random_range(1..120));
        tokio::time::sleep(pause).await;
        let Some((number, replica)) = world.any_server(&mut dice) else { continue };
        // Servers that know no leader let their clients wait; most clients look for another one.
        if !replica.contact().known_leader && dice.random_range(0..8) > 0 {
            continue;
        }
        match dice.random_range(0..10) {
            0..6 => write(&world, number, &replica).await,
            6..8 => drop(read(&world, number, &replica, Consistency::Default).await),
            _ => drop(read(&world, number, &replica, Consistency::Consistent).await),
        }
    }
}

async fn write(world: &World, server: usize, replica: &Replica) {
    let number = world.oracle.borrow_mut().next_write();
    let outcome = replica.propose(&Authority::unrestricted(), harness::register(number, "web")).await;
    world.note(&format!("write {number} on {server}: {outcome:?}"));
    let mut oracle = world.oracle.borrow_mut();
    match outcome {
        Ok(_) => oracle.acknowledged(number),
        Err(Error::Unknown(_)) => oracle.unknown += 1,
        Err(_) => oracle.refused(number),
    }
}

async fn read(world: &World, server: usize, replica: &Replica, consistency: Consistency) -> bool {
    let before = world.oracle.borrow().before();
    let Ok(state) = replica.read(consistency).await else { return false };
    world.note(&format!("{consistency:?} read on {server}: {}", state.index()));
    let checked = world.oracle.borrow_mut().check_read(&format!("server {server}"), before, &state);
    world.expect(checked);
    true
}

/// Looks at all servers all the time.
async fn watch(world: Rc<World>) {
    // Of each server: its start and the last index seen since.
    let mut indexes: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(7)).await;
        let running: Vec<_> = world.running.borrow().iter().map(|(n, r)| (*n, r.clone())).collect();
        indexes.retain(|number, _| running.iter().any(|(running, _)| running == number));
        for (number, replica) in running {
            let name = format!("server {number}");
            let cluster = replica.cluster();
            if let tribune_raft::Role::Leader { term } = replica.leadership().role() {
                let checked = world.oracle.borrow_mut().check_leader(term, &name);
                world.expect(checked);
            }
            for (index, hash) in replica.state_hashes() {
                let checked = world.oracle.borrow_mut().check_hash(index, hash, &name);
                world.expect(checked);
            }
            let index = replica.state().index().0;
            let start = world.starts.borrow().get(&number).copied().unwrap_or_default();
            let (start_before, before) = indexes.insert(number, (start, index)).unwrap_or_default();
            if start == start_before && index < before {
                world.expect(Err(format!("BROKEN: the index of {name} fell from {before} to {index}")));
            }
            if let Some(reason) = cluster.stopped
                && world.running.borrow().contains_key(&number)
            {
                world.expect(Err(format!("BROKEN: {name} has stopped: {reason}")));
            }
        }
    }
}

/// Everything works again: each server takes a write, and all come to the same state.
async fn check_progress(world: &Rc<World>) {
    let deadline = Instant::now() + RECOVERY;
    for number in members(world, deadline).await {
        while !takes_write(world, number).await && members(world, deadline).await.contains(&number) {
            assert!(
                Instant::now() < deadline,
                "BROKEN: server {number} takes no write after everything was mended"
            );
        }
    }
    for number in members(world, deadline).await {
        let replica = world.server(number).unwrap();
        for consistency in [Consistency::Default, Consistency::Consistent] {
            while !read(world, number, &replica, consistency).await
                && members(world, deadline).await.contains(&number)
            {
                assert!(Instant::now() < deadline, "BROKEN: server {number} gives no read");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    let members = members(world, deadline).await;
    let equal = || {
        let states: Vec<_> = members.iter().map(|number| world.server(*number).unwrap().state()).collect();
        states.windows(2).all(|pair| pair[0] == pair[1])
    };
    while !equal() {
        assert!(Instant::now() < deadline, "BROKEN: the states do not become equal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The servers of the agreement. A change that was begun before everything was mended may still be carried out.
async fn members(world: &Rc<World>, deadline: Instant) -> Vec<usize> {
    let mut asked = 0;
    loop {
        // One that was let go knows no leader any more; the others do.
        asked = asked % SERVERS + 1;
        match world.server(asked).unwrap().admin().progress().await {
            Ok(progress) => {
                let numbers = progress.iter().map(|one| one.server.id.trim_start_matches("server-").parse());
                return numbers.collect::<Result<Vec<usize>, _>>().unwrap();
            }
            Err(error) => world.note(&format!("server {asked} tells no progress: {error}")),
        }
        assert!(Instant::now() < deadline, "BROKEN: no progress after everything was mended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn takes_write(world: &Rc<World>, number: usize) -> bool {
    let replica = world.server(number).unwrap();
    let write_number = world.oracle.borrow_mut().next_write();
    let outcome = replica.propose(&Authority::unrestricted(), harness::register(write_number, "web")).await;
    world.note(&format!("final write {write_number} on {number}: {outcome:?}"));
    match outcome {
        Ok(_) => world.oracle.borrow_mut().acknowledged(write_number),
        Err(Error::Unknown(_)) => {}
        Err(_) => world.oracle.borrow_mut().refused(write_number),
    }
    if outcome.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    outcome.is_ok()
}
