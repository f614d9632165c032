//! The leader goes: how soon the next write is acknowledged, what is still there, and what watchers saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tribune_integration::{Request, TestCluster, Until, eventually};

use crate::LIMIT;

/// How often the leader is killed.
const KILLS: u64 = 3;
/// How long one blocking question of a watcher waits. So long that what ends it is a change: one that wakes nobody
/// is noticed.
const WAIT: Duration = LIMIT;
/// A server that has not answered a watcher after this is given up for another one. Servers add a little to the
/// wait that they were asked for.
const WATCH_LIMIT: Duration = LIMIT.saturating_mul(2);
/// How long one write may take before another server is tried.
const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// Half of them watch the service, half the key.
const WATCHERS: usize = 8;
/// The shortest that Consul allows.
const SESSION_TTL: Duration = Duration::from_secs(10);
/// Changes between two kills.
const CHANGES: u64 = 20;

#[test]
fn a_killed_leader_is_replaced_and_no_acknowledged_write_is_lost() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    let mut written = 0;
    for _ in 0..KILLS {
        for _ in 0..CHANGES {
            cluster.write(&format!("failover/{written}"), "kept").unwrap();
            written += 1;
        }
        let leader = cluster.wait_leader().unwrap();
        cluster.kill(leader).unwrap();
        let took = cluster.write(&format!("failover/{written}"), "kept").unwrap();
        written += 1;
        println!("next acknowledged write after {took:?}");
        let keys =
            cluster.node(cluster.wait_leader().unwrap()).json("/v1/kv/failover/?keys&consistent").unwrap();
        assert_eq!(keys.as_array().unwrap().len() as u64, written, "acknowledged and lost: {keys}");
        cluster.restart(leader).unwrap();
        cluster.wait_formed().unwrap();
    }
}

#[test]
fn a_paused_leader_is_replaced_and_follows_when_it_comes_back() {
    let cluster = TestCluster::start(3, 0).unwrap();
    cluster.write("paused", "old").unwrap();
    let old = cluster.wait_leader().unwrap();
    let others = cluster.followers().unwrap();
    cluster.pause(old).unwrap();
    let write = Request::new("PUT", "/v1/kv/paused").body("new");
    eventually("another server takes writes", LIMIT, || {
        Ok(others.iter().any(|server| write.acknowledged(cluster.http(*server), WRITE_LIMIT)))
    })
    .unwrap();
    // Questions wait in its socket and are answered by a leader that has slept.
    thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let read = Request::new("GET", "/v1/kv/paused?consistent&raw");
                let address = cluster.http(old);
                scope.spawn(move || read.send_within(address, LIMIT))
            })
            .collect();
        cluster.resume(old).unwrap();
        for answer in asked.into_iter().filter_map(|thread| thread.join().unwrap().ok()) {
            assert!(answer.status != 200 || answer.text() == "new", "a consistent read was stale");
        }
    });
    let leader = cluster.wait_leader().unwrap();
    assert!(others.contains(&leader), "the one that slept leads again");
    eventually("it has the new value", LIMIT, || {
        Ok(cluster.look(old, "/v1/kv/paused?stale&raw")?.text() == "new")
    })
    .unwrap();
}

#[test]
fn a_session_outlives_its_leader_and_ends_in_time() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    let body = json!({"TTL": format!("{}s", SESSION_TTL.as_secs()), "NodeChecks": [], "Checks": []});
    let session = cluster.node(0).put("/v1/session/create", &body).unwrap().json().unwrap();
    let path = format!("/v1/session/info/{}?consistent", session["ID"].as_str().unwrap());
    let renew = format!("/v1/session/renew/{}", session["ID"].as_str().unwrap());
    let leader = cluster.wait_leader().unwrap();
    cluster.node(leader).put(&renew, &json!(null)).unwrap();
    let renewed = Instant::now();
    let mut killed = false;
    let lasts = |cluster: &TestCluster| {
        let running = cluster.servers().filter(|server| cluster.node(*server).running());
        let answers = running.filter_map(|server| cluster.look(server, &path).ok());
        answers.filter(|answer| answer.status == 200).map(|answer| answer.text() != "[]").next()
    };
    while renewed.elapsed() < SESSION_TTL {
        let there = lasts(&cluster);
        // Looked at before its time was over, or the look came too late to count.
        assert!(there != Some(false) || renewed.elapsed() >= SESSION_TTL, "the session ended early");
        if !killed && renewed.elapsed() > SESSION_TTL / 2 {
            cluster.kill(leader).unwrap();
            killed = true;
        }
    }
    assert!(killed);
    // A new leader counts anew, and may take twice the time.
    eventually("the session ends", SESSION_TTL * 2 + LIMIT, || Ok(lasts(&cluster) == Some(false))).unwrap();
}

/// What one watcher saw of a question: index and version of each answer.
type Seen = Vec<(u64, u64)>;

/// What watchers and the writer share.
struct Progress {
    /// The newest version that was acknowledged.
    acknowledged: AtomicU64,
    /// The last one there will be, once that is known.
    last: AtomicU64,
    /// The newest version that each watcher saw.
    seen: [AtomicU64; WATCHERS],
    /// Whether nothing will be changed any more: all is seen, or the test has failed.
    over: AtomicBool,
}

