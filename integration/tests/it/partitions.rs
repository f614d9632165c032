//! Networks that are there only in part: one link cut, a chain, one direction, flapping, a side of two. Each server
//! is a machine of its own; where there can be none the tests are skipped.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tribune_integration::{ClusterSettings, Network, Program, Request, TestCluster, calm, eventually};

use crate::LIMIT;

/// Longer than servers wait for a leader to come back before they refuse (7 s).
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);
/// Writes that a healthy majority must take in a row.
const WRITES: u32 = 20;
/// How long a rejoining server is away: many election timeouts, in which it would like to be elected.
const AWAY: Duration = Duration::from_secs(15);
const FLAPS: u32 = 10;
const FLAP: Duration = Duration::from_secs(1);

/// So many servers, each on a machine of its own. The servers end before the network does.
fn start(servers: usize) -> Option<(TestCluster, Network)> {
    start_with(servers, json!({}))
}

fn start_with(servers: usize, configuration: Value) -> Option<(TestCluster, Network)> {
    let network = Network::create(servers)?;
    let hosts = network.hosts().to_vec();
    let settings = ClusterSettings { servers, hosts, configuration, ..ClusterSettings::default() };
    Some((TestCluster::start_with(settings).unwrap(), network))
}

/// Writes at a server until that is acknowledged.
fn write_at(cluster: &TestCluster, server: usize, key: &str) {
    let put = Request::new("PUT", &format!("/v1/kv/{key}")).body("written");
    eventually(&format!("server {server} takes a write"), LIMIT, || {
        Ok(put.acknowledged(cluster.http(server), REFUSAL_LIMIT))
    })
    .map_err(|error| error.context(cluster.log_tails()))
    .unwrap();
}

/// The leader that a server names, if any.
fn named(cluster: &TestCluster, server: usize) -> Option<usize> {
    let answer = cluster.look(server, "/v1/status/leader?stale").ok()?.text();
    cluster.servers().find(|leader| answer.contains(&cluster.peer_address(*leader)))
}

/// The term, as a server tells it.
fn term(cluster: &TestCluster, server: usize) -> u64 {
    let answer = cluster.node(server).json("/v1/agent/self").unwrap();
    let term = &answer["Stats"]["raft"]["term"];
    term.as_u64().or_else(|| term.as_str()?.parse().ok()).unwrap()
}

#[test]
fn one_cut_link_among_three_stops_nobody_for_long() {
    let Some((cluster, network)) = start(3) else { return };
    let leader = cluster.wait_leader().unwrap();
    let followers = cluster.followers().unwrap();
    // Between the followers it changes nothing: the leader reaches both.
    network.cut(followers[0], followers[1]).unwrap();
    for number in 0..WRITES {
        write_at(&cluster, leader, &format!("followers-{number}"));
    }
    assert_eq!(cluster.leader().unwrap(), leader, "a healthy leader was replaced");
    network.heal().unwrap();
    // Between the leader and a follower: whoever leads, it is one that reaches a majority, and it stays.
    network.cut(leader, followers[0]).unwrap();
    write_at(&cluster, followers[1], "other-link");
    let mut changes = 0;
    let mut before = named(&cluster, followers[1]);
    for number in 0..WRITES {
        write_at(&cluster, followers[1], &format!("leader-{number}"));
        let now = named(&cluster, followers[1]);
        changes += u32::from(now != before);
        before = now;
    }
    // Consul has no pre-vote in this version: the one cut off unseats leaders again and again.
    assert!(changes <= 1 || Program::under_test().is_consul(), "{changes} changes of the leader");
    network.heal().unwrap();
    eventually("one leader that all agree on", LIMIT, || Ok(cluster.leader().is_ok())).unwrap();
}

#[test]
fn five_in_a_chain_have_a_leader() {
    let Some((cluster, network)) = start(5) else { return };
    for one in 0..5 {
        for other in one + 2..5 {
            network.cut(one, other).unwrap();
        }
    }
    // Only those with two neighbours can reach three.
    for number in 0..WRITES {
        write_at(&cluster, 2, &format!("chain-{number}"));
    }
    let leader = named(&cluster, 2).unwrap();
    assert!((1..=3).contains(&leader), "server {leader} of the chain leads");
    network.heal().unwrap();
    eventually("one leader that all agree on", LIMIT, || Ok(cluster.leader().is_ok())).unwrap();
    write_at(&cluster, 0, "healed");
}

