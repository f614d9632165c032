//! A client agent and its servers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tribune_core::{Authority, Folded, Index, NodeName, Outcome, Topic};
use tribune_wan::{DeskError, ExchangeConfig, RpcService, Uplink};

use crate::world::{Link, Shelf, World, answer, dc, get, read, registration};

fn agent() -> NodeName {
    NodeName::new("agent-1").unwrap()
}

/// Two servers of dc1 with one state, as their cluster ports answer.
fn world() -> (World, Arc<Shelf>, Uplink) {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    for name in ["a", "b"] {
        let rpc = RpcService::new(dc("dc1"), shelf.clone(), None);
        world.put("dc1", name, move |request: Request<Bytes>| {
            let rpc = rpc.clone();
            async move {
                if request.uri().path().starts_with("/rpc/") {
                    return rpc.answer(request.map(Full::new)).await;
                }
                answer(&format!("{name} {}", request.uri()))
            }
        });
    }
    let uplink =
        Uplink::new((dc("dc1"), agent()), world.roads("dc1"), world.roster("dc1"), ExchangeConfig::default());
    (world, shelf, uplink)
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_any_server_as_they_came() {
    let (world, _, uplink) = world();
    for uri in ["/v1/kv/a?raw", "/v1/catalog/nodes?dc=dc1&stale", "/v1/catalog/nodes?dc=dc2"] {
        let (status, _, body) = read(uplink.answer(get(uri)).await).await;
        assert_eq!((status, &body[2..]), (200, uri));
    }
    assert_eq!(world.sent().len(), 3);
    let (_, _, body) = read(uplink.answer(get("/v1/catalog/nodes?near=_agent")).await).await;
    assert!(body.ends_with("?near=agent-1"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_command_is_written_once_and_its_fate_is_told() {
    let (world, shelf, uplink) = world();
    let command = registration("web", "n1");
    assert_eq!(uplink.propose(&command).await, Ok(Outcome::Applied));
    assert_eq!(uplink.propose(&command).await, Ok(Outcome::Unchanged));
    *shelf.refuses.lock().unwrap() = Some(DeskError::NoLeader);
    assert_eq!(uplink.propose(&command).await, Err(DeskError::NoLeader));
    *shelf.refuses.lock().unwrap() = None;
    let before = world.sent().len();
    world.link("dc1", Link::OneWay);
    assert!(matches!(uplink.propose(&registration("web", "n2")).await, Err(DeskError::Unknown(_))));
    assert_eq!(world.sent().len(), before + 1);
    world.link("dc1", Link::Cut);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refused = uplink.propose(&command).await;
    assert_eq!(refused, Err(DeskError::Unavailable("No known Consul servers".into())));
}

#[tokio::test(start_paused = true)]
async fn the_own_part_of_the_catalog_is_read_and_waited_for() {
    let (_, shelf, uplink) = world();
    let topic = Topic::Node(Folded::new("n1"));
    shelf.register("web", "n1");
    shelf.register("db", "n2");
    let slice = uplink.read(&topic).await.unwrap();
    let authority = Authority::unrestricted();
    let view = slice.state.view(&authority);
    assert_eq!(view.node("n1").unwrap().instances().count(), 1);
    assert!(view.node("n2").is_none());
    let waiting = uplink.changed(&topic, slice.index, Duration::from_secs(30));
    let change = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        shelf.register("api", "n1");
    };
    let (changed, ()) = futures::join!(waiting, change);
    let changed = changed.unwrap();
    assert!(changed.index > slice.index && slice.index > Index(0));
    assert_eq!(changed.state.view(&authority).node("n1").unwrap().instances().count(), 2);
    *shelf.refuses.lock().unwrap() = Some(DeskError::NoLeader);
    assert_eq!(uplink.read(&topic).await.unwrap_err(), DeskError::NoLeader);
}

#[tokio::test(start_paused = true)]
async fn without_a_server_what_was_known_is_told_with_its_age() {
    let (world, _, uplink) = world();
    let uri = "/v1/health/service/web?passing";
    assert_eq!(uplink.answer(get(uri)).await.status(), 200);
    world.link("dc1", Link::Cut);
    tokio::time::sleep(Duration::from_secs(90)).await;
    let (status, headers, _) = read(uplink.answer(get(uri)).await).await;
    assert_eq!((status, headers["x-cache"].to_str().unwrap()), (200, "HIT"));
    assert_eq!(headers["age"], "90");
    for uri in ["/v1/health/service/db", "/v1/kv/a", "/v1/health/service/web?passing&consistent"] {
        let (status, _, body) = read(uplink.answer(get(uri)).await).await;
        assert_eq!((status, body.as_str()), (500, "No known Consul servers"), "{uri}");
    }
}

/// A server that cannot reach the other datacenter gives what it has kept, and does not know what the client accepts.
#[tokio::test(start_paused = true)]
async fn a_kept_answer_of_a_server_keeps_its_age_and_goes_only_to_those_who_allow_it() {
    let world = World::default();
    world.put("dc1", "a", move |_: Request<Bytes>| async move {
        let mut response = answer("kept");
        for (name, value) in
            [("x-cache", "HIT"), ("age", "12"), ("x-consul-index", "7"), ("x-consul-knownleader", "false")]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let uplink =
        Uplink::new((dc("dc1"), agent()), world.roads("dc1"), world.roster("dc1"), ExchangeConfig::default());
    let ask = async |control: &str| {
        let mut request = get("/v1/health/service/web?dc=dc2&cached");
        request.headers_mut().insert("cache-control", control.parse().unwrap());
        let (status, headers, _) = read(uplink.answer(request).await).await;
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (status, header("x-cache"), header("age"))
    };
    let hit = |age: &str| (200, Some("HIT".to_owned()), Some(age.to_owned()));
    assert_eq!(ask("").await, hit("12"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ask("").await, hit("12"), "it is asked again, and has no older answer than that");
    assert_eq!(ask("max-age=20").await, hit("12"));
    assert_eq!(ask("must-revalidate").await, (500, None, None));
    assert_eq!(ask("max-age=5").await, (500, None, None));
    assert_eq!(ask("max-age=5, stale-if-error=60").await, hit("12"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_any_server_says_so() {
    let world = World::default();
    let uplink =
        Uplink::new((dc("dc1"), agent()), world.roads("dc1"), world.roster("dc1"), ExchangeConfig::default());
    let (status, _, body) = read(uplink.answer(get("/v1/kv/a")).await).await;
    assert_eq!((status, body.as_str()), (500, "No known Consul servers"));
}

/// A question that waits may have been with its server for long when that dies. The other servers had no chance to
/// show in that time that they are there, and are asked from then on.
#[tokio::test(start_paused = true)]
async fn a_server_that_dies_under_a_waiting_question_takes_no_other_with_it() {
    let world = World::default();
    for name in ["a", "b"] {
        let links = world.clone();
        world.put("dc1", name, move |request: Request<Bytes>| {
            let links = links.clone();
            async move {
                let waits = request.uri().query().is_some_and(|query| query.contains("wait"));
                if waits && links.sent().len() == 1 {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    links.link(name, Link::Closed);
                    return answer("");
                }
                answer("here")
            }
        });
        // What is under way when a server dies gets lost.
        world.link(name, Link::OneWay);
    }
    let uplink =
        Uplink::new((dc("dc1"), agent()), world.roads("dc1"), world.roster("dc1"), ExchangeConfig::default());
    let waiting = uplink.answer(get("/v1/catalog/nodes?index=7&wait=60s"));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = world.sent()[0].to.clone();
        let other = if asked == "a" { "b" } else { "a" };
        world.link(other, Link::Up(Duration::from_millis(1)));
    };
    let (answered, ()) = futures::join!(waiting, meanwhile);
    let (status, _, body) = read(answered).await;
    assert_eq!((status, body.as_str()), (200, "here"));
}
