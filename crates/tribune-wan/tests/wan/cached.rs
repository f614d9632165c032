//! Kept answers: hits, ages, freshness, and the last good answer while a link is down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use tribune_core::{Folded, Index, Topic};
use tribune_wan::{Desk, ExchangeConfig, FarBody, Forwarder};

use crate::world::{Link, Shelf, World, answer, ask, dc, get, read};

const CACHED: &str = "/v1/health/service/web?cached";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A server of dc2 that answers how many instances a service has, waiting where it is asked to.
fn put_counting(world: &World, name: &'static str, shelf: Arc<Shelf>) {
    world.put("dc2", name, move |request: Request<Bytes>| {
        let shelf = shelf.clone();
        async move { count(&shelf, &request).await }
    });
}

async fn count(shelf: &Shelf, request: &Request<Bytes>) -> Response<FarBody> {
    if request.uri().path() == "/rpc/knock" {
        return answer("");
    }
    let query = tribune_api::Query::parse(request.uri().query().unwrap_or_default()).unwrap();
    let service = request.uri().path().rsplit('/').next().unwrap();
    let topic = Topic::Service(Folded::new(service));
    let mut state = shelf.state();
    if let Some(index) = query.text("index") {
        let wait = query.wait(Default::default()).unwrap();
        state =
            shelf.changed(&topic, Index(index.parse().unwrap()), tokio::time::Instant::now() + wait).await;
    }
    let authority = tribune_core::Authority::unrestricted();
    let mut response = answer(&state.view(&authority).instances(service).count().to_string());
    response.headers_mut().insert("x-consul-index", state.index_of(&topic).0.max(1).into());
    response
}

fn world() -> (World, Arc<Shelf>, Forwarder) {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    put_counting(&world, "a", shelf.clone());
    let forwarder = world.forwarder("dc1");
    (world, shelf, forwarder)
}

fn seen(headers: &HeaderMap) -> (&str, Option<u64>) {
    let age = headers.get("age").map(|age| age.to_str().unwrap().parse().unwrap());
    (headers["x-cache"].to_str().unwrap(), age)
}

async fn ask_with(forwarder: &Forwarder, control: &str) -> (u16, HeaderMap, String) {
    let mut request = get(CACHED);
    request.headers_mut().insert("cache-control", control.parse().unwrap());
    read(forwarder.answer(&dc("dc2"), request).await).await
}