#[test]
fn a_follower_that_was_away_disturbs_nobody_when_it_returns() {
    let Some((mut cluster, network)) = start_with(3, calm()) else { return };
    let leader = cluster.wait_leader().unwrap();
    let away = cluster.followers().unwrap()[0];
    let before = term(&cluster, leader);
    network.part(&[away], &(0..3).filter(|server| *server != away).collect::<Vec<_>>()).unwrap();
    let started = Instant::now();
    let mut writes = 0;
    while started.elapsed() < AWAY {
        write_at(&cluster, leader, &format!("away-{writes}"));
        writes += 1;
    }
    network.heal().unwrap();
    cluster.wait_formed().unwrap();
    eventually("it has what was written meanwhile", LIMIT, || {
        Ok(cluster.look(away, &format!("/v1/kv/away-{}?stale", writes - 1))?.status == 200)
    })
    .unwrap();
    if !Program::under_test().is_consul() {
        assert_eq!(cluster.leader().unwrap(), leader, "a healthy leader was replaced");
        assert_eq!(term(&cluster, leader), before, "there was an election for nothing");
    }
}

#[test]
fn a_leader_on_the_smaller_side_acknowledges_nothing_and_answers_nothing_old() {
    let Some((cluster, network)) = start(5) else { return };
    cluster.write("sides", "old").unwrap();
    let leader = cluster.wait_leader().unwrap();
    let followers = cluster.followers().unwrap();
    let (minority, majority) = (vec![leader, followers[0]], followers[1..].to_vec());
    network.part(&minority, &majority).unwrap();
    let put = Request::new("PUT", "/v1/kv/sides").body("new");
    eventually("the larger side takes writes", LIMIT, || {
        Ok(majority.iter().any(|server| put.acknowledged(cluster.http(*server), REFUSAL_LIMIT)))
    })
    .unwrap();
    for server in &minority {
        let lost = Request::new("PUT", "/v1/kv/lost").body("lost");
        let answer = lost.send_within(cluster.http(*server), REFUSAL_LIMIT).unwrap();
        assert_eq!(answer.status, 500, "server {server} of the smaller side: {}", answer.text());
        for mode in ["raw", "raw&consistent"] {
            let read = Request::new("GET", &format!("/v1/kv/sides?{mode}"));
            let answer = read.send_within(cluster.http(*server), REFUSAL_LIMIT).unwrap();
            assert_ne!(answer.status, 200, "{mode} at server {server}: {}", answer.text());
        }
        let stale = cluster.look(*server, "/v1/kv/sides?raw&stale").unwrap();
        assert_eq!((stale.status, stale.text().as_str()), (200, "old"));
    }
    network.heal().unwrap();
    cluster.wait_leader().unwrap();
    for server in &minority {
        let read = || Ok(cluster.look(*server, "/v1/kv/sides?raw")?.text() == "new");
        eventually("the smaller side has the new value", LIMIT, read).unwrap();
    }
}

#[test]
fn a_leader_that_is_not_heard_or_does_not_hear_is_replaced() {
    let Some((cluster, network)) = start(3) else { return };
    for deaf in [false, true] {
        let leader = cluster.wait_leader().unwrap();
        let others = cluster.followers().unwrap();
        for other in &others {
            let (from, to) = if deaf { (*other, leader) } else { (leader, *other) };
            network.cut_one_way(from, to).unwrap();
        }
        eventually("the others agree on another leader", LIMIT, || {
            let named: Vec<_> = others.iter().map(|server| named(&cluster, *server)).collect();
            Ok(named[0] == named[1] && named[0].is_some_and(|named| named != leader))
        })
        .map_err(|error| error.context(format!("deaf: {deaf}\n{}", cluster.log_tails())))
        .unwrap();
        write_at(&cluster, others[0], &format!("one-way-{deaf}"));
        network.heal().unwrap();
        eventually("one leader that all agree on", LIMIT, || Ok(cluster.leader().is_ok())).unwrap();
    }
}

#[test]
fn writes_go_on_while_a_link_flaps() {
    let Some((cluster, network)) = start(3) else { return };
    let leader = cluster.wait_leader().unwrap();
    let followers = cluster.followers().unwrap();
    for flap in 0..FLAPS {
        let started = Instant::now();
        if flap % 2 == 0 {
            network.cut(leader, followers[0]).unwrap();
        } else {
            network.heal().unwrap();
        }
        let mut writes = 0;
        while started.elapsed() < FLAP {
            write_at(&cluster, followers[1], &format!("flap-{flap}-{writes}"));
            writes += 1;
        }
    }
    network.heal().unwrap();
    eventually("one leader that all agree on", LIMIT, || Ok(cluster.leader().is_ok())).unwrap();
}
