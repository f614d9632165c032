//! Planted faults that need a scene of their own; which one is in `Fault::found_by`. The simulation finds the others.
//! A fault is planted for a whole process, so each scene runs in a child.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "harness/cluster.rs"]
mod cluster;
mod harness;

use std::process::{Command, Output};
use std::time::Duration;

use cluster::{Cluster, id, try_propose, until};
use harness::{propose, register};
use tokio::time::Instant;
use tribune_core::state::Record;
use tribune_core::{Folded, NodeName, Outcome, State, Topic};
use tribune_raft::faults::{Fault, Finder};
use tribune_raft::{AdminError, Config, Consistency, Error, Method, Progress};

/// After it a server that does not answer counts as gone, at the usual times.
const SILENCE: Option<Duration> = Some(Duration::from_secs(1));

const FAULT: &str = "TRIBUNE_PLANTED_FAULT";

fn holds(state: &State, number: u32) -> bool {
    state.has_instance(&NodeName::new(format!("node-{number}")).unwrap(), &harness::instance_id("web"))
}

fn run(scene: &str, fault: Option<Fault>) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", scene, "--nocapture"]);
    command.env(FAULT, fault.map_or_else(|| "none".to_owned(), |fault| format!("{fault:?}")));
    command.output().unwrap()
}

/// The scene passes as it is and fails with the fault.
fn check(scene: &str, fault: Fault) {
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let sound = run(scene, None);
    assert!(sound.status.success(), "{}", text(&sound));
    let faulty = run(scene, Some(fault));
    assert!(!faulty.status.success(), "{fault:?} was not found by {scene}");
    let found = text(&faulty);
    assert!(found.contains("FOUND"), "{scene} fails for another reason: {found}");
}

/// Plants the fault of a child; `false` in a usual run, where scenes do nothing.
fn on_stage() -> bool {
    let Ok(name) = std::env::var(FAULT) else { return false };
    if let Some(fault) = Fault::named(&name) {
        fault.plant();
    }
    true
}

#[test]
fn planted_faults_are_found_in_their_scenes() {
    if std::env::var(FAULT).is_ok() {
        return;
    }
    std::thread::scope(|threads| {
        for fault in Fault::ALL {
            if let Finder::Scene(scene) = fault.found_by() {
                threads.spawn(move || check(scene, fault));
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_lost_answer() {
    if !on_stage() {
        return;
    }
    let cluster =
        Cluster::found_with(3, |config| Config { rpc_hold_timeout: Duration::from_millis(800), ..config })
            .await;
    let follower = cluster.get(cluster.follower().await);
    let before = cluster.fabric.calls(Method::Propose);
    cluster.fabric.swallow_answers(Method::Propose, 1);
    let outcome = try_propose(follower, register(7, "web")).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))), "FOUND: a lost answer gives {outcome:?}");
    assert_eq!(cluster.fabric.calls(Method::Propose), before + 1, "FOUND: it was sent again");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_restore() {
    if !on_stage() {
        return;
    }
    let cluster = Cluster::found(1).await;
    propose(cluster.get(1), register(1, "web")).await;
    let records: Vec<Record> = cluster.get(1).admin().save().await.unwrap().state.records().collect();
    propose(cluster.get(1), register(2, "web")).await;
    let web = Topic::Service(Folded::new("web"));
    let before = cluster.get(1).state().index_of(&web);
    cluster.get(1).admin().restore(records).await.unwrap();
    let after = cluster.get(1).state().index_of(&web);
    assert!(after > before, "FOUND: the index fell from {before} to {after}");
    cluster.end().await;
}

/// A server that has voted in a term must still know so after a restart, or it could vote twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_forgotten_vote() {
    if !on_stage() {
        return;
    }
    let mut cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    propose(cluster.get(leader), register(1, "web")).await;
    let follower = cluster.follower().await;
    until("the term of the leader", || {
        cluster.get(follower).cluster().term == cluster.get(leader).cluster().term
    })
    .await;
    let term = cluster.get(follower).cluster().term;
    // Alone after its restart, it has nobody to learn the term from.
    for other in (1..=3).filter(|other| *other != follower) {
        cluster.fabric.cut(&id(follower), &id(other));
    }
    cluster.kill(follower).await;
    let again = cluster.start(follower).await;
    let known = again.cluster().term;
    assert!(known >= term, "FOUND: it voted in term {term} and knows of term {known} only");
    cluster.end().await;
}

/// Once leading is being handed over, the old leader may not answer by its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_handover() {
    if !on_stage() {
        return;
    }
    // A long lease leaves the time to look.
    let cluster = Cluster::found_with(3, |config| Config {
        heartbeat_interval: Duration::from_millis(200),
        election_timeout_min: Duration::from_millis(4000),
        election_timeout_max: Duration::from_millis(5000),
        ..config
    })
    .await;
    for round in 0..5 {
        let old = cluster.leader().await;
        let new = (1..=3).find(|number| *number != old).unwrap();
        let third = (1..=3).find(|number| ![old, new].contains(number)).unwrap();
        propose(cluster.get(old), register(round * 10, "web")).await;
        // The old leader does not hear of what follows.
        cluster.fabric.cut_one_way(&id(new), &id(old));
        cluster.fabric.cut_one_way(&id(third), &id(old));
        let (admin, new_id) = (cluster.get(old).admin(), id(new));
        let handing_over = tokio::spawn(async move { admin.transfer_leader(Some(&new_id)).await });
        let deadline = Instant::now() + Duration::from_secs(3);
        while !cluster.get(new).cluster().is_leader && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let write = register(round * 10 + 1, "web");
        let written =
            tokio::time::timeout(Duration::from_secs(1), try_propose(cluster.get(new), write)).await;
        if cluster.get(new).cluster().is_leader && written == Ok(Ok(Outcome::Applied)) {
            let reading = cluster.get(old).read(Consistency::Default);
            if let Ok(Ok(state)) = tokio::time::timeout(Duration::from_millis(50), reading).await {
                assert!(holds(&state, round * 10 + 1), "FOUND: a default read misses an acknowledged write");
            }
        }
        cluster.fabric.heal();
        // Whatever came of it.
        let _ = handing_over.await;
    }
    cluster.end().await;
}

