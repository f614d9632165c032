//! A whole datacenter in one thread, from one seed: random writes and reads while links are cut, messages are
//! delayed and lost, servers lose power with what they had not synced, and the membership changes. Each promise has
//! its own checker; at the end everything is mended and the servers must go on.
//!
//! `TRIBUNE_SIM_SEEDS=1000 cargo test --release -p tribune-raft --test sim` runs that many seeds, each in a process of
//! its own; `TRIBUNE_SIM_SEED=17` runs one and prints what happens. `TRIBUNE_SIM_FIRST` is the first seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

#[path = "sim/chaos.rs"]
mod chaos;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/world.rs"]
mod world;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tribune_raft::faults::{Fault, Finder};

/// Seeds of a usual test run.
const SEEDS: u64 = 6;

/// Seeds within which a planted fault must be found.
const SEEDS_FOR_FAULTS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The child's part; in a usual run it does nothing.
#[test]
fn one_seed() {
    let Some(seed) = number("TRIBUNE_SIM_SEED") else { return };
    if let Ok(name) = std::env::var("TRIBUNE_SIM_FAULT") {
        Fault::named(&name).expect("a fault of this name").plant();
    }
    if let Ok(filter) = std::env::var("TRIBUNE_SIM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    }
    let trace = world::run(seed);
    println!("seed {seed} trace {trace}");
}

/// Longest time for one seed, on a busy machine. What takes longer goes round in circles.
const SEED_PATIENCE: Duration = Duration::from_secs(120);

fn start(seed: u64, fault: Option<Fault>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "one_seed", "--nocapture"]).env("TRIBUNE_SIM_SEED", seed.to_string());
    // What a child says is read when it has ended: a backtrace would fill the pipe, and it would wait for ever.
    command.env("RUST_BACKTRACE", "0");
    if let Some(fault) = fault {
        command.env("TRIBUNE_SIM_FAULT", format!("{fault:?}"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

struct Outcome {
    seed: u64,
    passed: bool,
    #[cfg_attr(not(tokio_unstable), expect(dead_code, reason = "compared only where it can be equal"))]
    trace: String,
    text: String,
}

fn finish(seed: u64, mut child: Child) -> Outcome {
    let deadline = Instant::now() + SEED_PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let prefix = format!("seed {seed} trace ");
    let trace = text.lines().find_map(|line| Some(line.split_once(&prefix)?.1.to_owned()));
    Outcome { seed, passed: output.status.success(), trace: trace.unwrap_or_default(), text }
}

/// Runs seeds, some at once, until one fails or all are done.
fn run_all(seeds: impl Iterator<Item = u64>, fault: Option<Fault>) -> (u64, Option<Outcome>) {
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let mut running: std::collections::VecDeque<(u64, Child)> = Default::default();
    let mut seeds = seeds.fuse();
    let mut done = 0;
    let mut failed = None;
    loop {
        while failed.is_none() && running.len() < at_once {
            let Some(seed) = seeds.next() else { break };
            running.push_back((seed, start(seed, fault)));
        }
        let Some((seed, child)) = running.pop_front() else { return (done, failed) };
        let outcome = finish(seed, child);
        done += 1;
        if done % 100 == 0 {
            println!("{done} seeds done");
        }
        if !outcome.passed && failed.is_none() {
            failed = Some(outcome);
        }
    }
}

#[test]
fn every_promise_holds_whatever_happens() {
    if number("TRIBUNE_SIM_SEED").is_some() {
        return;
    }
    let first = number("TRIBUNE_SIM_FIRST").unwrap_or(1);
    let count = number("TRIBUNE_SIM_SEEDS").unwrap_or(SEEDS);
    let (done, failed) = run_all(first..first + count, None);
    if let Some(failed) = failed {
        let _ = std::io::stderr().write_all(failed.text.as_bytes());
        panic!("seed {} failed; repeat it with TRIBUNE_SIM_SEED={}", failed.seed, failed.seed);
    }
    println!("{done} seeds held");
}

/// Needs `RUSTFLAGS="--cfg tokio_unstable"`: only then tokio's own chance can be fixed as well.
#[cfg(tokio_unstable)]
#[test]
fn the_same_seed_gives_the_same_trace() {
    if number("TRIBUNE_SIM_SEED").is_some() {
        return;
    }
    for seed in 1..=2 {
        let (one, other) = (start(seed, None), start(seed, None));
        let (one, other) = (finish(seed, one), finish(seed, other));
        assert!(one.passed && !one.trace.is_empty(), "{}", one.text);
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

/// The simulation finds what it is there to find.
#[test]
fn planted_faults_are_found() {
    if number("TRIBUNE_SIM_SEED").is_some() {
        return;
    }
    for fault in Fault::ALL.into_iter().filter(|fault| fault.found_by() == Finder::Simulation) {
        let (done, failed) = run_all(1..=SEEDS_FOR_FAULTS, Some(fault));
        let failed = failed.unwrap_or_else(|| panic!("{fault:?} was not found with {done} seeds"));
        let found = failed.text.lines().find(|line| line.contains("BROKEN")).unwrap_or("by a panic");
        println!("{fault:?} was found with seed {}: {found}", failed.seed);
    }
}