#[tokio::test(start_paused = true)]
async fn a_hot_answer_is_kept_and_kept_fresh_by_one_blocking_query() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    let (status, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((status, body.as_str(), seen(&headers)), (200, "1", ("MISS", None)));
    for _ in 0..100 {
        let (_, headers, body) = ask(&forwarder, "dc2", CACHED).await;
        assert_eq!((body.as_str(), seen(&headers)), ("1", ("HIT", Some(0))));
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(headers["x-consul-index"], "1");
    let sent = world.sent().len();
    assert!(sent <= 6, "{sent} requests in 100 seconds");
    shelf.register("web", "n2");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (_, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((body.as_str(), seen(&headers)), ("2", ("HIT", Some(0))));
    assert_eq!(headers["x-consul-index"], "2");
    let (_, headers, body) = ask_with(&forwarder, "must-revalidate").await;
    assert_eq!((body.as_str(), seen(&headers)), ("2", ("HIT", Some(0))), "a fresh entry is confirmed");
}

#[tokio::test(start_paused = true)]
async fn with_the_link_down_the_last_good_answer_goes_to_those_who_allow_it() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    ask(&forwarder, "dc2", CACHED).await;
    tokio::time::sleep(secs(5)).await;
    world.link("dc2", Link::Cut);
    tokio::time::sleep(secs(60)).await;
    let (status, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((status, body.as_str()), (200, "1"));
    let (hit, age) = seen(&headers);
    assert!(hit == "HIT" && (58..=62).contains(&age.unwrap()), "{age:?}");
    assert_eq!(headers["x-consul-knownleader"], "false");
    for (control, expected) in [
        ("max-age=5", 500),
        ("must-revalidate", 500),
        ("max-age=5, stale-if-error=30", 500),
        ("max-age=5, stale-if-error=300", 200),
        ("max-age=100", 200),
        ("stale-if-error=10", 500),
    ] {
        assert_eq!(ask_with(&forwarder, control).await.0, expected, "{control}");
    }
    assert_eq!(
        ask(&forwarder, "dc2", "/v1/health/service/web").await.0,
        500,
        "who did not ask for the cache"
    );
    assert_eq!(ask_with(&forwarder, "max-age=x").await.0, 400);
    tokio::time::sleep(secs(600)).await;
    let (status, _, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((status, body.as_str()), (500, "Remote DC has no server currently reachable"));
    shelf.register("web", "n2");
    world.link("dc2", Link::Up(Duration::from_millis(1)));
    tokio::time::sleep(secs(5)).await;
    let (_, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((body.as_str(), seen(&headers)), ("2", ("HIT", Some(0))));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_nobody_uses_is_no_longer_asked_about() {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    put_counting(&world, "a", shelf.clone());
    let config = ExchangeConfig { idle_max: secs(60), ..ExchangeConfig::default() };
    let forwarder = world.forwarder_with("dc1", config);
    shelf.register("web", "n1");
    ask(&forwarder, "dc2", CACHED).await;
    tokio::time::sleep(secs(200)).await;
    let before = world.sent().len();
    tokio::time::sleep(secs(2000)).await;
    assert_eq!(world.sent().len(), before);
    let (_, headers, _) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!(seen(&headers).0, "MISS");
}

#[tokio::test(start_paused = true)]
async fn without_the_cache_in_the_configuration_nothing_is_kept() {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    put_counting(&world, "a", shelf);
    let config = ExchangeConfig { use_cache: false, ..ExchangeConfig::default() };
    let forwarder = world.forwarder_with("dc1", config);
    for _ in 0..3 {
        let (_, headers, _) = ask(&forwarder, "dc2", CACHED).await;
        assert!(!headers.contains_key("x-cache"));
    }
    assert_eq!(world.sent().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cached_question_that_waits_or_must_be_consistent_goes_through() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    let (_, headers, _) = ask(&forwarder, "dc2", "/v1/health/service/web?cached&index=1&wait=2s").await;
    assert!(!headers.contains_key("x-cache"));
    ask(&forwarder, "dc2", "/v1/health/service/web?cached&consistent").await;
    let sent: Vec<String> = world.sent().into_iter().map(|sent| sent.uri).collect();
    assert_eq!(
        sent,
        [
            "/v1/health/service/web?cached&index=1&wait=2s&dc=dc2",
            "/v1/health/service/web?cached&consistent&dc=dc2"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept() {
    let world = World::default();
    world.put("dc2", "a", |_: Request<Bytes>| async {
        let mut response = answer("No cluster leader");
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let forwarder = world.forwarder("dc1");
    for _ in 0..2 {
        let (status, _, body) = ask(&forwarder, "dc2", CACHED).await;
        assert_eq!((status, body.as_str()), (500, "No cluster leader"));
    }
    assert_eq!(world.sent().len(), 2);
    let put = Request::put("/v1/health/service/web?cached").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(forwarder.answer(&dc("dc2"), put).await.status(), 500);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_become_too_long_to_keep_is_passed_on_and_not_asked_for_again_and_again() {
    let world = World::default();
    let is_long = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let grown = is_long.clone();
    world.put("dc2", "a", move |request: Request<Bytes>| {
        let is_long = is_long.load(std::sync::atomic::Ordering::Relaxed);
        async move {
            if request.uri().to_string().contains("index=") && !is_long {
                tokio::time::sleep(secs(30)).await;
            }
            let mut response = answer(&"x".repeat(if is_long { 9 << 20 } else { 1 }));
            response.headers_mut().insert("x-consul-index", 5.into());
            response
        }
    });
    let forwarder = world.forwarder("dc1");
    assert_eq!(ask(&forwarder, "dc2", CACHED).await.2.len(), 1);
    grown.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(secs(60)).await;
    let before = world.sent().len();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(world.sent().len(), before);
    let (_, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((body.len(), seen(&headers)), (9 << 20, ("MISS", None)));
}

/// The question that stands for an entry is lost with one gateway, and hangs at the other: signs of life from there
/// say nothing about the entry.
#[tokio::test(start_paused = true)]
async fn an_entry_whose_question_does_not_stand_any_more_ages() {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    shelf.register("web", "n1");
    let standing = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for name in ["a", "b"] {
        let (shelf, standing) = (shelf.clone(), standing.clone());
        world.put("dc2", name, move |request: Request<Bytes>| {
            let (shelf, standing) = (shelf.clone(), standing.clone());
            async move {
                if !request.uri().to_string().contains("index=") {
                    return count(&shelf, &request).await;
                }
                let is_first = standing.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                tokio::time::sleep(if is_first { secs(5) } else { secs(3600) }).await;
                answer("lost on its way")
            }
        });
    }
    let forwarder = world.forwarder("dc1");
    assert_eq!(seen(&ask(&forwarder, "dc2", CACHED).await.1), ("MISS", None));
    for name in ["a", "b"] {
        world.link(name, Link::OneWay);
    }
    tokio::time::sleep(secs(20)).await;
    shelf.register("web", "n2");
    let (_, headers, body) = ask_with(&forwarder, "max-age=60").await;
    let (cache, age) = seen(&headers);
    assert_eq!((cache, body.as_str()), ("HIT", "1"));
    assert!(age.is_some_and(|age| (13..=20).contains(&age)), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_a_place_takes_nothing_away_from_the_cache() {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    let is_full = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let full = is_full.clone();
    let held = shelf.clone();
    world.put("dc2", "a", move |request: Request<Bytes>| {
        let (shelf, is_full) = (held.clone(), is_full.clone());
        async move {
            if !is_full.load(std::sync::atomic::Ordering::Relaxed) {
                return count(&shelf, &request).await;
            }
            let mut response = answer("no place");
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            response
        }
    });
    let forwarder = world.forwarder("dc1");
    shelf.register("web", "n1");
    ask(&forwarder, "dc2", CACHED).await;
    tokio::time::sleep(secs(1)).await;
    full.store(true, std::sync::atomic::Ordering::Relaxed);
    // The question that stands is answered; the next one finds no place.
    shelf.register("web", "n2");
    tokio::time::sleep(secs(60)).await;
    let (status, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((status, body.as_str(), seen(&headers).0), (200, "2", "HIT"));
    assert_eq!(headers["x-consul-knownleader"], "false");
    assert_eq!(ask_with(&forwarder, "max-age=5").await.0, 429, "beyond what the client accepts");
    assert_eq!(ask_with(&forwarder, "max-age=5, stale-if-error=300").await.0, 200);
    full.store(false, std::sync::atomic::Ordering::Relaxed);
    shelf.register("web", "n3");
    tokio::time::sleep(secs(5)).await;
    let (status, headers, body) = ask(&forwarder, "dc2", CACHED).await;
    assert_eq!((status, body.as_str(), seen(&headers)), (200, "3", ("HIT", Some(0))));
}

#[tokio::test(start_paused = true)]
async fn who_translates_asks_other_datacenters_for_their_wan_addresses_and_says_so() {
    let world = World::default();
    world.put_echo("dc2", "a", Duration::ZERO);
    let says = "x-consul-translate-addresses";
    let config = ExchangeConfig { translates: true, ..ExchangeConfig::default() };
    let (translating, plain) = (world.forwarder_with("dc1", config.clone()), world.forwarder("dc1"));
    let (_, headers, body) = ask(&translating, "dc2", "/v1/health/service/web?dc=dc2").await;
    assert_eq!(body, "a /v1/health/service/web?dc=dc2&addresses=wan");
    assert_eq!(headers[says], "true");
    let (_, headers, body) = ask(&translating, "dc2", "/v1/kv/a?dc=dc2").await;
    assert_eq!((body.as_str(), &headers[says]), ("a /v1/kv/a?dc=dc2", &HeaderValue::from_static("true")));
    let (_, headers, body) = ask(&plain, "dc2", "/v1/health/service/web?dc=dc2").await;
    assert_eq!((body.as_str(), headers.get(says)), ("a /v1/health/service/web?dc=dc2", None));
    // A client agent does so for other datacenters, not for its own.
    let agent = tribune_core::NodeName::new("agent-1").unwrap();
    let uplink =
        tribune_wan::Uplink::new((dc("dc2"), agent), world.roads("dc2"), world.roster("dc2"), config);
    for (uri, sent) in [
        ("/v1/catalog/nodes", "a /v1/catalog/nodes"),
        ("/v1/catalog/nodes?dc=DC2", "a /v1/catalog/nodes?dc=DC2"),
        ("/v1/catalog/nodes?dc=dc3", "a /v1/catalog/nodes?dc=dc3&addresses=wan"),
    ] {
        let (_, headers, body) = read(uplink.answer(get(uri)).await).await;
        assert_eq!((body.as_str(), &headers[says]), (sent, &HeaderValue::from_static("true")));
    }
}
