//! Several servers: who leads, what is acknowledged, and what readers see, while servers die and links are cut.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "harness/cluster.rs"]
mod cluster;
mod harness;

use std::time::Duration;

use cluster::{Cluster, id, try_propose, until};
use harness::{propose, register};
use tokio::time::Instant;
use tribune_core::{Authority, Folded, NodeName, Outcome, Topic};
use tribune_raft::{Consistency, Error, Method, Replica};

fn holds(replica: &Replica, number: u32) -> bool {
    replica.state().has_instance(&node(number), &harness::instance_id("web"))
}

fn node(number: u32) -> NodeName {
    NodeName::new(format!("node-{number}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_elect_replicate_and_answer_everywhere() {
    let cluster = Cluster::found(3).await;
    let mut number = 0;
    for server in 1..=3 {
        for _ in 0..5 {
            number += 1;
            let replica = cluster.get(server);
            assert_eq!(propose(replica, register(number, "web")).await, Outcome::Applied);
            assert!(holds(replica, number), "a server does not read its own write");
            for other in 1..=3 {
                for consistency in [Consistency::Default, Consistency::Consistent] {
                    let state = cluster.get(other).read(consistency).await.unwrap();
                    assert!(state.has_instance(&node(number), &harness::instance_id("web")));
                }
            }
        }
    }
    for server in 1..=3 {
        let contact = cluster.get(server).contact();
        assert!(contact.known_leader && contact.last_contact.unwrap() < Duration::from_secs(2));
        assert_eq!(cluster.get(server).cluster().servers.len(), 3);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_change_nothing_is_told_by_a_follower_without_writing() {
    let cluster = Cluster::found(3).await;
    let follower = cluster.get(cluster.follower().await).clone();
    propose(&follower, register(1, "web")).await;
    let proposed = cluster.fabric.calls(Method::Propose);
    let index = follower.state().index();
    assert_eq!(propose(&follower, register(1, "web")).await, Outcome::Unchanged);
    assert_eq!(cluster.fabric.calls(Method::Propose), proposed);
    assert_eq!(follower.state().index(), index);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_dies_another_one_leads_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::found(3).await;
    for number in 0..20 {
        propose(cluster.get(1), register(number, "web")).await;
    }
    let dead = cluster.leader().await;
    cluster.kill(dead).await;
    let begun = Instant::now();
    let survivor = cluster.numbers()[0];
    assert_eq!(propose(cluster.get(survivor), register(100, "web")).await, Outcome::Applied);
    println!("the next write was acknowledged {:?} after the leader died", begun.elapsed());
    for server in cluster.numbers() {
        let state = cluster.get(server).read(Consistency::Default).await.unwrap();
        for number in (0..20).chain([100]) {
            assert!(state.has_instance(&node(number), &harness::instance_id("web")), "{number}");
        }
    }
    cluster.start(dead).await;
    until("the dead server's return", || holds(cluster.get(dead), 100)).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_within_bounds_and_goes_on_giving_what_it_has() {
    let cluster = Cluster::found_with(3, |config| tribune_raft::Config {
        rpc_hold_timeout: Duration::from_millis(1500),
        ..config
    })
    .await;
    propose(cluster.get(1), register(1, "web")).await;
    let cut_off = cluster.leader().await;
    let others: Vec<usize> = (1..=3).filter(|number| *number != cut_off).collect();
    let ids: Vec<String> = others.iter().map(|number| id(*number)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cluster.fabric.isolate(&[&id(cut_off)], &ids);
    let leader = cluster.leader_among(&others).await;
    propose(cluster.get(leader), register(2, "web")).await;

    let alone = cluster.get(cut_off);
    until("that the old leader gives up", || !alone.cluster().is_leader).await;
    assert!(matches!(try_propose(alone, register(3, "web")).await, Err(Error::NoLeader(_))));
    for consistency in [Consistency::Default, Consistency::Consistent] {
        assert!(matches!(alone.read(consistency).await, Err(Error::NoLeader(_))));
    }
    let stale = alone.read(Consistency::Stale).await.unwrap();
    assert!(stale.has_instance(&node(1), &harness::instance_id("web")));
    let contact = alone.contact();
    assert!(!contact.known_leader && contact.last_contact.unwrap() > Duration::from_millis(500));

    cluster.fabric.heal();
    until("that the cut-off server catches up", || holds(alone, 2)).await;
    assert!(!holds(alone, 3));
    assert!(alone.state().index_of(&Topic::Service(Folded::new("web"))).0 > 0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_of_unknown_outcome_and_not_sent_again() {
    let cluster = Cluster::found_with(3, |config| tribune_raft::Config {
        rpc_hold_timeout: Duration::from_millis(800),
        ..config
    })
    .await;
    let follower = cluster.get(cluster.follower().await);
    let before = cluster.fabric.calls(Method::Propose);
    cluster.fabric.swallow_answers(Method::Propose, 1);
    let outcome = try_propose(follower, register(7, "web")).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
    assert_eq!(cluster.fabric.calls(Method::Propose), before + 1, "the write was sent again");
    until("the write that was done all the same", || holds(follower, 7)).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_wait_through_an_election() {
    let mut cluster = Cluster::found(3).await;
    let dead = cluster.leader().await;
    let survivors: Vec<usize> = (1..=3).filter(|number| *number != dead).collect();
    cluster.kill(dead).await;
    let writes = survivors.iter().flat_map(|server| (0..10).map(move |write| (*server, write)));
    let writes = writes.map(|(server, write)| {
        let replica = cluster.get(server).clone();
        async move { try_propose(&replica, register(server as u32 * 100 + write, "web")).await }
    });
    for outcome in futures::future::join_all(writes).await {
        // A leader that died may have taken a write with it; none did here.
        assert_eq!(outcome, Ok(Outcome::Applied));
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_on_a_follower_share_one_question() {
    let cluster = Cluster::found(3).await;
    let follower = cluster.get(cluster.follower().await);
    propose(follower, register(1, "web")).await;
    cluster.fabric.delay(Duration::from_millis(20)..Duration::from_millis(21));
    let before = cluster.fabric.calls(Method::ReadIndex);
    let reads = (0..200).map(|_| follower.read(Consistency::Default));
    for state in futures::future::join_all(reads).await {
        assert!(state.unwrap().has_instance(&node(1), &harness::instance_id("web")));
    }
    let asked = cluster.fabric.calls(Method::ReadIndex) - before;
    assert!(asked <= 4, "{asked} questions for 200 readers");
    cluster.end().await;
}

/// A default read on the old leader must see what was acknowledged under the new one, also right after leading was
/// handed over, when the old lease would still run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_default_read_is_older_than_an_acknowledged_write_while_leading_is_handed_over() {
    let cluster = Cluster::found(3).await;
    let (mut number, mut rounds) = (1000, 0);
    for _ in 0..6 {
        let old = cluster.leader().await;
        let new = (1..=3).find(|number| *number != old).unwrap();
        // The old leader hears late of the new one, so nothing but its own caution keeps it from answering.
        let admin = cluster.get(old).admin();
        let new_id = id(new);
        let handing_over = admin.transfer_leader(Some(&new_id));
        let writing = async {
            let deadline = Instant::now() + Duration::from_secs(3);
            while !cluster.get(new).cluster().is_leader {
                // On a busy machine another one may have been elected instead.
                if Instant::now() > deadline {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            rounds += 1;
            cluster.fabric.cut_one_way(&id(new), &id(old));
            for _ in 0..20 {
                number += 1;
                assert_eq!(propose(cluster.get(new), register(number, "web")).await, Outcome::Applied);
                let reading = cluster.get(old).read(Consistency::Default);
                if let Ok(Ok(state)) = tokio::time::timeout(Duration::from_millis(20), reading).await {
                    assert!(state.has_instance(&node(number), &harness::instance_id("web")), "a stale read");
                }
            }
            cluster.fabric.mend(&id(new), &id(old));
        };
        let (_, ()) = tokio::join!(handing_over, writing);
        cluster.fabric.heal();
    }
    assert!(rounds > 0, "leading was never handed over");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_returns_from_isolation_does_not_disturb_the_leader() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await;
    let term = cluster.get(leader).cluster().term;
    for other in (1..=3).filter(|other| *other != away) {
        cluster.fabric.cut(&id(away), &id(other));
    }
    until("that it feels alone", || !cluster.get(away).contact().known_leader).await;
    let tried = cluster.fabric.calls(Method::PreVote);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.get(away).cluster().term, term, "the term rose without a majority");
    cluster.fabric.heal();
    until("its return", || cluster.get(away).contact().known_leader).await;
    propose(cluster.get(away), register(1, "web")).await;
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.get(leader).cluster().term, term);
    assert!(cluster.fabric.calls(Method::PreVote) >= tried);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_link_of_three_may_be_cut() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let term = cluster.get(leader).cluster().term;
    let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    // Between the followers: nobody may notice.
    cluster.fabric.cut(&id(others[0]), &id(others[1]));
    for number in 0..20 {
        assert_eq!(
            propose(cluster.get(others[number as usize % 2]), register(number, "web")).await,
            Outcome::Applied
        );
    }
    assert_eq!(cluster.get(leader).cluster().term, term);
    cluster.fabric.heal();
    // Between the leader and a follower: the other two go on, and the leader is not changed for ever.
    cluster.fabric.cut(&id(leader), &id(others[0]));
    for number in 100..110 {
        let outcome = try_propose(cluster.get(others[1]), register(number, "web")).await;
        assert_eq!(outcome, Ok(Outcome::Applied));
    }
    let before = cluster.get(others[1]).cluster().term;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cluster.get(others[1]).cluster().term <= before + 1, "leaders take turns");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_in_a_chain_find_a_leader() {
    let cluster = Cluster::found(5).await;
    for one in 1..=5_usize {
        for other in one + 2..=5 {
            cluster.fabric.cut(&id(one), &id(other));
        }
    }
    let mut number = 0;
    let deadline = Instant::now() + cluster::PATIENCE;
    // Only a server that reaches two others can lead: those in the middle.
    loop {
        number += 1;
        let outcome = try_propose(cluster.get(3), register(number, "web")).await;
        if outcome == Ok(Outcome::Applied) {
            break;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
    }
    for write in 100..120 {
        assert_eq!(propose(cluster.get(3), register(write, "web")).await, Outcome::Applied);
    }
    cluster.end().await;
}

/// The leader is heard, but hears nobody: it must make room for one that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_is_replaced() {
    let cluster = Cluster::found_with(3, |config| tribune_raft::Config {
        rpc_hold_timeout: Duration::from_secs(5),
        ..config
    })
    .await;
    let deaf = cluster.leader().await;
    let others: Vec<usize> = (1..=3).filter(|number| *number != deaf).collect();
    for other in &others {
        cluster.fabric.cut_one_way(&id(*other), &id(deaf));
    }
    // Entries that it goes on sending must not keep the others from electing.
    let pending = cluster.get(deaf).clone();
    let trying = tokio::spawn(async move { try_propose(&pending, register(1, "web")).await });
    let deadline = Instant::now() + cluster::PATIENCE;
    while !others.iter().any(|other| cluster.get(*other).cluster().is_leader) {
        assert!(Instant::now() < deadline, "nobody takes over from a leader that hears nobody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let leader = *others.iter().find(|other| cluster.get(**other).cluster().is_leader).unwrap();
    assert_eq!(propose(cluster.get(leader), register(2, "web")).await, Outcome::Applied);
    cluster.fabric.heal();
    let outcome = trying.await.unwrap();
    assert!(!matches!(outcome, Err(Error::Denied | Error::Busy | Error::Stopped(_))), "{outcome:?}");
    until("that all agree again", || holds(cluster.get(deaf), 2)).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_link_costs_no_acknowledged_write() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let third = (1..=3).find(|number| ![leader, other].contains(number)).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..30_u32 {
        match round % 2 {
            0 => cluster.fabric.cut(&id(leader), &id(other)),
            _ => cluster.fabric.mend(&id(leader), &id(other)),
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        if try_propose(cluster.get(third), register(round, "web")).await == Ok(Outcome::Applied) {
            acknowledged.push(round);
        }
    }
    cluster.fabric.heal();
    assert!(acknowledged.len() > 25, "{acknowledged:?}");
    for server in 1..=3 {
        let state = cluster.get(server).read(Consistency::Consistent).await.unwrap();
        assert!(
            acknowledged
                .iter()
                .all(|number| state.has_instance(&node(*number), &harness::instance_id("web")))
        );
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_hands_over_first() {
    let mut cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let term = cluster.get(leader).cluster().term;
    let votes = cluster.fabric.calls(Method::Transfer);
    cluster.stop(leader).await;
    assert!(cluster.fabric.calls(Method::Transfer) > votes);
    let next = cluster.leader().await;
    assert_eq!(cluster.get(next).cluster().term, term + 1);
    assert_eq!(propose(cluster.get(next), register(1, "web")).await, Outcome::Applied);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_start_again_with_what_was_acknowledged() {
    let mut cluster = Cluster::found_with(3, |config| tribune_raft::Config {
        snapshot_threshold: 50,
        snapshot_interval: Duration::ZERO,
        trailing_logs: 10,
        ..config
    })
    .await;
    for number in 0..120 {
        propose(cluster.get(1 + number as usize % 3), register(number, "web")).await;
    }
    let index = cluster.get(1).read(Consistency::Consistent).await.unwrap().index();
    for number in 1..=3 {
        cluster.kill(number).await;
    }
    for number in 1..=3 {
        cluster.start(number).await;
    }
    for server in 1..=3 {
        let state = cluster.get(server).read(Consistency::Default).await.unwrap();
        assert!(state.index() >= index);
        assert!((0..120).all(|number| state.has_instance(&node(number), &harness::instance_id("web"))));
    }
    cluster.end().await;
}

/// A change that no call could carry would keep the log from reaching the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_too_long_is_refused_and_the_others_go_on() {
    let cluster = Cluster::found(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for number in [leader, follower] {
        let long = harness::put_key("long", vec![b'v'; tribune_raft::BODY_BYTES_MAX]);
        let refused = try_propose(cluster.get(number), long).await;
        assert!(matches!(refused, Err(Error::TooLong(_))), "{refused:?}");
        assert_eq!(propose(cluster.get(number), register(number as u32, "web")).await, Outcome::Applied);
    }
    let long = harness::put_key("long", vec![b'v'; tribune_raft::BODY_BYTES_MAX / 2]);
    assert_eq!(propose(cluster.get(follower), long).await, Outcome::Applied);
    until("that all have everything", || {
        let has_all = |one| cluster.get(one).state().index() >= cluster.get(follower).state().index();
        (1..=3).all(has_all)
    })
    .await;
    cluster.end().await;
}

/// What a server has missed may be more than one call carries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lacks_many_large_values_gets_them() {
    let mut cluster = Cluster::found(3).await;
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let leader = cluster.leader().await;
    let value = vec![b'v'; 512 << 10];
    let count = 40;
    assert!(count * value.len() > tribune_raft::BODY_BYTES_MAX);
    for number in 0..count {
        let put = harness::put_key(&format!("large/{number:02}"), value.clone());
        assert_eq!(propose(cluster.get(leader), put).await, Outcome::Applied);
    }
    cluster.start(away).await;
    let returned = cluster.get(away);
    until("all values on the server that was away", || {
        returned.state().view(&Authority::unrestricted()).keys_under("large/").count() == count
    })
    .await;
    cluster.end().await;
}
