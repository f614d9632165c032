//! Thousands of blocked watchers, and a history that says what each of them may have seen.
//!
//! One writer changes services one after the other and notes the index of every change. Afterwards each
//! answer that any watcher got is held against that history: the version it shows must be the newest at the
//! index it carries (nothing missed, nothing from the future), its index must be higher than the one waited
//! on, and the body must differ (no wake without a change).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tribune_integration::{Answer, Settings, TestNode, skip};

use crate::LIMIT;

const WATCHERS: usize = 10_000;
const SERVICES: usize = 100;
/// Changes of each service; half of the services are changed, the others must wake nobody.
const CHANGES: u64 = 5;
/// Open files that the test itself, the runtime and other tests need beside the watchers.
const OTHER_FILES: u64 = 500;
/// Connections opened at once: the listen queue is finite.
const OPENING: usize = 128;

/// The changes of one service: index of each, and the version it brought.
type History = BTreeMap<u64, u64>;

/// What one watcher saw, in order.
struct Seen {
    service: usize,
    answers: Vec<(u64, u64)>,
}

#[test]
fn ten_thousand_watchers_miss_no_change_and_wake_for_none_that_is_not_theirs() {
    let watchers = watchers_allowed();
    if watchers < WATCHERS {
        skip(&format!("only {watchers} of {WATCHERS} watchers: the limit of open files is low (ulimit -Hn)"));
    }
    let configuration = json!({"limits": {"http_max_conns_per_client": watchers + 1000}});
    let node = TestNode::start_with(Settings { configuration, ..Settings::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (histories, seen) = runtime.block_on(watch_and_change(&node, watchers));
    assert_eq!(seen.len(), watchers);
    for watcher in &seen {
        check(watcher, &histories[watcher.service]);
    }
}

/// How many connections the limit of open files leaves room for, after raising it as far as allowed.
fn watchers_allowed() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard.saturating_sub(OTHER_FILES)).unwrap().min(WATCHERS)
}

async fn watch_and_change(node: &TestNode, watchers: usize) -> (Vec<History>, Vec<Seen>) {
    let mut histories = vec![History::new(); SERVICES];
    for (service, history) in histories.iter_mut().enumerate() {
        change(node, service, 0, history);
    }
    let parked = Arc::new(AtomicUsize::new(0));
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut watching = JoinSet::new();
    for watcher in 0..watchers {
        watching.spawn(watch(node.http(), watcher % SERVICES, parked.clone(), opening.clone()));
    }
    let all_parked = async {
        while parked.load(Ordering::Relaxed) < watchers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, all_parked).await.expect("every watcher is parked");
    for version in 1..=CHANGES {
        for service in changed_services() {
            change(node, service, version, &mut histories[service]);
        }
    }
    // The watchers of the other services are freed by one change of each at the end.
    for service in (0..SERVICES).filter(|service| !changed_services().any(|changed| changed == *service)) {
        change(node, service, CHANGES, &mut histories[service]);
    }
    let ended = tokio::time::timeout(LIMIT * 2, watching.join_all()).await;
    (histories, ended.expect("every watcher saw the last version"))
}

fn changed_services() -> impl Iterator<Item = usize> {
    (0..SERVICES).step_by(2)
}

/// Brings a service to a version and notes at which index that happened.
fn change(node: &TestNode, service: usize, version: u64, history: &mut History) {
    let name = format!("watched-{service}");
    let body = json!({"Node": format!("node-{service}"), "Address": "10.0.0.1", "Service": {"Service": name, "Port": 1000 + version}});
    node.put("/v1/catalog/register", &body).unwrap();
    let stored = node.get(&format!("/v1/catalog/service/{name}")).unwrap().json().unwrap();
    history.insert(stored[0]["ModifyIndex"].as_u64().unwrap(), version);
}

/// Follows a service until its last version and returns everything seen.
async fn watch(
    address: SocketAddr,
    service: usize,
    parked: Arc<AtomicUsize>,
    opening: Arc<Semaphore>,
) -> Seen {
    let permit = opening.acquire().await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let first = ask(&mut stream, service, None).await;
    drop(permit);
    parked.fetch_add(1, Ordering::Relaxed);
    let mut answers = vec![first];
    loop {
        let (index, version) = *answers.last().unwrap();
        if version == CHANGES {
            return Seen { service, answers };
        }
        answers.push(ask(&mut stream, service, Some(index)).await);
    }
}

/// One question on an open connection: the index of the answer and the version that it shows.
async fn ask(stream: &mut TcpStream, service: usize, after: Option<u64>) -> (u64, u64) {
    let blocking = after.map(|index| format!("?index={index}&wait=300s")).unwrap_or_default();
    let request =
        format!("GET /v1/health/service/watched-{service}{blocking} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // The answer is short and comes with its length, so it is whole as soon as it can be read as JSON.
    loop {
        assert_ne!(
            stream.read_buf(&mut received).await.unwrap(),
            0,
            "the server closed a watcher's connection"
        );
        if let Ok(answer) = Answer::parse(&received)
            && let Ok(body) = answer.json()
        {
            assert_eq!(answer.status, 200);
            let index = answer.header("x-consul-index").unwrap().parse().unwrap();
            return (index, body[0]["Service"]["Port"].as_u64().unwrap() - 1000);
        }
    }
}

/// Holds what a watcher saw against what happened.
fn check(seen: &Seen, history: &History) {
    for &(index, version) in &seen.answers {
        let newest = history.range(..=index).next_back().map(|(_, version)| *version);
        assert_eq!(Some(version), newest, "at index {index} of service {}: {history:?}", seen.service);
    }
    for pair in seen.answers.windows(2) {
        assert!(pair[1].0 > pair[0].0, "woken without a higher index: {:?}", seen.answers);
        assert!(pair[1].1 > pair[0].1, "woken without a change: {:?}", seen.answers);
    }
}
