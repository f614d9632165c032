//! The inward side: who is let in, loops, and detours through a third datacenter.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::ServiceExt;
use tribune_net::{PeerIdentity, PeerRole};
use tribune_wan::{FarBody, Gateway, RpcService};

use crate::world::{Link, Shelf, World, answer, ask, dc, get, read};

/// The HTTP service of a datacenter, which says its name and what it was asked.
async fn api(name: &'static str, request: Request<Full<Bytes>>) -> Result<Response<FarBody>, Infallible> {
    let uri = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(answer(&format!("{name} {uri} {}", String::from_utf8_lossy(&body))))
}

fn put_server(world: &World, datacenter: &'static str) {
    let inner = tower::service_fn(move |request| api(datacenter, request));
    world.put_server(datacenter, datacenter, Arc::new(Shelf::default()), inner);
}

/// Asks a gateway of dc2 as somebody.
async fn knock(role: PeerRole, from: Option<&str>, via: &str, uri: &str) -> (u16, String) {
    let world = World::default();
    world.put_echo("dc1", "a", Duration::ZERO);
    world.put_echo("dc3", "c", Duration::ZERO);
    let forwarder = world.forwarder("dc2");
    let rpc = RpcService::new(dc("dc2"), Arc::new(Shelf::default()), Some(forwarder.clone()));
    let inner = tower::service_fn(|request| api("dc2", request));
    let gateway = Gateway::new(dc("dc2"), inner, rpc, forwarder);
    let mut request = get(uri);
    if !via.is_empty() {
        request.headers_mut().insert("x-tribune-via", via.parse().unwrap());
    }
    if let Some(from) = from {
        request.extensions_mut().insert(PeerIdentity { role, datacenter: dc(from), expires: UNIX_EPOCH });
    }
    let (status, headers, body) = read(gateway.oneshot(request).await.unwrap()).await;
    assert_eq!(headers["x-tribune-from"], "dc2");
    (status, body)
}

