//! Servers that come back under their id with an empty disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "harness/cluster.rs"]
mod cluster;
mod harness;

use std::time::Duration;

use cluster::{Cluster, id, server, until};
use harness::{propose, register};
use tokio::time::Instant;
use tribune_core::{NodeName, State};
use tribune_raft::{Admin, Config, Consistency, Method};

fn holds(state: &State, number: u32) -> bool {
    state.has_instance(&NodeName::new(format!("node-{number}")).unwrap(), &harness::instance_id("web"))
}

async fn is_forgetful(admin: &Admin, number: usize) -> bool {
    let progress = admin.progress().await.unwrap();
    progress.iter().find(|one| one.server.id == id(number)).is_some_and(|one| one.forgetful)
}

/// Ends a server and empties its disk.
async fn wipe(cluster: &mut Cluster, number: usize) {
    cluster.stop(number).await;
    std::fs::remove_dir_all(cluster.directory(number)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_log_is_noticed_and_taken_in_anew() {
    // Only the leader that saw the server confirm its entries can notice.
    let steady = |config| Config {
        election_timeout_min: Duration::from_secs(2),
        election_timeout_max: Duration::from_secs(3),
        ..config
    };
    let mut cluster = Cluster::found_with(3, steady).await;
    let leader = cluster.leader().await;
    let other = cluster.follower().await;
    for number in 0..20 {
        propose(cluster.get(leader), register(number, "web")).await;
    }
    until("the follower has it all", || holds(&cluster.get(other).state(), 19)).await;
    wipe(&mut cluster, other).await;
    cluster.start(other).await;
    let admin = cluster.get(leader).admin();
    let deadline = Instant::now() + cluster::PATIENCE;
    while !is_forgetful(&admin, other).await {
        assert!(Instant::now() < deadline, "nobody notices");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    propose(cluster.get(leader), register(20, "web")).await;
    assert!(!holds(&cluster.get(other).state(), 20), "it counts for nothing");

    admin.remove(&id(other)).await.unwrap();
    admin.add_learner(server(other)).await.unwrap();
    until("the server has it all again", || holds(&cluster.get(other).state(), 20)).await;
    admin.promote(&id(other)).await.unwrap();
    assert!(!is_forgetful(&admin, other).await);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_data_does_not_help_one_to_lead_that_lacks_what_was_acknowledged() {
    let mut cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let [lagging, wiped] = *cluster.numbers().into_iter().filter(|it| *it != leader).collect::<Vec<_>>()
    else {
        panic!("three servers")
    };
    propose(cluster.get(leader), register(1, "web")).await;
    until("everybody has it", || holds(&cluster.get(lagging).state(), 1)).await;
    cluster.stop(lagging).await;
    propose(cluster.get(leader), register(2, "web")).await;
    wipe(&mut cluster, wiped).await;
    cluster.stop(leader).await;

    cluster.start(lagging).await;
    cluster.start(wiped).await;
    let asked = cluster.fabric.calls(Method::PreVote);
    until("the one that lags has stood for election", || cluster.fabric.calls(Method::PreVote) > asked + 10)
        .await;
    assert_eq!(cluster.get(lagging).cluster().leader, None);
    cluster.start(leader).await;
    let state = cluster.get(leader).read(Consistency::Consistent).await.unwrap();
    assert!(holds(&state, 1) && holds(&state, 2));
    cluster.end().await;
}