/// A leader that nobody hears any more may not answer by its lease once another could lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_leader_cut_off() {
    if !on_stage() {
        return;
    }
    let cluster = Cluster::found(3).await;
    let old = cluster.leader().await;
    propose(cluster.get(old), register(1, "web")).await;
    let others: Vec<usize> = (1..=3).filter(|number| *number != old).collect();
    others.iter().for_each(|other| cluster.fabric.cut(&id(old), &id(*other)));
    let new = cluster.leader_among(&others).await;
    propose(cluster.get(new), register(2, "web")).await;
    let reading = cluster.get(old).read(Consistency::Default);
    if let Ok(Ok(state)) = tokio::time::timeout(Duration::from_millis(50), reading).await {
        assert!(holds(&state, 2), "FOUND: a default read misses an acknowledged write");
    }
    cluster.end().await;
}

/// A vote may only be taken from a server if those that are left with one can agree without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scene_of_a_vote_too_many() {
    if !on_stage() {
        return;
    }
    let mut cluster =
        Cluster::found_with(3, |config| Config { rpc_hold_timeout: Duration::from_millis(800), ..config })
            .await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    cluster.kill(others[0]).await;
    // Once the leader knows that it is gone, the other's vote is needed.
    let deadline = Instant::now() + cluster::PATIENCE;
    let refused = loop {
        assert!(Instant::now() < deadline, "the leader does not miss a server that is gone");
        let lost = |one: &Progress| one.server.id == id(others[0]) && one.last_contact > SILENCE;
        let progress = cluster.get(leader).admin().progress().await.unwrap();
        if progress.iter().any(lost) {
            break cluster.get(leader).admin().demote(&id(others[1])).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let written = try_propose(cluster.get(leader), register(1, "web")).await;
    assert_eq!(written, Ok(Outcome::Applied), "FOUND: nobody can agree any more: {refused:?}");
    assert!(matches!(refused, Err(AdminError::BreaksQuorum(_))), "{refused:?}");
    cluster.end().await;
}
