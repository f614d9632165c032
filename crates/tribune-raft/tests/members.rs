//! Who belongs to the datacenter: taking servers in, giving and taking votes, letting them go, all without losing
//! a write; saving and restoring; bringing back a datacenter whose majority is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "harness/cluster.rs"]
mod cluster;
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, id, server, try_propose, until};
use harness::{propose, register};
use tokio::time::Instant;
use tribune_core::state::Record;
use tribune_core::{
    Command, Datacenter, Folded, Index, KvKey, NodeName, Outcome, SessionChange, State, Topic,
};
use tribune_raft::{
    AdminError, Config, Consistency, LeaderService, Method, Replica, ServeError, StartError, recover,
};

fn holds(state: &State, number: u32) -> bool {
    state.has_instance(&NodeName::new(format!("node-{number}")).unwrap(), &harness::instance_id("web"))
}

/// Repeats a step until it is taken: a new leader may still be settling in.
async fn eventually_ok<F: Future<Output = Result<(), AdminError>>>(step: impl Fn() -> F) {
    let deadline = Instant::now() + cluster::PATIENCE;
    loop {
        match step().await {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_taken_in_given_a_vote_and_let_go() {
    let mut cluster = Cluster::found(3).await;
    propose(cluster.get(1), register(1, "web")).await;
    cluster.start(4).await;
    // Asked of any server: the leader does it.
    let follower = cluster.follower().await;
    let admin = cluster.get(follower).admin();
    admin.add_learner(server(4)).await.unwrap();
    admin.add_learner(server(4)).await.unwrap();
    until("that it has everything", || holds(&cluster.get(4).state(), 1)).await;
    let state = cluster.get(4).read(Consistency::Default).await.unwrap();
    assert!(holds(&state, 1));
    propose(cluster.get(4), register(4, "web")).await;
    let progress = admin.progress().await.unwrap();
    assert_eq!(progress.len(), 4);
    assert_eq!(progress.iter().filter(|one| one.voter).count(), 3);
    assert_eq!(progress.iter().filter(|one| one.leader).count(), 1);

    let new = id(4);
    eventually_ok(|| admin.promote(&new)).await;
    assert!(admin.progress().await.unwrap().iter().all(|one| one.voter && one.last_contact.is_some()));
    eventually_ok(|| admin.demote(&new)).await;
    eventually_ok(|| admin.remove(&new)).await;
    assert_eq!(admin.progress().await.unwrap().len(), 3);
    assert_eq!(admin.remove(&new).await, Err(AdminError::NoSuchServer(new.clone())));
    assert_eq!(admin.promote("nobody").await, Err(AdminError::NoSuchServer("nobody".into())));
    let founded = cluster.get(1).admin().bootstrap(&[server(1)]).await;
    assert_eq!(founded, Err(AdminError::Initialised));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_would_leave_no_majority_is_refused() {
    let mut cluster = Cluster::found(3).await;
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let admin = cluster.get(leader).admin();
    // A server that is not there gets no vote.
    admin.add_learner(server(5)).await.unwrap();
    let refused = admin.promote(&id(5)).await;
    assert!(matches!(refused, Err(AdminError::BreaksQuorum(_))), "{refused:?}");
    let refused = admin.transfer_leader(Some(&id(5))).await;
    assert!(matches!(refused, Err(AdminError::Invalid(_))), "{refused:?}");

    let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    cluster.kill(others[0]).await;
    let dead = id(others[0]);
    let is_silent = || async {
        let progress = admin.progress().await.unwrap();
        let one = progress.iter().find(|one| one.server.id == dead).unwrap();
        one.last_contact.is_none_or(|ago| ago > Duration::from_secs(1))
    };
    let deadline = Instant::now() + cluster::PATIENCE;
    while !is_silent().await {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Of the two that would be left, one is dead.
    let refused = admin.remove(&id(others[1])).await;
    assert!(matches!(refused, Err(AdminError::BreaksQuorum(_))), "{refused:?}");
    // The dead one may go; then only the living are left and the next step is possible again.
    eventually_ok(|| admin.remove(&dead)).await;
    assert_eq!(propose(cluster.get(leader), register(1, "web")).await, Outcome::Applied);
    let last = id(others[1]);
    eventually_ok(|| admin.remove(&last)).await;
    let own = id(leader);
    let refused = admin.remove(&own).await;
    assert!(matches!(refused, Err(AdminError::BreaksQuorum(_))), "{refused:?}");
    cluster.end().await;
}

/// Servers 1 to 3 are replaced by 4 to 6, one after the other, while clients write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_are_replaced_under_writes() {
    let mut cluster = Cluster::found_with(3, |config| Config {
        snapshot_threshold: 100,
        snapshot_interval: Duration::ZERO,
        trailing_logs: 20,
        ..config
    })
    .await;
    let go_on = Arc::new(AtomicBool::new(true));
    let acknowledged = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let target = Arc::new(parking_lot::Mutex::new(cluster.get(1).clone()));
    let number = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (go_on, acknowledged) = (go_on.clone(), acknowledged.clone());
            let (target, number) = (target.clone(), number.clone());
            tokio::spawn(async move {
                while go_on.load(Ordering::SeqCst) {
                    let write = number.fetch_add(1, Ordering::SeqCst);
                    let replica = target.lock().clone();
                    if try_propose(&replica, register(write, "web")).await == Ok(Outcome::Applied) {
                        acknowledged.lock().push(write);
                    }
                }
            })
        })
        .collect();
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        let replica = cluster.start(new).await;
        let admin = replica.admin();
        let helper = cluster.get(if old == 3 { 4 } else { 3 }).admin();
        eventually_ok(|| helper.add_learner(server(new))).await;
        let (new_id, old_id) = (id(new), id(old));
        eventually_ok(|| helper.promote(&new_id)).await;
        *target.lock() = replica.clone();
        eventually_ok(|| admin.remove(&old_id)).await;
        cluster.stop(old).await;
    }
    go_on.store(false, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let acknowledged = acknowledged.lock().clone();
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    for number in 4..=6 {
        let state = cluster.get(number).read(Consistency::Consistent).await.unwrap();
        let missing: Vec<_> = acknowledged.iter().filter(|write| !holds(&state, **write)).collect();
        assert!(missing.is_empty(), "server {number} misses {missing:?}");
    }
    let servers = cluster.get(4).admin().progress().await.unwrap();
    let ids: Vec<_> = servers.into_iter().map(|one| one.server.id).collect();
    assert_eq!(ids, [id(4), id(5), id(6)]);
    cluster.end().await;
}

/// The new server needs what is in no log any more, and gets it as a snapshot, in pieces, while writes go on and
/// some pieces are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_server_gets_a_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::found_with(3, |config| Config {
        snapshot_threshold: 300,
        snapshot_interval: Duration::ZERO,
        trailing_logs: 10,
        ..config
    })
    .await;
    let leader = cluster.leader().await;
    let text = "x".repeat(4000);
    let replica = cluster.get(leader);
    for first in (0..1200).step_by(100) {
        let writes = (first..first + 100).map(|number| {
            let command = harness::register_with_meta(number, "web", &text);
            // On a machine this busy the leader may change; a registration may be repeated.
            async move { while try_propose(replica, command.clone()).await.is_err() {} }
        });
        futures::future::join_all(writes).await;
    }
    let leader = cluster.leader().await;
    until("a snapshot", || cluster.get(leader).cluster().snapshot.0 > 900).await;
    cluster.start(4).await;
    cluster.fabric.swallow_answers(Method::Snapshot, 1);
    let admin = cluster.get(leader).admin();
    admin.add_learner(server(4)).await.unwrap();
    for number in 2000..2100 {
        propose(cluster.get(leader), register(number, "web")).await;
    }
    until("that it has everything", || {
        let state = cluster.get(4).state();
        holds(&state, 0) && holds(&state, 1199) && holds(&state, 2099)
    })
    .await;
    assert!(cluster.fabric.calls(Method::Snapshot) > 3, "{}", cluster.fabric.calls(Method::Snapshot));
    let state = cluster.get(4).read(Consistency::Consistent).await.unwrap();
    assert_eq!(*state, *cluster.get(leader).state());
    cluster.end().await;
}

