//! Where services are alive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tribune_core::{Command, Deregistration, NodeName, Target};
use tribune_wan::{DcLayer, Summaries};

use crate::world::{Link, Shelf, World, answer, dc, get, read};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn seen(summaries: &Summaries, service: &str) -> Vec<(String, u32, u64)> {
    let presences = summaries.of(service).into_iter();
    presences.map(|it| (it.datacenter.to_string(), it.tally.passing, it.age.as_secs())).collect()
}

#[tokio::test(start_paused = true)]
async fn every_datacenter_tells_how_many_it_has() {
    let (world, home) = (World::default(), Arc::new(Shelf::default()));
    world.put_echo("dc1", "home", Duration::ZERO);
    let far: Vec<Arc<Shelf>> = ["dc2", "dc3"]
        .into_iter()
        .map(|name| {
            let shelf = Arc::new(Shelf::default());
            let inner = tower::service_fn(|_: Request<Full<Bytes>>| async { Ok(answer("")) });
            world.put_server(name, name, shelf.clone(), inner);
            shelf
        })
        .collect();
    home.register("web", "h1");
    far[0].register("web", "f1");
    far[0].register("web", "f2");
    far[1].register("db", "g1");
    let forwarder = world.forwarder("dc1");
    let summaries = Summaries::new(dc("dc1"), home, forwarder.clone());
    assert_eq!(seen(&summaries, "web"), [("dc1".to_owned(), 1, 0)]);
    let following = tokio::spawn({
        let summaries = summaries.clone();
        async move { summaries.follow().await }
    });
    tokio::time::sleep(secs(2)).await;
    assert_eq!(seen(&summaries, "WEB"), [("dc1".to_owned(), 1, 0), ("dc2".to_owned(), 2, 1)]);
    let lacking = |service: &str| ["dc2", "dc3", "dc9"].map(|name| summaries.lacks(&dc(name), service));
    assert_eq!((lacking("Web"), lacking("db")), ([false, true, false], [true, false, false]));
    far[1].register("web", "g1");
    let node = NodeName::new("f2").unwrap();
    far[0].apply(&Command::Deregister(Deregistration { node, target: Target::Node }));
    tokio::time::sleep(secs(3)).await;
    let counts: Vec<u32> = seen(&summaries, "web").into_iter().map(|(_, count, _)| count).collect();
    assert_eq!(counts, [1, 1, 1]);
    let node = NodeName::new("f1").unwrap();
    far[0].apply(&Command::Deregister(Deregistration { node, target: Target::Node }));
    tokio::time::sleep(secs(3)).await;
    assert!(seen(&summaries, "web").iter().all(|(datacenter, ..)| datacenter != "dc2"));
    world.link("dc3", Link::Cut);
    tokio::time::sleep(secs(100)).await;
    let (datacenter, count, age) = seen(&summaries, "web").remove(1);
    assert_eq!((datacenter.as_str(), count), ("dc3", 1));
    assert!(age >= 100, "{age}");
    assert!(!summaries.lacks(&dc("dc3"), "db"), "what was told before the cut is no longer certain");

    let inner =
        tower::service_fn(|_: Request<Full<Bytes>>| async { Ok(Response::new(Full::new(Bytes::new()))) });
    let service = DcLayer::new(dc("dc1")).with_summaries(summaries).layer(inner);
    let (status, headers, body) =
        read(service.oneshot(get("/v1/tribune/services/w%65b/datacenters")).await.unwrap()).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "application/json"));
    let first = r#"[{"Datacenter":"dc1","Passing":1,"Warning":0,"Critical":0,"AgeSeconds":0},"#;
    assert!(body.starts_with(first), "{body}");
    following.abort();
}
