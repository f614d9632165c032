//! Ways there: dead ones, slow ones, detours, and what is never sent twice.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tribune_wan::{BodyError, DcLayer, far_body};

use crate::world::{Link, World, answer, ask, dc, get, read};

const NOW: Duration = Duration::ZERO;
const UNREACHABLE: &str = "Remote DC has no server currently reachable";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn put(uri: &str) -> Request<Full<Bytes>> {
    Request::put(uri).body(Full::new(Bytes::from_static(b"value"))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_the_other_datacenter_as_it_was() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    let inner =
        tower::service_fn(|_: Request<Full<Bytes>>| async { Ok(Response::new(Full::new(Bytes::new()))) });
    let service = DcLayer::new(dc("dc1")).with_forwarder(world.forwarder("dc1")).layer(inner);
    let mut request = get("/v1/kv/a%2fb?dc=DC2&raw");
    for (name, value) in [("x-consul-token", "secret"), ("connection", "close"), ("x-tribune-via", "dc7")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (status, headers, body) = read(service.oneshot(request).await.unwrap()).await;
    assert_eq!((status, body.as_str()), (200, "a /v1/kv/a%2fb?dc=DC2&raw"));
    assert!(headers.keys().all(|name| !name.as_str().starts_with("x-tribune")));
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].headers["x-consul-token"], "secret");
    assert_eq!(sent[0].headers["x-tribune-via"], "dc1");
    assert!(!sent[0].headers.contains_key("connection"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_datacenter_is_told_at_once() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    let begun = Instant::now();
    let (status, _, body) = ask(&world.forwarder("dc1"), "dc9", "/v1/catalog/nodes").await;
    assert_eq!((status, body.as_str()), (500, "No path to datacenter"));
    assert!(begun.elapsed() < ms(10));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_one_fails_within_a_second_then_fast_and_is_back_soon() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    world.put_echo("dc2", "b", NOW);
    let forwarder = world.forwarder("dc1");
    world.link("dc2", Link::Cut);
    for (method, most) in [("GET", ms(1000)), ("GET", ms(5)), ("PUT", ms(5)), ("WAIT", ms(5))] {
        let begun = Instant::now();
        let request = match method {
            "PUT" => put("/v1/kv/a"),
            "WAIT" => get("/v1/kv/a?index=5&wait=60s"),
            _ => get("/v1/kv/a"),
        };
        let (status, _, body) = read(forwarder.answer(&dc("dc2"), request).await).await;
        assert_eq!((status, body.as_str()), (500, UNREACHABLE), "{method}");
        assert!(begun.elapsed() <= most, "{method} took {:?}", begun.elapsed());
    }
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(ask(&forwarder, "dc2", "/v1/kv/a").await.0, 500);
        assert!(begun.elapsed() <= ms(5), "no request has to find out again");
        tokio::time::sleep(ms(100)).await;
    }
    world.link("dc2", Link::Up(ms(1)));
    let healed = Instant::now();
    while ask(&forwarder, "dc2", "/v1/kv/a").await.0 != 200 {
        tokio::time::sleep(ms(100)).await;
        assert!(healed.elapsed() < ms(5000));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_or_writes_finds_a_dead_link_within_a_second_too() {
    for request in [put("/v1/kv/a"), get("/v1/kv/a?index=5&wait=60s")] {
        let world = World::default();
        world.put_echo("dc2", "a", NOW);
        world.link("dc2", Link::Cut);
        let begun = Instant::now();
        let (status, _, body) = read(world.forwarder("dc1").answer(&dc("dc2"), request).await).await;
        assert_eq!((status, body.as_str()), (500, UNREACHABLE));
        assert!(begun.elapsed() <= ms(1000), "{:?}", begun.elapsed());
        assert!(world.sent().is_empty(), "it was certainly not sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_gateway_is_asked_when_the_first_is_slow() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    world.put_echo("dc2", "b", NOW);
    let forwarder = world.forwarder("dc1");
    world.link("a", Link::Cut);
    for _ in 0..20 {
        let begun = Instant::now();
        let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/a").await;
        assert_eq!(status, 200);
        assert!(body.starts_with("b "), "{body}");
        assert!(begun.elapsed() < ms(300), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_no_dead_link() {
    let world = World::default();
    world.put_echo("dc2", "a", ms(4000));
    let (status, _, body) = ask(&world.forwarder("dc1"), "dc2", "/v1/kv/a").await;
    assert_eq!((status, body.as_str()), (200, "a /v1/kv/a?dc=dc2"));
    assert_eq!(world.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_distant_datacenter_is_neither_taken_for_dead_nor_asked_twice() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    world.put_echo("dc2", "b", NOW);
    world.link("dc2", Link::Up(ms(500)));
    let forwarder = world.forwarder("dc1");
    for at in 0..20 {
        assert_eq!(ask(&forwarder, "dc2", &format!("/v1/kv/{at}")).await.0, 200);
    }
    let sent = world.sent().len();
    assert!(sent <= 22, "{sent}");
    let links = forwarder.links(&dc("dc2"));
    assert!(links[0].is_open && (ms(400)..ms(600)).contains(&links[0].round_trip.unwrap()));
    world.link("dc2", Link::Cut);
    let begun = Instant::now();
    assert_eq!(ask(&forwarder, "dc2", "/v1/kv/a").await.0, 500);
    assert!(begun.elapsed() <= ms(3000), "{:?}", begun.elapsed());
    assert!(!forwarder.links(&dc("dc2"))[0].is_open);
}

#[tokio::test(start_paused = true)]
async fn the_nearer_gateway_takes_most_requests() {
    let world = World::default();
    world.put_echo("dc2", "far", NOW);
    world.put_echo("dc2", "near", NOW);
    world.link("far", Link::Up(ms(80)));
    let forwarder = world.forwarder("dc1");
    for at in 0..100 {
        ask(&forwarder, "dc2", &format!("/v1/kv/{at}")).await;
    }
    let near = world.sent().iter().filter(|sent| sent.to == "near").count();
    assert!(near > 90, "{near}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_been_done_is_not_sent_again() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    world.put_echo("dc2", "b", NOW);
    world.link("dc2", Link::OneWay);
    let (status, _, body) = read(world.forwarder("dc1").answer(&dc("dc2"), put("/v1/kv/a")).await).await;
    assert_eq!(status, 500);
    assert!(body.contains("not known whether this was carried out"), "{body}");
    assert_eq!(world.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_lost_answer_does_not_close_the_only_gateway() {
    let requests = || [get("/v1/kv/a"), put("/v1/kv/a"), get("/v1/kv/a?index=5&wait=60s")];
    for lost in requests() {
        for next in requests() {
            let world = World::default();
            world.put_echo("dc2", "a", NOW);
            let forwarder = world.forwarder("dc1");
            world.link("dc2", Link::OneWay);
            let what = format!("{} {}, then {} {}", lost.method(), lost.uri(), next.method(), next.uri());
            let lost =
                Request::builder().method(lost.method()).uri(lost.uri()).body(Full::default()).unwrap();
            assert_eq!(read(forwarder.answer(&dc("dc2"), lost).await).await.0, 500, "{what}");
            world.link("dc2", Link::Up(ms(1)));
            let (status, _, body) = read(forwarder.answer(&dc("dc2"), next).await).await;
            assert_eq!(status, 200, "{what}: {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_loses_one_answer_after_the_other_is_closed() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    let forwarder = world.forwarder("dc1");
    world.link("dc2", Link::OneWay);
    let sent = async |expected: usize| {
        assert_eq!(ask(&forwarder, "dc2", "/v1/kv/a").await.0, 500);
        assert_eq!(world.sent().iter().filter(|sent| sent.uri.starts_with("/v1")).count(), expected);
    };
    sent(1).await;
    sent(2).await;
    sent(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_certainly_not_sent_goes_to_the_next() {
    for _ in 0..8 {
        let world = World::default();
        world.put_echo("dc2", "a", NOW);
        world.put_echo("dc2", "b", NOW);
        world.link("a", Link::Closed);
        let (status, _, body) = read(world.forwarder("dc1").answer(&dc("dc2"), put("/v1/kv/a")).await).await;
        assert_eq!((status, body.as_str()), (200, "b /v1/kv/a?dc=dc2"));
        assert_eq!(world.sent().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_waits_its_time_and_is_shared_when_equal() {
    let world = World::default();
    world.put_echo("dc2", "a", ms(60_000));
    let forwarder = world.forwarder("dc1");
    let begun = Instant::now();
    let uri = "/v1/health/service/web?index=7&wait=60s";
    let all = futures::future::join_all((0..50).map(|_| ask(&forwarder, "dc2", uri))).await;
    assert!(all.iter().all(|(status, ..)| *status == 200));
    assert!(begun.elapsed() >= ms(60_000));
    assert_eq!(world.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_equal_questions_at_once_are_one_on_the_wire() {
    for uri in ["/v1/health/service/web", "/v1/health/service/web?stale", "/v1/health/service/web?cached"] {
        let world = World::default();
        world.put_echo("dc2", "a", ms(50));
        let forwarder = world.forwarder("dc1");
        let tasks = (0..1000).map(|_| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move { ask(&forwarder, "dc2", uri).await.0 })
        });
        for status in futures::future::join_all(tasks).await {
            assert_eq!(status.unwrap(), 200);
        }
        assert_eq!(world.sent().len(), 1, "{uri}");
    }
}

/// The same on many threads, where nothing comes at the very same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_equal_questions_is_a_few_on_the_wire() {
    for (uri, most) in [("/v1/health/service/web", 50), ("/v1/health/service/web?cached", 1)] {
        let world = World::default();
        world.put_echo("dc2", "a", ms(50));
        let forwarder = world.forwarder("dc1");
        let tasks: Vec<_> = (0..5000)
            .map(|_| {
                let forwarder = forwarder.clone();
                tokio::spawn(async move { ask(&forwarder, "dc2", uri).await.0 })
            })
            .collect();
        for status in futures::future::join_all(tasks).await {
            assert_eq!(status.unwrap(), 200);
        }
        let sent = world.sent().len();
        assert!(sent <= most, "{uri}: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_that_differ_in_what_matters_are_not_shared() {
    let world = World::default();
    world.put_echo("dc2", "a", ms(50));
    let forwarder = world.forwarder("dc1");
    let with = |name: &'static str, value: &'static str| {
        let mut request = get("/v1/kv/a");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let requests = vec![
        get("/v1/kv/a"),
        get("/v1/kv/a?raw"),
        get("/v1/kv/a?token=t"),
        with("x-consul-token", "u"),
        with("accept-encoding", "gzip"),
        get("/v1/kv/b"),
        Request::head("/v1/kv/a").body(Full::default()).unwrap(),
        // The same as another one: the order of names is none, and `dc` is the same.
        get("/v1/kv/a?dc=dc2&raw"),
        with("x-consul-token", "t"),
    ];
    let to = dc("dc2");
    futures::future::join_all(requests.into_iter().map(|request| forwarder.answer(&to, request))).await;
    assert_eq!(world.sent().len(), 7);
}

/// The first answer breaks off in the middle, the next one is whole.
fn put_breaking(world: &World) {
    let first = std::sync::atomic::AtomicBool::new(true);
    world.put("dc2", "a", move |request: Request<Bytes>| {
        let breaks =
            request.uri().path() != "/rpc/knock" && first.swap(false, std::sync::atomic::Ordering::Relaxed);
        async move {
            if !breaks {
                return answer("whole");
            }
            let half = Ok(Frame::data(Bytes::from_static(b"ha")));
            let end = Err(BodyError::new("the gateway died"));
            Response::new(far_body(StreamBody::new(futures::stream::iter([half, end]))))
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_dies_in_the_middle_of_an_answer() {
    let world = World::default();
    put_breaking(&world);
    let (status, _, body) = ask(&world.forwarder("dc1"), "dc2", "/v1/kv/a").await;
    assert_eq!((status, body.as_str()), (200, "whole"), "a read is asked for once more");

    let world = World::default();
    put_breaking(&world);
    let response = world.forwarder("dc1").answer(&dc("dc2"), put("/v1/kv/a")).await;
    assert!(response.into_body().collect().await.is_err(), "a write is not, and nobody takes half for whole");
    assert_eq!(world.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_long_are_streamed_and_those_that_never_end_are_given_up() {
    let world = World::default();
    world.put("dc2", "a", |request: Request<Bytes>| async move {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let count = if request.uri().path().ends_with("long") { 20 } else { 1 };
        let pieces =
            futures::stream::repeat(piece).take(count).map(|piece| Ok::<_, BodyError>(Frame::data(piece)));
        let silence = futures::stream::pending();
        let pieces = match count {
            1 => pieces.chain(silence).boxed(),
            _ => pieces.boxed(),
        };
        Response::new(far_body(StreamBody::new(pieces)))
    });
    let forwarder = world.forwarder("dc1");
    let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/long").await;
    assert_eq!((status, body.len()), (200, 20 << 20));
    let begun = Instant::now();
    let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/endless").await;
    assert_eq!(status, 500);
    assert!(body.contains("broke off"), "{body}");
    assert!(begun.elapsed() <= Duration::from_secs(61));
    let streamed = forwarder.answer(&dc("dc2"), get("/v1/snapshot?endless")).await;
    assert!(streamed.into_body().collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whole_states_take_their_time_and_are_asked_for_once() {
    let world = World::default();
    world.put_echo("dc2", "a", ms(120_000));
    world.put_echo("dc2", "b", ms(120_000));
    let forwarder = world.forwarder("dc1");
    let save = forwarder.answer(&dc("dc2"), get("/v1/snapshot")).await;
    assert_eq!(save.status(), 200);
    assert_eq!(world.sent().len(), 1);
    let archive = Full::new(Bytes::from(vec![0; 20 << 20]));
    let restore = Request::put("/v1/snapshot").body(archive).unwrap();
    assert_eq!(forwarder.answer(&dc("dc2"), restore).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_travel_is_refused() {
    let world = World::default();
    world.put_echo("dc2", "a", NOW);
    let forwarder = world.forwarder("dc1");
    let large = Request::put("/v1/kv/a").body(Full::new(Bytes::from(vec![0; (8 << 20) + 1]))).unwrap();
    let (status, _, body) = read(forwarder.answer(&dc("dc2"), large).await).await;
    assert_eq!(status, 413, "{body}");
    let mut many = get("/v1/kv/a");
    for at in 0..101 {
        let name: http::HeaderName = format!("x-{at}").parse().unwrap();
        many.headers_mut().insert(name, "v".parse().unwrap());
    }
    assert_eq!(read(forwarder.answer(&dc("dc2"), many).await).await.0, 431);
    assert!(world.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_question_with_a_body_is_asked_again_elsewhere_like_any_other() {
    let world = World::default();
    for name in ["a", "b"] {
        world.put("dc2", name, move |request: Request<Bytes>| async move {
            answer(&format!("{name} {}", String::from_utf8_lossy(request.body())))
        });
    }
    let forwarder = world.forwarder("dc1");
    world.link("a", Link::Cut);
    for question in ["one", "two", "three", "four"] {
        let begun = Instant::now();
        let request = Request::get("/v1/internal/query/execute").body(Full::new(Bytes::from(question)));
        let (status, _, body) = read(forwarder.answer(&dc("dc2"), request.unwrap()).await).await;
        assert_eq!((status, body), (200, format!("b {question}")));
        assert!(begun.elapsed() < ms(300), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_near_somewhere_else_has_an_answer_of_his_own() {
    for (uri, expected) in [
        ("/v1/query/web/execute", 2),
        ("/v1/query/web/execute?cached&near=_ip", 2),
        ("/v1/%71uery/web/execute", 2),
        ("/v1/health/service/web", 1),
    ] {
        let world = World::default();
        world.put("dc2", "a", |request: Request<Bytes>| async move {
            tokio::time::sleep(ms(50)).await;
            answer(request.headers()["x-forwarded-for"].to_str().unwrap())
        });
        let forwarder = world.forwarder("dc1");
        let ask_from = |from: &'static str| {
            let mut request = get(uri);
            request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
            let forwarder = &forwarder;
            async move { read(forwarder.answer(&dc("dc2"), request).await).await.2 }
        };
        let clients = ["10.0.0.1", "10.0.0.2", "10.0.0.1"];
        let told = futures::future::join_all(clients.map(ask_from)).await;
        assert_eq!(world.sent().len(), expected, "{uri}");
        if expected > 1 {
            assert_eq!(told, clients, "{uri}");
        }
    }
}