fn key(key: &str) -> Topic {
    Topic::Key(KvKey::new(key).unwrap())
}

fn service(name: &str) -> Topic {
    Topic::Service(Folded::new(name))
}

/// Questions of every kind, about what a restore brings back, changes, removes and leaves out.
fn restored_topics() -> [Topic; 16] {
    [
        Topic::Catalog,
        Topic::Nodes,
        Topic::Services,
        Topic::Checks,
        service("web"),
        service("db"),
        Topic::Node(Folded::new("node-40")),
        service("absent"),
        key("kept"),
        key("dropped"),
        Topic::Prefix("".into()),
        Topic::Sessions,
        Topic::Session(harness::session_id(1)),
        Topic::Session(harness::session_id(2)),
        Topic::NodeSessions(Folded::new("node-2")),
        Topic::Leases,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_state_is_the_same_everywhere_and_no_index_falls() {
    let mut cluster = Cluster::found(3).await;
    for number in 0..30 {
        propose(cluster.get(1), register(number, "web")).await;
    }
    propose(cluster.get(1), harness::put_key("kept", *b"old")).await;
    propose(cluster.get(1), harness::create_session(1, 1)).await;
    let saved = cluster.get(2).admin().save().await.unwrap();
    assert_eq!(saved.servers.len(), 3);
    let records: Vec<Record> = saved.state.records().collect();
    for number in 30..60 {
        propose(cluster.get(1), register(number, "db")).await;
    }
    propose(cluster.get(1), harness::deregister(3)).await;
    propose(cluster.get(1), harness::put_key("kept", *b"new")).await;
    propose(cluster.get(1), harness::put_key("dropped", *b"new")).await;
    propose(cluster.get(1), harness::create_session(2, 2)).await;
    let before = cluster.get(1).read(Consistency::Default).await.unwrap();
    let follower = cluster.follower().await;
    let watched = [service("web"), key("kept"), Topic::Session(harness::session_id(1))];
    let watchers = watched.map(|topic| {
        let (replica, after) = (cluster.get(1).clone(), before.index_of(&topic));
        tokio::spawn(async move {
            let until = Instant::now() + cluster::PATIENCE;
            let state = replica.changed(&topic, after, until).await;
            (state.index_of(&topic) > after, topic)
        })
    });
    cluster.get(follower).admin().restore(records.clone()).await.unwrap();
    for watcher in watchers {
        let (is_told, topic) = watcher.await.unwrap();
        assert!(is_told, "who waits for {topic:?} is not told");
    }
    let mut states = Vec::new();
    for number in 1..=3 {
        let state = cluster.get(number).read(Consistency::Consistent).await.unwrap();
        assert!(
            holds(&state, 3)
                && !state.has_instance(&NodeName::new("node-40").unwrap(), &harness::instance_id("db"))
        );
        for topic in restored_topics() {
            assert!(state.index_of(&topic) > before.index_of(&topic), "{topic:?}");
        }
        states.push(state);
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
    // It goes on, survives a restart, and reaches a new server.
    propose(cluster.get(1), register(100, "web")).await;
    cluster.kill(follower).await;
    cluster.start(follower).await;
    until("the restored state after a restart", || {
        let state = cluster.get(follower).state();
        holds(&state, 100) && holds(&state, 3) && state.index() >= cluster.get(1).state().index()
    })
    .await;
    assert_eq!(*cluster.get(follower).state(), *cluster.get(cluster.leader().await).state());

    // What is no state is refused before anything is written.
    let refused = cluster.get(1).admin().restore(records[1..].to_vec()).await;
    assert!(matches!(refused, Err(AdminError::Invalid(_))), "{refused:?}");
    cluster.end().await;
}

/// Whatever the records say of leases: the present leader goes on measuring their time, also when the log with the
/// restore in it is read again, and readers of keys and sessions are told of the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_sessions_still_end_when_their_time_has_run_out() {
    let from = |commands: &[Command]| {
        let mut state = State::default();
        commands.iter().zip(1..).for_each(|(command, at)| drop(state.apply(Index(at), command)));
        state.records().collect::<Vec<Record>>()
    };
    let keep = |term| harness::change_sessions(SessionChange::KeepLeases { term });
    let without = from(&[register(1, "web")]);
    let ahead = from(&[register(1, "web"), keep(900), harness::create_session(1, 1)]);
    for records in [without, ahead] {
        let mut cluster = Cluster::found(1).await;
        for command in
            [register(1, "web"), keep(5), harness::create_session(1, 1), harness::put_key("k", *b"")]
        {
            assert_eq!(propose(cluster.get(1), command).await, Outcome::Applied);
        }
        let before = cluster.get(1).state();
        cluster.get(1).admin().restore(records).await.unwrap();
        let after = cluster.get(1).state();
        let key = Topic::Key(KvKey::new("k").unwrap());
        let absent = Topic::Key(KvKey::new("absent").unwrap());
        let session = Topic::Session(harness::session_id(1));
        let node = Topic::NodeSessions(Folded::new("node-1"));
        for topic in [key, absent, Topic::Prefix("".into()), session, node, Topic::Sessions, Topic::Leases] {
            assert!(after.index_of(&topic) > before.index_of(&topic), "{topic:?}");
        }

        cluster.kill(1).await;
        recover(&cluster.directory(1), "dc1", &id(1), &[server(1)]).unwrap();
        let replica = cluster.start(1).await;
        for topic in [Topic::Sessions, Topic::Leases] {
            assert_eq!(replica.state().index_of(&topic), after.index_of(&topic));
        }
        propose(&replica, harness::create_session(1, 1)).await;
        let sessions = vec![harness::session_id(1)];
        let ended = harness::change_sessions(SessionChange::Expire { term: 5, sessions });
        assert_eq!(propose(&replica, ended).await, Outcome::Applied);
        assert_eq!(replica.state().leases().count(), 0);
        cluster.end().await;
    }
}

/// A state from a datacenter whose log was longer: nothing may claim to be newer than the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_from_a_longer_log_is_restored_into_a_new_datacenter() {
    let old = Cluster::found(1).await;
    for number in 0..50 {
        propose(old.get(1), register(number, "web")).await;
    }
    let records: Vec<Record> = old.get(1).admin().save().await.unwrap().state.records().collect();
    old.end().await;
    let new = Cluster::found(3).await;
    new.get(1).admin().restore(records).await.unwrap();
    let state = new.get(1).read(Consistency::Default).await.unwrap();
    assert!(holds(&state, 49));
    for record in state.records() {
        let newest = match record {
            Record::Node(stored) => stored.modified,
            Record::Instance(stored) => stored.modified,
            Record::Topic(_, index) => index,
            _ => continue,
        };
        assert!(newest <= state.index(), "{newest} is ahead of {}", state.index());
    }
    let before = state.index_of(&Topic::Service(Folded::new("web")));
    propose(new.get(2), register(60, "web")).await;
    assert!(new.get(2).state().index_of(&Topic::Service(Folded::new("web"))) > before);
    new.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_whose_majority_is_lost_goes_on_with_those_that_are_left() {
    let mut cluster =
        Cluster::found_with(5, |config| Config { rpc_hold_timeout: Duration::from_millis(700), ..config })
            .await;
    for number in 0..20 {
        propose(cluster.get(1), register(number, "web")).await;
    }
    until("that all have it", || (1..=5).all(|number| holds(&cluster.get(number).state(), 19))).await;
    for number in 1..=5 {
        cluster.kill(number).await;
    }
    let left = [server(1), server(2)];
    let outside = recover(&cluster.directory(3), "dc1", &id(3), &left);
    assert!(matches!(outside, Err(StartError::Config(_))), "{outside:?}");
    for number in 1..=2 {
        let recovery = recover(&cluster.directory(number), "dc1", &id(number), &left).unwrap();
        let again = recover(&cluster.directory(number), "dc1", &id(number), &left).unwrap();
        assert_eq!(recovery, again);
        let note = std::fs::read_to_string(recovery.note).unwrap();
        assert!(note.contains(&id(2)) && note.contains("from cluster"), "{note}");
    }
    for number in 1..=2 {
        cluster.start(number).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(propose(cluster.get(leader), register(100, "web")).await, Outcome::Applied);
    let state = cluster.get(2).read(Consistency::Default).await.unwrap();
    assert!((0..20).chain([100]).all(|number| holds(&state, number)));
    assert_eq!(cluster.get(1).cluster().servers.len(), 2);

    // Those given up come back together: they are a majority of the old datacenter and must not meet the new one.
    for number in 3..=5 {
        cluster.start(number).await;
    }
    let stale = try_propose(cluster.get(1), register(101, "web")).await;
    assert_eq!(stale, Ok(Outcome::Applied));
    assert_eq!(cluster.get(1).cluster().servers.len(), 2);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_nothing_is_written() {
    let one = Cluster::found(3).await;
    let mut other = Cluster::found_with(1, |config| config).await;
    let stranger = other.start_as(2, &one.fabric, Datacenter::new("dc1").unwrap()).await;
    stranger.admin().bootstrap(&[server(2), server(9)]).await.unwrap();
    // It stands for election at the servers of the first cluster, which has a server of the same id.
    let before = one.get(1).cluster();
    let leader = one.leader().await;
    let elsewhere = one.fabric.transport(&id(9));
    let called = elsewhere
        .call(
            &server(leader),
            Method::Append,
            Bytes::from_static(b"?"),
            Instant::now() + Duration::from_secs(1),
        )
        .await;
    assert!(matches!(called, Err(tribune_raft::TransportError::Refused(_))), "{called:?}");
    assert_eq!(one.get(1).cluster().term, before.term);
    let refused = one.get(1).serve(Method::Vote, Bytes::from_static(b"nonsense")).await;
    assert!(matches!(refused, Err(ServeError::Malformed(_))), "{refused:?}");
    stranger.kill().await;
    one.end().await;
    other.end().await;
}

struct Echo(&'static str);

#[async_trait::async_trait]
impl LeaderService for Echo {
    async fn ask(&self, question: Bytes) -> Result<Bytes, String> {
        match &question[..] {
            b"fail" => Err("it cannot be done".into()),
            _ => Ok(Bytes::from([self.0.as_bytes(), &question].concat())),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_reach_the_leader_wherever_it_is() {
    let mut cluster = Cluster::found(3).await;
    let names = ["one ", "two ", "three "];
    let serve = |replica: &Replica, number: usize| {
        assert!(replica.set_leader_service(Arc::new(Echo(names[number - 1]))));
    };
    for number in 1..=3 {
        serve(cluster.get(number), number);
    }
    for round in 0..2 {
        let leader = cluster.leader().await;
        for number in cluster.numbers() {
            let answer = cluster.get(number).ask_leader(Bytes::from_static(b"who?")).await.unwrap();
            assert_eq!(answer, format!("{}who?", names[leader - 1]), "asked on {number}");
            let failed = cluster.get(number).ask_leader(Bytes::from_static(b"fail")).await;
            assert!(matches!(failed, Err(tribune_raft::Error::Unknown(reason)) if reason.contains("cannot")));
        }
        if round == 0 {
            cluster.kill(leader).await;
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_handed_to_the_server_that_is_named() {
    let cluster = Cluster::found(3).await;
    for wanted in [2, 3, 1, 2] {
        let wanted_id = id(wanted);
        let admin = cluster.get(1).admin();
        eventually_ok(|| admin.transfer_leader(Some(&wanted_id))).await;
        assert_eq!(cluster.leader().await, wanted);
        let outcome = propose(cluster.get(3), register(wanted as u32, "web")).await;
        assert!(matches!(outcome, Outcome::Applied | Outcome::Unchanged));
    }
    cluster.end().await;
}
