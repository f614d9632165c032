//! Blocking: nothing missed, nobody woken for nothing, one rendering for all.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tribune_core::Topic;
use tribune_core::{
    Check, CheckId, Folded, InstanceId, Node, NodeName, Pairs, Registration, ServiceInstance, ServiceName,
    Status, Weights,
};
use tribune_raft::{Config, ServerInfo, Storage};

use super::*;
use crate::question::Topics;

const SERVICE: &str = "web";
const PATIENCE: Duration = Duration::from_secs(60);

async fn datacenter() -> Arc<Datacenter> {
    let server = ServerInfo {
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        name: NodeName::new("n1").unwrap(),
        address: "127.0.0.1:8300".parse().unwrap(),
    };
    let config = Config { bootstrap: true, ..Config::new(Storage::Memory, server) };
    let replica = Replica::start(config).await.unwrap();
    let name = tribune_core::Datacenter::new("dc1").unwrap();
    Arc::new(Datacenter::new(replica, DatacenterConfig::new(name, 7)))
}

/// Puts the service with this port; `output` is that of its check.
async fn put(dc: &Datacenter, service: &str, port: u16, output: &str) {
    let instance = ServiceInstance {
        id: InstanceId::new(service).unwrap(),
        name: ServiceName::new(service).unwrap(),
        tags: Box::default(),
        address: "".into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port,
        socket_path: "".into(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    };
    let check = Check {
        id: CheckId::new(format!("service:{service}")).unwrap(),
        name: "alive".into(),
        status: Status::Passing,
        notes: "".into(),
        output: output.into(),
        service_id: Some(instance.id.clone()),
        kind: "ttl".into(),
        definition: None,
        interval: "".into(),
        timeout: "".into(),
    };
    let node = Node {
        name: NodeName::new("n1").unwrap(),
        id: "".into(),
        address: "10.0.0.1".into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
    };
    let registration =
        Registration { node, skip_node_update: false, service: Some(instance), checks: vec![check] };
    let command = Command::Register(Box::new(registration));
    let outcome = dc.replica.propose(&Authority::unrestricted(), command).await.unwrap();
    assert_eq!(outcome, Outcome::Applied);
}

fn question() -> Question {
    let topic = Topic::Service(Folded::new(SERVICE));
    Question::new("/test/", SERVICE, Layout::Compact, Topics::One(topic))
}

/// The ports of the service's instances: not all that its topic covers.
fn ports(state: &State) -> Result<Vec<u8>, ApiError> {
    let everyone = Authority::unrestricted();
    let view = state.view(&everyone);
    let ports: Vec<String> = view.instances(SERVICE).map(|one| one.service.value.port.to_string()).collect();
    Ok(ports.join(",").into_bytes())
}

fn reading(index: u64, wait: Duration) -> Reading {
    Reading { consistency: Consistency::Default, max_stale: None, index: Index(index), wait, cached: false }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.answer.text.plain().to_vec()).unwrap()
    }
}

async fn ask(dc: &Datacenter, index: u64, wait: Duration) -> Shared {
    let reading = reading(index, wait);
    let state = dc.read(&reading).await.unwrap();
    dc.answer(question(), &reading, state, ports).await.unwrap()
}

#[tokio::test]
async fn a_question_about_nothing_waits_for_something() {
    let dc = datacenter().await;
    let nothing = ask(&dc, 0, PATIENCE).await;
    assert_eq!((nothing.text().as_str(), nothing.answer.index), ("", Index(1)));
    let (found, ()) = tokio::join!(ask(&dc, 1, PATIENCE), put(&dc, SERVICE, 80, ""));
    assert_eq!(found.text(), "80");
    assert!(found.answer.index > Index(1));
}

#[tokio::test]
async fn a_wait_ends_with_what_there_is() {
    let dc = datacenter().await;
    put(&dc, SERVICE, 80, "").await;
    let first = ask(&dc, 0, PATIENCE).await;
    let index = first.answer.index.0;
    let same = ask(&dc, index, Duration::from_millis(10)).await;
    assert_eq!((same.text(), same.answer.index.0), (first.text(), index));
    let beyond = ask(&dc, index + 1000, Duration::from_millis(10)).await;
    assert_eq!(beyond.answer.index.0, index, "an index beyond the log just waits");
    let older = ask(&dc, index - 1, PATIENCE).await;
    assert_eq!(older.answer.index.0, index, "an older index is answered at once");
}

