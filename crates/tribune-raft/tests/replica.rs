//! The replica as its callers see it: what was acknowledged is there after a restart, nothing changes without a
//! reason, and those who wait are woken exactly when they should be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{config, deregister, eventually, propose, register, start};
use tokio::time::Instant;
use tribune_core::{Folded, Index, NodeName, Outcome, Refusal, Topic};
use tribune_raft::{Consistency, Replica, Role, Storage};

fn service(name: &str) -> Topic {
    Topic::Service(Folded::new(name))
}

#[tokio::test]
async fn acknowledged_proposals_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::Directory(directory.path().join("raft"));
    let replica = start(&storage).await;
    for number in 0..100 {
        assert_eq!(propose(&replica, register(number, "web")).await, Outcome::Applied);
    }
    let before = replica.state();
    replica.shutdown().await;

    let again = start(&storage).await;
    let after = again.state();
    assert_eq!(after.index_of(&service("web")), before.index_of(&service("web")));
    let mut records: Vec<_> = before.records().collect();
    let mut restored: Vec<_> = after.records().collect();
    // Only the header differs: the new leader's first entry moved the state on.
    records.remove(0);
    restored.remove(0);
    assert_eq!(records, restored);
    assert!(again.cluster().is_leader);
    again.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_and_the_rest_of_the_log_give_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::Directory(directory.path().join("raft"));
    let mut config = config(&storage);
    config.snapshot_threshold = 50;
    config.trailing_logs = 10;
    config.snapshot_interval = Duration::ZERO;
    let replica = Replica::start(config.clone()).await.unwrap();
    for number in 0..300 {
        propose(&replica, register(number, "web")).await;
    }
    eventually("a snapshot", || replica.cluster().snapshot > Index(200)).await;
    for number in 300..340 {
        propose(&replica, register(number, "web")).await;
    }
    propose(&replica, deregister(7)).await;
    let before: Vec<_> = replica.state().records().skip(1).collect();
    replica.shutdown().await;

    let again = Replica::start(config).await.unwrap();
    assert_eq!(again.state().records().skip(1).collect::<Vec<_>>(), before);
    assert_eq!(propose(&again, register(341, "web")).await, Outcome::Applied);
    again.shutdown().await;
}

#[tokio::test]
async fn proposing_the_same_again_moves_nothing() {
    let replica = start(&Storage::Memory).await;
    propose(&replica, register(1, "web")).await;
    let (state, cluster) = (replica.state(), replica.cluster());
    for _ in 0..10 {
        assert_eq!(propose(&replica, register(1, "web")).await, Outcome::Unchanged);
    }
    assert_eq!(replica.state().index(), state.index());
    assert_eq!(replica.cluster().last_log, cluster.last_log);
    replica.shutdown().await;
}

#[tokio::test]
async fn a_refused_proposal_says_why_and_writes_nothing() {
    let replica = start(&Storage::Memory).await;
    let before = replica.cluster().last_log;
    let outcome = propose(&replica, harness::check_of_nobody()).await;
    assert!(matches!(outcome, Outcome::Refused(Refusal::MissingInstance { .. })), "{outcome:?}");
    assert_eq!(replica.cluster().last_log, before);
    replica.shutdown().await;
}

#[tokio::test]
async fn every_consistency_sees_an_acknowledged_write() {
    let replica = start(&Storage::Memory).await;
    propose(&replica, register(1, "web")).await;
    for consistency in [Consistency::Default, Consistency::Consistent, Consistency::Stale] {
        let state = replica.read(consistency).await.unwrap();
        assert!(state.has_instance(&NodeName::new("node-1").unwrap(), &harness::instance_id("web")));
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_waiters_are_woken_by_their_own_topic_only() {
    const WAITERS: usize = 5000;
    let replica = start(&Storage::Memory).await;
    propose(&replica, register(1, "web")).await;
    propose(&replica, register(1, "db")).await;
    let after = replica.state().index_of(&service("web"));
    let woken = Arc::new(AtomicUsize::new(0));
    let far = Instant::now() + Duration::from_secs(60);
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (replica, woken) = (replica.clone(), woken.clone());
            tokio::spawn(async move {
                let state = replica.changed(&service("web"), after, far).await;
                woken.fetch_add(1, Ordering::Relaxed);
                state.index_of(&service("web"))
            })
        })
        .collect();
    propose(&replica, register(2, "db")).await;
    assert_eq!(woken.load(Ordering::Relaxed), 0, "another topic woke them");
    propose(&replica, register(2, "web")).await;
    let now = replica.state().index_of(&service("web"));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), now);
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_misses_no_last_change_and_never_wakes_without_one() {
    const WRITES: u32 = 500;
    let replica = start(&Storage::Memory).await;
    let far = Instant::now() + Duration::from_secs(60);
    let last = service("last");
    let watchers: Vec<_> = (0..50)
        .map(|_| {
            let (replica, last) = (replica.clone(), last.clone());
            tokio::spawn(async move {
                let mut seen = Index(0);
                while replica.state().index_of(&last) == Index(0) {
                    let state = replica.changed(&service("web"), seen, far).await;
                    let now = state.index_of(&service("web"));
                    assert!(now > seen, "woken without a change");
                    seen = now;
                }
            })
        })
        .collect();
    for number in 0..WRITES {
        propose(&replica, register(number, "web")).await;
    }
    propose(&replica, register(0, "last")).await;
    propose(&replica, register(WRITES, "web")).await;
    for watcher in watchers {
        watcher.await.unwrap();
    }
    replica.shutdown().await;
}

#[tokio::test]
async fn a_wait_ends_at_its_time() {
    let replica = start(&Storage::Memory).await;
    let state = replica.changed(&service("web"), Index(0), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(state.index_of(&service("web")), Index(0));
    replica.shutdown().await;
}

#[tokio::test]
async fn a_lone_server_leads_and_tells_so() {
    let replica = start(&Storage::Memory).await;
    let mut leadership = replica.leadership();
    assert!(matches!(leadership.next().await, Some(Role::Leader { .. })));
    let cluster = replica.cluster();
    assert_eq!(cluster.leader.as_ref().map(|leader| leader.id.as_str()), Some(harness::SERVER));
    assert_eq!(cluster.servers.len(), 1);
    assert!(cluster.servers[0].voter && cluster.is_leader && cluster.stopped.is_none());
    replica.shutdown().await;
    assert!(replica.cluster().stopped.is_some());
}
