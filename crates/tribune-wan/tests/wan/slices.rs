//! Kept slices: what DNS answers from where there is no catalog.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tribune_core::{Authority, Folded, State, Topic};
use tribune_wan::{Forwarder, RpcService, SliceError, Slices, SlicesConfig};

use crate::world::{Link, Shelf, World, answer, dc};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn web() -> Topic {
    Topic::Service(Folded::new("web"))
}

fn world() -> (World, Arc<Shelf>, Forwarder) {
    let (world, shelf) = (World::default(), Arc::new(Shelf::default()));
    let inner = tower::service_fn(|_: Request<Full<Bytes>>| async { Ok(answer("")) });
    world.put_server("dc2", "a", shelf.clone(), inner);
    // A gateway answers only datacenters it knows.
    world.put_echo("dc1", "home", Duration::ZERO);
    let forwarder = world.forwarder("dc1");
    (world, shelf, forwarder)
}

fn instances(state: &State, service: &str) -> usize {
    state.view(&Authority::unrestricted()).instances(service).count()
}

async fn count(slices: &Slices) -> Result<usize, SliceError> {
    Ok(instances(&*slices.fetch(&dc("dc2"), &web()).await?, "web"))
}

#[tokio::test(start_paused = true)]
async fn a_slice_is_fetched_once_and_followed() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    shelf.register("db", "n2");
    let slices = forwarder.slices(SlicesConfig::default());
    assert!(slices.peek(&dc("dc2"), &web()).is_none());
    let all = futures::future::join_all((0..200).map(|_| count(&slices))).await;
    assert!(all.iter().all(|count| *count == Ok(1)));
    let state = slices.peek(&dc("dc2"), &web()).unwrap();
    assert_eq!(instances(&state, "db"), 0);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(world.sent().len(), 2, "one question and one that waits");
    shelf.register("web", "n3");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(instances(&slices.peek(&dc("dc2"), &web()).unwrap(), "web"), 2);
    tokio::time::sleep(secs(300)).await;
    let (now, later) = (slices.peek(&dc("dc2"), &web()).unwrap(), slices.peek(&dc("dc2"), &web()).unwrap());
    assert!(Arc::ptr_eq(&now, &later), "what has not changed is the same");
}

#[tokio::test(start_paused = true)]
async fn while_the_other_side_is_away_the_last_good_slice_answers() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    let slices = forwarder.slices(SlicesConfig::default());
    assert_eq!(count(&slices).await, Ok(1));
    world.link("dc2", Link::Cut);
    for _ in 0..9 {
        tokio::time::sleep(secs(60)).await;
        assert_eq!(count(&slices).await, Ok(1));
    }
    tokio::time::sleep(secs(120)).await;
    assert_eq!(count(&slices).await, Err(SliceError::Unreachable));
    shelf.register("web", "n2");
    world.link("dc2", Link::Up(Duration::from_millis(1)));
    tokio::time::sleep(secs(5)).await;
    assert_eq!(count(&slices).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_is_told_in_time() {
    let (world, _, forwarder) = world();
    let slices = forwarder.slices(SlicesConfig::default());
    let fetch = |name: &'static str| {
        let slices = slices.clone();
        async move { slices.fetch(&dc(name), &web()).await.map(|_| ()) }
    };
    assert_eq!(fetch("dc9").await, Err(SliceError::Unknown));
    world.link("dc2", Link::Up(secs(60)));
    let begun = tokio::time::Instant::now();
    assert_eq!(fetch("dc2").await, Err(SliceError::Unreachable));
    assert!(begun.elapsed() <= secs(3));
}

#[tokio::test(start_paused = true)]
async fn slices_are_bounded_and_let_go_when_unused() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    let config = SlicesConfig { entries_max: 10, idle_max: secs(60), ..SlicesConfig::default() };
    let slices = forwarder.slices(config);
    for at in 0..50 {
        let topic = Topic::Service(Folded::new(&format!("s{at}")));
        slices.fetch(&dc("dc2"), &topic).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(slices.size().0, 10);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.open(), 10, "a slice that was let go is no longer asked about");
    tokio::time::sleep(secs(120)).await;
    assert_eq!(slices.size(), (0, 0));
    let before = world.sent().len();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(world.sent().len(), before);
}

#[tokio::test(start_paused = true)]
async fn agents_get_slices_of_other_datacenters_from_their_servers() {
    let (world, shelf, forwarder) = world();
    shelf.register("web", "n1");
    let rpc = RpcService::new(dc("dc1"), Arc::new(Shelf::default()), Some(forwarder));
    world.put("dc1-agents", "server", move |request: Request<Bytes>| {
        let rpc = rpc.clone();
        async move { rpc.answer(request.map(Full::new)).await }
    });
    let agent = tribune_core::NodeName::new("agent-1").unwrap();
    let (roads, roster) = (world.roads("dc1"), world.roster("dc1-agents"));
    let uplink = tribune_wan::Uplink::new((dc("dc1-agents"), agent), roads, roster, Default::default());
    assert_eq!(count(&uplink.slices(SlicesConfig::default())).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_slice_is_never_taken_for_one() {
    type MakeBody = fn() -> tribune_wan::FarBody;
    let bad: [(&str, MakeBody); 4] = [
        ("garbage", || tribune_wan::far_body(Full::new(Bytes::from_static(b"\xc1\xff\x00")))),
        ("half", || {
            let half = http_body::Frame::data(Bytes::from_static(b"\x81\xa2Ok"));
            let pieces = [Ok(half), Err(tribune_wan::BodyError::new("gone"))];
            tribune_wan::far_body(http_body_util::StreamBody::new(futures::stream::iter(pieces)))
        }),
        ("endless", || {
            let silence =
                futures::stream::pending::<Result<http_body::Frame<Bytes>, tribune_wan::BodyError>>();
            tribune_wan::far_body(http_body_util::StreamBody::new(silence))
        }),
        ("too long", || tribune_wan::far_body(Full::new(Bytes::from(vec![0; 33 << 20])))),
    ];
    for (what, body) in bad {
        let world = World::default();
        world.put("dc2", "a", move |_: Request<Bytes>| async move { http::Response::new(body()) });
        let slices = world.forwarder("dc1").slices(SlicesConfig::default());
        let begun = tokio::time::Instant::now();
        assert_eq!(count(&slices).await, Err(SliceError::Unreachable), "{what}");
        assert!(begun.elapsed() <= secs(3), "{what}");
        assert_eq!(slices.size(), (0, 0), "{what}");
    }
}
