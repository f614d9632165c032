//! Locks and their sessions while leaders die: who renews keeps its lock, who does not loses it, but not early, and
//! then it stays free for the lock delay.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tribune_integration::{Request, TestCluster, eventually};

use crate::LIMIT;

/// The shortest that Consul allows.
const TTL: Duration = Duration::from_secs(10);
/// The lock delay of the sessions.
const DELAY: Duration = Duration::from_secs(5);
/// How long one request may take; one that waits for a new leader takes a while.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);

/// Sends to a server that runs, and gives a good answer.
fn ask(cluster: &TestCluster, method: &str, target: &str, body: &Value) -> Option<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::new(method, target).body(body);
    let running = cluster.servers().filter(|server| cluster.node(*server).running());
    let mut answers =
        running.filter_map(|server| request.send_within(cluster.http(server), REQUEST_LIMIT).ok());
    answers.find(|answer| answer.status == 200)?.json().ok()
}

fn session(cluster: &TestCluster) -> String {
    let [ttl, delay] = [TTL, DELAY].map(|time| format!("{}s", time.as_secs()));
    let body = json!({"TTL": ttl, "LockDelay": delay, "NodeChecks": [], "Checks": []});
    let made = ask(cluster, "PUT", "/v1/session/create", &body).unwrap();
    made["ID"].as_str().unwrap().to_owned()
}

fn acquire(cluster: &TestCluster, key: &str, session: &str) -> Option<bool> {
    ask(cluster, "PUT", &format!("/v1/kv/{key}?acquire={session}"), &json!(null))?.as_bool()
}

/// Who holds a key, when that can be told.
fn holder(cluster: &TestCluster, key: &str) -> Option<Option<String>> {
    let entry = ask(cluster, "GET", &format!("/v1/kv/{key}?consistent"), &json!(null))?;
    Some(entry[0]["Session"].as_str().map(str::to_owned))
}

#[test]
fn a_lock_lasts_over_leaders_as_long_as_it_is_renewed_and_ends_no_earlier_than_promised() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    let (renewed, left, next) = (session(&cluster), session(&cluster), session(&cluster));
    assert_eq!(acquire(&cluster, "renewed", &renewed), Some(true));
    assert_eq!(acquire(&cluster, "left", &left), Some(true));
    let renew = |cluster: &TestCluster, server: usize, session: &str| {
        let request = Request::new("PUT", &format!("/v1/session/renew/{session}"));
        let answer = request.send_within(cluster.http(server), REQUEST_LIMIT);
        answer.is_ok_and(|answer| answer.status == 200)
    };
    // The last sign of life of the one, through a follower as all that follow.
    let follower = cluster.followers().unwrap()[0];
    // Counted from before it was sent, the promise is a little weaker than the server's own count.
    let mut since = Instant::now();
    eventually("a renewal through a follower", LIMIT, || {
        since = Instant::now();
        Ok(renew(&cluster, follower, &left))
    })
    .unwrap();
    let since = since;
    let mut freed = None;
    let mut killed = false;
    while freed.is_none() {
        assert!(since.elapsed() < TTL * 2 + LIMIT, "the lock of a dead holder is held for ever");
        let leader = cluster.leader().ok();
        let through =
            cluster.servers().find(|server| Some(*server) != leader && cluster.node(*server).running());
        // One that is not taken does no harm; when none is, the lock is lost below.
        for session in [&renewed, &next] {
            renew(&cluster, through.unwrap(), session);
        }
        if let Some(holder) = holder(&cluster, "left") {
            assert!(holder.is_some() || since.elapsed() >= TTL, "the lock was lost early");
            freed = holder.is_none().then(Instant::now);
        }
        if !killed && since.elapsed() > TTL / 2 {
            let leader = cluster.wait_leader().unwrap();
            cluster.kill(leader).unwrap();
            killed = true;
        }
        if let Some(holder) = holder(&cluster, "renewed") {
            assert_eq!(holder.as_deref(), Some(renewed.as_str()), "a renewed lock was lost");
        }
    }
    assert!(killed, "it ended before the leader did");
    // Freed a little before it was seen: for the delay nobody gets it, later somebody does.
    let freed = freed.unwrap();
    let mut refused = 0;
    eventually("the lock can be had after its delay", LIMIT, || {
        let got = acquire(&cluster, "left", &next);
        refused += usize::from(got == Some(false));
        Ok(got == Some(true))
    })
    .unwrap();
    println!("{refused} attempts refused, the lock was had {:?} after it was seen free", freed.elapsed());
    assert!(refused > 0, "the lock delay was not kept");
    assert_eq!(holder(&cluster, "renewed"), Some(Some(renewed)));
}