#[test]
fn watchers_miss_no_change_and_see_no_index_fall_while_leaders_die() {
    let mut cluster = TestCluster::start(3, 1).unwrap();
    let progress = Progress {
        acknowledged: AtomicU64::new(0),
        last: AtomicU64::new(u64::MAX),
        seen: Default::default(),
        over: AtomicBool::new(false),
    };
    change(&cluster, 0);
    let mut agents = cluster.server_addresses();
    agents.push(cluster.http(cluster.clients().start));
    let questions = ["/v1/health/service/watched?passing", "/v1/kv/watched?raw"];
    let seen: Vec<(&str, Seen)> = thread::scope(|scope| {
        let _until = Until(&progress.over);
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|number| {
                let (question, agents, progress) = (questions[number % 2], &agents, &progress);
                scope.spawn(move || (question, watch(question, agents, number, progress)))
            })
            .collect();
        let mut version = 0;
        for _ in 0..KILLS {
            let leader = cluster.wait_leader().unwrap();
            for number in 0..CHANGES {
                if number == CHANGES / 2 {
                    cluster.kill(leader).unwrap();
                }
                version += 1;
                change(&cluster, version);
                progress.acknowledged.store(version, Ordering::Release);
            }
            // Nothing but this change itself tells of it, and no wait ends so soon.
            eventually("every watcher has the newest version", WAIT / 2, || {
                Ok(progress.seen.iter().all(|seen| seen.load(Ordering::Acquire) >= version))
            })
            .unwrap();
            cluster.restart(leader).unwrap();
            cluster.wait_formed().unwrap();
        }
        progress.last.store(version, Ordering::Release);
        // Those who have seen the last one already are waiting for another.
        change(&cluster, version + 1);
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect()
    });
    let mut versions: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for (question, answers) in &seen {
        for pair in answers.windows(2) {
            assert!(pair[1].0 >= pair[0].0, "{question}: the index fell: {answers:?}");
            assert!(pair[1].1 >= pair[0].1, "{question}: an older version came later: {answers:?}");
        }
        for (index, version) in answers {
            let known = *versions.entry((question, *index)).or_insert(*version);
            assert_eq!(known, *version, "{question}: two versions at index {index}");
        }
    }
}

/// Brings service and key to a version; repeated until acknowledged.
fn change(cluster: &TestCluster, version: u64) {
    let service = json!({"Service": "watched", "Port": 1000 + version});
    let register = json!({"Node": "watched-node", "Address": "10.0.0.1", "Service": service});
    let requests = [
        Request::new("PUT", "/v1/catalog/register").body(register.to_string()),
        Request::new("PUT", "/v1/kv/watched").body(format!("{}", 1000 + version)),
    ];
    for request in requests {
        eventually("a change is acknowledged", LIMIT, || {
            let mut running = cluster.servers().filter(|server| cluster.node(*server).running());
            Ok(running.any(|server| request.acknowledged(cluster.http(server), WRITE_LIMIT)))
        })
        .unwrap();
    }
}

/// Follows a question to the last version, at another agent whenever one fails.
fn watch(question: &str, agents: &[SocketAddr], number: usize, progress: &Progress) -> Seen {
    let (mut seen, mut agent, mut index, mut newest) = (Seen::new(), number / 2, 0, 0);
    let (mut failing, mut unseen_since) = (None, Instant::now());
    while !progress.over.load(Ordering::Acquire) {
        let target = format!("{question}&index={index}&wait={}s", WAIT.as_secs());
        let asked_at = progress.acknowledged.load(Ordering::Acquire);
        let asked = Instant::now();
        let answer = Request::new("GET", &target).send_within(agents[agent % agents.len()], WATCH_LIMIT);
        let Some((new, version)) = answer.ok().and_then(|answer| read(question, &answer)) else {
            agent += 1;
            thread::sleep(Duration::from_millis(20));
            let since = *failing.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < LIMIT, "{question}: no agent answers");
            continue;
        };
        failing = None;
        let took = asked.elapsed();
        assert!(version <= newest || took < WAIT, "{question}: nobody was woken for version {version}");
        newest = newest.max(version);
        progress.seen[number].store(newest, Ordering::Release);
        // A default read comes from the leader and has all that was acknowledged before it was asked, unless a
        // leader that has just been replaced does not know so yet; then the next answer has it.
        if version >= asked_at {
            unseen_since = Instant::now();
        }
        assert!(
            unseen_since.elapsed() < LIMIT,
            "{question}: version {asked_at} was missed, {version} is seen"
        );
        seen.push((new, version));
        if version >= progress.last.load(Ordering::Acquire) {
            break;
        }
        index = new;
    }
    seen
}

/// Index and version of a good answer.
fn read(question: &str, answer: &tribune_integration::Answer) -> Option<(u64, u64)> {
    if answer.status != 200 {
        return None;
    }
    let index = answer.header("x-consul-index")?.parse().ok()?;
    let port = if question.contains("/kv/") {
        answer.text().parse().ok()?
    } else {
        answer.json().ok()?[0]["Service"]["Port"].as_u64()?
    };
    Some((index, port - 1000))
}