#[tokio::test(start_paused = true)]
async fn servers_of_known_datacenters_are_answered() {
    let ask = |uri| knock(PeerRole::Server, Some("dc1"), "dc1", uri);
    assert_eq!(ask("/v1/kv/a?dc=DC2&raw").await, (200, "dc2 /v1/kv/a?raw ".to_owned()));
    assert_eq!(ask("/v1/kv/a").await, (200, "dc2 /v1/kv/a ".to_owned()));
    assert_eq!(ask("/rpc/knock?dc=dc2").await, (200, String::new()));
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is() {
    let server = PeerRole::Server;
    for (role, from, via, uri, status, text) in [
        (server, None, "dc1", "/v1/kv/a", 403, "only over TLS"),
        (PeerRole::Client, Some("dc1"), "dc1", "/v1/kv/a", 403, "client certificate of datacenter dc1"),
        (server, Some("dc2"), "dc2", "/v1/kv/a", 403, "this is datacenter dc2 already"),
        (server, Some("dc9"), "dc9", "/v1/kv/a", 403, "dc9 is not federated with dc2"),
        (server, Some("dc1"), "dc3", "/v1/kv/a", 403, "dc1 may not speak for datacenter dc3"),
        (server, Some("dc1"), "dc1,dc3", "/v1/kv/a", 403, "dc1 may not speak for datacenter dc3"),
        (server, Some("dc1"), "", "/v1/kv/a", 403, "does not say which datacenter"),
        (server, Some("dc1"), "dc2,dc1", "/v1/kv/a", 508, "in a circle"),
        (server, Some("dc1"), "dc1", "/v1/agent/self", 403, "not answered for other datacenters"),
        (server, Some("dc1"), "dc1", "/v1/%61gent/leave", 403, "not answered for other datacenters"),
        (server, Some("dc1"), "dc1", "/raft/vote", 403, "not answered for other datacenters"),
        (server, Some("dc1"), "dc1", "/rpc/propose", 403, "not answered for other datacenters"),
        (server, Some("dc1"), "dc1", "/v1/kv/a?dc=dc8", 500, "No path to datacenter"),
        (server, Some("dc1"), "dc3,dc1", "/v1/kv/a?dc=dc3", 500, "no server currently reachable"),
    ] {
        let (got, body) = knock(role, from, via, uri).await;
        assert_eq!(got, status, "{uri} {via}: {body}");
        assert!(body.contains(text), "{uri} {via}: {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_datacenter_that_only_a_third_one_reaches_is_asked_through_it() {
    let world = World::default();
    world.put_echo("dc1", "home", Duration::ZERO);
    put_server(&world, "dc2");
    put_server(&world, "dc3");
    world.link_between("dc1", "dc3", Link::Cut);
    let forwarder = world.forwarder("dc1");
    for most in [1000, 20] {
        let begun = Instant::now();
        let (status, headers, body) = ask(&forwarder, "dc3", "/v1/kv/a?raw").await;
        assert_eq!((status, body.as_str()), (200, "dc3 /v1/kv/a?raw "));
        assert!(headers.keys().all(|name| !name.as_str().starts_with("x-tribune")));
        assert!(begun.elapsed() <= Duration::from_millis(most), "{:?}", begun.elapsed());
    }
    let sent = world.sent();
    let ways: Vec<_> =
        sent.iter().map(|sent| (sent.to.as_str(), sent.headers["x-tribune-via"].to_str().unwrap())).collect();
    assert_eq!(&ways[..2], [("dc2", "dc1"), ("dc3", "dc1,dc2")]);
    let write = Request::put("/v1/kv/a").body(Full::new(Bytes::from_static(b"v"))).unwrap();
    let (status, _, body) = read(forwarder.answer(&dc("dc3"), write).await).await;
    assert_eq!((status, body.as_str()), (200, "dc3 /v1/kv/a v"));
}

#[tokio::test(start_paused = true)]
async fn when_nobody_reaches_it_the_answer_comes_within_a_second_and_then_fast() {
    let world = World::default();
    world.put_echo("dc1", "home", Duration::ZERO);
    for datacenter in ["dc2", "dc3", "dc4"] {
        put_server(&world, datacenter);
    }
    world.link("dc3", Link::Cut);
    let forwarder = world.forwarder("dc1");
    for most in [1500, 1500, 50, 50] {
        let begun = Instant::now();
        let (status, _, body) = ask(&forwarder, "dc3", "/v1/kv/a").await;
        assert_eq!((status, body.as_str()), (500, "Remote DC has no server currently reachable"));
        assert!(begun.elapsed() <= Duration::from_millis(most), "{:?}", begun.elapsed());
    }
    let farthest = world.sent().iter().map(|sent| sent.headers["x-tribune-via"].len()).max();
    assert_eq!(farthest, Some("dc1".len()), "nobody made a second detour");
}

/// A gateway that has just started knows nobody yet: that is no answer of its datacenter.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_know_us_yet_is_passed_over() {
    let newcomer = |world: &World, name: &'static str| {
        // Its own world holds nobody else.
        let alone = World::default();
        let forwarder = alone.forwarder("dc2");
        let rpc = RpcService::new(dc("dc2"), Arc::new(Shelf::default()), Some(forwarder.clone()));
        let gateway =
            Gateway::new(dc("dc2"), tower::service_fn(|request| api("dc2", request)), rpc, forwarder);
        world.put("dc2", name, move |request: Request<Bytes>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request.map(Full::new)).await.unwrap().map(tribune_wan::far_body) }
        });
    };
    let write = || Request::put("/v1/kv/a").body(Full::new(Bytes::from_static(b"v"))).unwrap();
    let world = World::default();
    world.put_echo("dc1", "home", Duration::ZERO);
    for name in ["new1", "new2"] {
        newcomer(&world, name);
    }
    let forwarder = world.forwarder("dc1");
    for _ in 0..3 {
        // When nobody else is there, the client learns why.
        let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/a").await;
        assert_eq!(status, 403);
        assert!(body.contains("dc1 is not federated with dc2"), "{body}");
    }
    // What was so is not told for ever: now nobody is there.
    for name in ["new1", "new2"] {
        world.link(name, Link::Closed);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/a").await;
    assert_eq!((status, body.as_str()), (500, "Remote DC has no server currently reachable"));
    for name in ["new1", "new2"] {
        world.link(name, Link::Up(Duration::from_millis(1)));
    }
    put_server(&world, "dc2");
    let forwarder = world.forwarder("dc1");
    for _ in 0..20 {
        let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/a").await;
        assert_eq!((status, body.as_str()), (200, "dc2 /v1/kv/a "));
        let (status, _, body) = read(world.forwarder("dc1").answer(&dc("dc2"), write()).await).await;
        assert_eq!((status, body.as_str()), (200, "dc2 /v1/kv/a v"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_datacenter_cannot_take_all_places() {
    let world = World::default();
    world.put_echo("dc1", "a", Duration::ZERO);
    world.put_echo("dc3", "c", Duration::ZERO);
    let forwarder = world.forwarder("dc2");
    let rpc = RpcService::new(dc("dc2"), Arc::new(Shelf::default()), Some(forwarder.clone()));
    let inner = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        if request.uri().path() == "/v1/kv/slow" {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        api("dc2", request).await
    });
    let gateway = Gateway::new(dc("dc2"), inner, rpc, forwarder);
    let ask = |from: &'static str, uri: &'static str| {
        let mut request = get(uri);
        request.headers_mut().insert("x-tribune-via", from.parse().unwrap());
        let (role, datacenter) = (PeerRole::Server, dc(from));
        request.extensions_mut().insert(PeerIdentity { role, datacenter, expires: UNIX_EPOCH });
        let gateway = gateway.clone();
        async move { gateway.oneshot(request).await.unwrap().status().as_u16() }
    };
    let slow: Vec<_> = (0..4096).map(|_| tokio::spawn(ask("dc1", "/v1/kv/slow"))).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask("dc1", "/v1/kv/a").await, 429);
    assert_eq!(ask("dc3", "/v1/kv/a").await, 200, "others are not harmed");
    for status in futures::future::join_all(slow).await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(ask("dc1", "/v1/kv/a").await, 200);
}