#[tokio::test]
async fn nobody_is_woken_when_the_topic_moves_but_the_answer_does_not() {
    let dc = datacenter().await;
    put(&dc, SERVICE, 80, "").await;
    let index = ask(&dc, 0, PATIENCE).await.answer.index.0;
    let mut waiting = tokio::spawn({
        let dc = Arc::clone(&dc);
        async move { ask(&dc, index, PATIENCE).await }
    });
    for round in 0..50 {
        put(&dc, SERVICE, 80, &format!("output {round}")).await;
        put(&dc, "other", 1000 + round, "").await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "woken without a change of the answer");
    put(&dc, SERVICE, 81, "").await;
    let woken = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(woken.text(), "81");
}

#[tokio::test]
async fn a_client_from_a_newer_server_is_told_when_this_one_has_caught_up() {
    let dc = datacenter().await;
    put(&dc, SERVICE, 80, "").await;
    // It has seen an answer that this server does not know yet; the next change may bring the same text.
    let ahead = dc.replica.state().index().0 + 1;
    let waiting = tokio::spawn({
        let dc = Arc::clone(&dc);
        async move { ask(&dc, ahead, PATIENCE).await }
    });
    tokio::task::yield_now().await;
    for round in 0..3 {
        put(&dc, SERVICE, 80, &format!("output {round}")).await;
    }
    let woken = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(woken.answer.index.0 > ahead);
}

/// Follows the service until its port is `last`; checks what it sees on the way.
async fn follow(dc: Arc<Datacenter>, last: u16) -> usize {
    let (mut index, mut seen, mut wakes) = (0, String::new(), 0);
    loop {
        let shown = ask(&dc, index, PATIENCE).await;
        let (now, text) = (shown.answer.index.0, shown.text());
        assert!(now > index, "an index stood still or fell: {index} → {now}");
        assert_ne!(text, seen, "woken without a change");
        let port: u16 = text.parse().unwrap();
        assert!(seen.is_empty() || port > seen.parse().unwrap(), "back in time: {seen} → {text}");
        if port == last {
            return wakes;
        }
        (index, seen, wakes) = (now, text, wakes + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_miss_nothing_and_see_each_answer_once() {
    const CHANGES: u16 = 300;
    let dc = datacenter().await;
    put(&dc, SERVICE, 1, "").await;
    let mut followers = JoinSet::new();
    for _ in 0..50 {
        followers.spawn(follow(Arc::clone(&dc), CHANGES));
    }
    for port in 2..=CHANGES {
        put(&dc, SERVICE, port, "").await;
        put(&dc, SERVICE, port, "only the output").await;
        put(&dc, "other", port, "").await;
    }
    while let Some(ended) = tokio::time::timeout(PATIENCE, followers.join_next()).await.unwrap() {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_cost_one_rendering() {
    const WATCHERS: usize = 10_000;
    let dc = datacenter().await;
    put(&dc, SERVICE, 80, "").await;
    let index = ask(&dc, 0, PATIENCE).await.answer.index.0;
    let renderings = Arc::new(AtomicUsize::new(0));
    let parked = Arc::new(AtomicUsize::new(0));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (dc, renderings, parked) = (Arc::clone(&dc), Arc::clone(&renderings), Arc::clone(&parked));
        watchers.spawn(async move {
            let reading = reading(index, PATIENCE);
            let state = dc.read(&reading).await.unwrap();
            parked.fetch_add(1, Ordering::Relaxed);
            let render = |state: &State| {
                renderings.fetch_add(1, Ordering::Relaxed);
                ports(state)
            };
            dc.answer(question(), &reading, state, render).await.unwrap().text()
        });
    }
    while parked.load(Ordering::Relaxed) < WATCHERS {
        tokio::task::yield_now().await;
    }
    put(&dc, SERVICE, 81, "").await;
    while let Some(text) = tokio::time::timeout(PATIENCE, watchers.join_next()).await.unwrap() {
        assert_eq!(text.unwrap(), "81");
    }
    assert_eq!(renderings.load(Ordering::Relaxed), 1, "each change is rendered once for everyone");
}
