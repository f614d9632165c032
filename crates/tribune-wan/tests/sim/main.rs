//! A federation in one thread, from one seed: ten datacenters of one or two gateways each, which run the whole of this
//! crate over the real pool of all servers, while links are cut in one direction or both, datacenters are cut off
//! from everybody, connections break under what is on its way, gateways die and come back without a memory, and
//! datacenters are slow or have no leader. Clients ask and write all the while, and whatever they are told is held
//! against the truth. At the end everything is mended, and all must know and answer all again.
//!
//! `TRIBUNE_SIM_SEEDS=1000 cargo test --release -p tribune-wan --test sim` runs that many seeds;
//! `TRIBUNE_SIM_SEED=17` runs one and prints what happens. `TRIBUNE_SIM_FIRST` is the first seed.
//!
//! What the seed fixes: everything that happens, and when. Time is tokio's paused clock, which goes on when nobody has
//! anything to do; chance in the pools, in the couriers, in the network and in what goes wrong is drawn from the seed;
//! and what waits is woken in the order in which it came. What it does not fix is the order in which a hash map is
//! walked and the branch that an unbiased `select!` tries first: nothing that runs here depends on either, which
//! [`the_same_seed_gives_the_same_trace`] watches over. Not part of it are TLS, HTTP/2 and real sockets (see the tests
//! of `tribune-net` and `sockets.rs`), and what is inside a datacenter: its truth is a list of versions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chaos;
mod client;
mod fate;
mod gateway;
mod network;
mod oracle;
mod site;
mod world;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use world::{CHAOS, Outcome};

/// Seeds of a usual test run.
const SEEDS: u64 = 3;
/// How long things go wrong where only the traces are compared.
const SHORT: Duration = Duration::from_secs(15);

/// Longest time for one seed, on a busy machine. What takes longer goes round in circles.
const SEED_PATIENCE: Duration = Duration::from_secs(180);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds, some at once, and gives what came of each in their order.
fn run_all(seeds: impl Iterator<Item = u64>, chaos: Duration, mut done: impl FnMut(u64, Outcome)) {
    let at_once = thread::available_parallelism().map_or(2, usize::from);
    let mut running = std::collections::VecDeque::new();
    let mut seeds = seeds.fuse();
    loop {
        while running.len() < at_once {
            let Some(seed) = seeds.next() else { break };
            let (outcome, ended) = mpsc::channel();
            let thread = thread::spawn(move || outcome.send(world::run(seed, chaos, false)));
            running.push_back((seed, ended, thread));
        }
        let Some((seed, ended, thread)) = running.pop_front() else { return };
        match ended.recv_timeout(SEED_PATIENCE) {
            Ok(outcome) => done(seed, outcome),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("seed {seed} does not end; repeat it with TRIBUNE_SIM_SEED={seed}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let panicked = thread.join().is_err();
                panic!(
                    "seed {seed} ended early (by a panic: {panicked}); repeat it with TRIBUNE_SIM_SEED={seed}"
                );
            }
        }
    }
}

#[test]
fn every_promise_holds_whatever_happens() {
    if let Some(seed) = number("TRIBUNE_SIM_SEED") {
        let outcome = world::run(seed, CHAOS, true);
        println!("seed {seed} trace {}: {}", outcome.trace, outcome.summary);
        assert_eq!(outcome.broken, None);
        return;
    }
    let first = number("TRIBUNE_SIM_FIRST").unwrap_or(1);
    let count = number("TRIBUNE_SIM_SEEDS").unwrap_or(SEEDS);
    run_all(first..first + count, CHAOS, |seed, outcome| {
        println!("seed {seed} trace {}: {}", outcome.trace, outcome.summary);
        if let Some(broken) = outcome.broken {
            panic!("{broken}; seed {seed}, repeat it with TRIBUNE_SIM_SEED={seed}");
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut traces = Vec::new();
    run_all([1, 1].into_iter(), SHORT, |_, outcome| traces.push(outcome.trace));
    assert_eq!(traces[0], traces[1]);
}
