//! `kill -9` at random moments under many writers: what was acknowledged is there, and nothing is half there.
//!
//! `TRIBUNE_CRASH_ROUNDS` sets how often the program is killed; a release is tested with 200.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use tribune_integration::{Request, TestNode, Until};

use crate::LIMIT;

/// Writers at once, each with a service of its own.
const WRITERS: usize = 64;
/// Instances that each writer goes round; each time round they get a higher version.
const INSTANCES: usize = 8;
const ROUNDS: usize = 30;
/// The longest a server may work before it is killed; the shortest is nothing.
const LIFE_MS_MAX: u64 = 400;

/// What one writer knows of each of its instances.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// The newest version that was acknowledged: at least this must be there.
    acknowledged: u64,
    /// The newest version that was sent: nothing newer can be there.
    attempted: u64,
}

/// The versions of one writer's instances.
type Ledger = [Known; INSTANCES];

#[test]
fn every_acknowledged_registration_survives_kill_9_and_none_is_half_there() {
    let rounds = std::env::var("TRIBUNE_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut node = TestNode::start().unwrap();
    let mut ledgers = vec![Ledger::default(); WRITERS];
    let mut written = 0;
    for _ in 0..rounds {
        let life = Duration::from_millis(rand::rng().random_range(0..LIFE_MS_MAX));
        write_until_killed(&mut node, &mut ledgers, life);
        node.restart().unwrap();
        written = ledgers.iter_mut().enumerate().map(|(writer, ledger)| verify(&node, writer, ledger)).sum();
    }
    assert!(written > 0, "no registration was ever acknowledged: the test tests nothing");
}

/// Lets all writers write for `life`, then kills the server under them.
fn write_until_killed(node: &mut TestNode, ledgers: &mut [Ledger], life: Duration) {
    let address = node.http();
    let dead = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, ledger) in ledgers.iter_mut().enumerate() {
            let dead = &dead;
            scope.spawn(move || {
                for turn in 0.. {
                    if dead.load(Ordering::Relaxed) {
                        return;
                    }
                    write(address, writer, ledger, turn % INSTANCES);
                }
            });
        }
        let _until = Until(&dead);
        thread::sleep(life);
        node.kill().unwrap();
    });
}

/// One registration; only an answer `true` counts as acknowledged.
fn write(address: SocketAddr, writer: usize, ledger: &mut Ledger, instance: usize) {
    let version = ledger[instance].attempted + 1;
    ledger[instance].attempted = version;
    let id = format!("crash-{writer}-{instance}");
    let body = json!({
        "Node": format!("crash-{writer}"), "Address": "10.0.0.1",
        "Service": {"ID": id, "Service": format!("crash-{writer}"), "Port": port(version), "Meta": {"version": version.to_string()}},
        "Check": {"CheckID": format!("service:{id}"), "Name": "c", "ServiceID": id, "Status": "passing", "Output": version.to_string()},
    });
    let register = Request::new("PUT", "/v1/catalog/register").body(body.to_string());
    if register.acknowledged(address, LIMIT) {
        ledger[instance].acknowledged = version;
    }
}

/// Compares what the restarted server has with what a writer knows; returns the registrations found.
fn verify(node: &TestNode, writer: usize, ledger: &mut Ledger) -> usize {
    let answer = node.get(&format!("/v1/health/service/crash-{writer}?consistent")).unwrap().json().unwrap();
    let found = answer.as_array().unwrap();
    for (instance, known) in ledger.iter_mut().enumerate() {
        let id = format!("crash-{writer}-{instance}");
        let there = found.iter().find(|entry| entry["Service"]["ID"] == id.as_str());
        let version = there.map_or(0, whole_version);
        let Known { acknowledged, attempted } = *known;
        assert!(version >= acknowledged, "{id}: version {acknowledged} was acknowledged, {version} is there");
        assert!(version <= attempted, "{id}: version {version} was never sent, only up to {attempted}");
        // An unanswered write that is there now is as good as acknowledged: it must not vanish again.
        known.acknowledged = version;
    }
    found.len()
}

/// The version of a registration, whose parts must all be of that version.
fn whole_version(entry: &Value) -> u64 {
    let version: u64 = entry["Service"]["Meta"]["version"].as_str().unwrap().parse().unwrap();
    assert_eq!(entry["Service"]["Port"], port(version), "half a registration: {entry:#}");
    assert_eq!(entry["Checks"].as_array().unwrap().len(), 1, "half a registration: {entry:#}");
    assert_eq!(entry["Checks"][0]["Output"], version.to_string(), "half a registration: {entry:#}");
    assert_eq!(entry["Node"]["Address"], "10.0.0.1", "half a registration: {entry:#}");
    version
}

fn port(version: u64) -> u64 {
    1 + version % 65_535
}
