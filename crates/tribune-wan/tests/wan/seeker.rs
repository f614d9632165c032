//! What prepared queries find for DNS: here, in other datacenters, and from a client agent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;
use tribune_core::query::{Query, ServiceQuery, TemplateSpec};
use tribune_core::{Authority, Command, Datacenter, NodeName};
use tribune_wan::{Finding, RpcService, Seeker, SliceError, Slices, SlicesConfig, Summaries, Uplink};

use crate::world::{Link, Shelf, World, answer, dc};

/// Longer than it takes until everybody knows of a change.
const SOON: Duration = Duration::from_secs(4);

fn query(name: &str, datacenters: &[&str]) -> Query {
    let datacenters = datacenters.iter().map(|name| (*name).to_owned()).collect();
    let service = ServiceQuery { service: "web".into(), datacenters, ..ServiceQuery::default() };
    let (token, session) = ("secret".into(), "".into());
    Query { id: format!("id-{name}").into(), name: name.into(), token, session, service, ..Query::default() }
}

fn put(query: Query, is_new: bool) -> Command {
    Command::PutQuery { query: Box::new(query), is_new }
}

/// dc1 with a query `q` that goes on in dc2 and dc3.
struct Federation {
    world: World,
    shelves: [Arc<Shelf>; 3],
    seeker: Seeker,
}

impl Federation {
    fn new() -> Self {
        let world = World::default();
        let shelves = [(); 3].map(|()| Arc::new(Shelf::default()));
        // The first index of all stands for "never changed".
        shelves.iter().for_each(|shelf| shelf.register("first", "n0"));
        let inner = || tower::service_fn(|_: Request<Full<Bytes>>| async { Ok(answer("")) });
        for (shelf, (name, server)) in shelves[1..].iter().zip([("dc2", "b"), ("dc3", "c")]) {
            world.put_server(name, server, shelf.clone(), inner());
        }
        world.put_echo("dc1", "home", Duration::ZERO);
        let (desk, forwarder) = (shelves[0].clone(), world.forwarder("dc1"));
        desk.apply(&put(query("q", &["dc2", "dc9", "dc3"]), true));
        let slices = forwarder.slices(SlicesConfig::default());
        let summaries = Summaries::new(dc("dc1"), desk.clone(), forwarder.clone());
        let seeker = Seeker::with_others(dc("dc1"), desk, forwarder, slices, summaries);
        Self { world, shelves, seeker }
    }

    /// The kept slices of a client agent of dc1.
    fn agent(&self) -> Slices {
        let rpc = RpcService::new(dc("dc1"), self.shelves[0].clone(), Some(self.world.forwarder("dc1")));
        let rpc = rpc.with_seeker(self.seeker.clone());
        self.world.put("dc1-agents", "server", move |request: Request<Bytes>| {
            let rpc = rpc.clone();
            async move { rpc.answer(request.map(Full::new)).await }
        });
        let agent = NodeName::new("agent-1").unwrap();
        let (roads, roster) = (self.world.roads("dc1"), self.world.roster("dc1-agents"));
        Uplink::new((dc("dc1-agents"), agent), roads, roster, Default::default())
            .slices(SlicesConfig::default())
    }

    fn remove(&self, at: usize, node: &str) {
        let target = tribune_core::Target::Node;
        let gone = tribune_core::Deregistration { node: NodeName::new(node).unwrap(), target };
        self.shelves[at].apply(&Command::Deregister(gone));
    }
}

/// Where something was found, and on how many nodes.
fn place(finding: &Finding) -> (Datacenter, usize) {
    let authority = Authority::unrestricted();
    (finding.datacenter.clone(), finding.state.view(&authority).instances("web").count())
}

async fn find(seeker: &Seeker, name: &str) -> Result<(Datacenter, usize), SliceError> {
    seeker.find(name).await.map(|finding| place(&finding))
}

async fn ask(slices: &Slices, name: &str) -> Result<(Datacenter, usize), SliceError> {
    slices.fetch_query(&dc("dc1-agents"), name).await.map(|finding| place(&finding))
}

#[tokio::test(start_paused = true)]
async fn the_first_datacenter_that_has_instances_answers() {
    let it = Federation::new();
    assert!(it.seeker.peek("q").is_none(), "nobody was asked yet");
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc1"), 0)), "nobody has any");
    assert!(it.seeker.find("other").await.unwrap().query.is_none());
    it.shelves[2].register("web", "c1");
    tokio::time::sleep(SOON).await;
    assert_eq!(place(&it.seeker.peek("q").unwrap()), (dc("dc3"), 1), "what was asked for once is at hand");
    it.shelves[1].register("web", "b1");
    it.shelves[1].register("web", "b2");
    tokio::time::sleep(SOON).await;
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc2"), 2)));
    it.shelves[0].register("web", "a1");
    assert_eq!(place(&it.seeker.peek("Q").unwrap()), (dc("dc1"), 1));
    let sent = it.world.sent();
    assert!(sent.iter().all(|sent| sent.uri.starts_with("/rpc/slice")), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_datacenter_costs_one_question_its_time_and_the_next_one_answers() {
    let it = Federation::new();
    it.shelves[2].register("web", "c1");
    it.world.link("dc2", Link::Cut);
    let begun = Instant::now();
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc3"), 1)));
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(place(&it.seeker.peek("q").unwrap()), (dc("dc3"), 1));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
    // Nor does a question that has to be asked wait for it again.
    let service = ServiceQuery { service: "db".into(), ..query("", &["dc2", "dc3"]).service };
    it.shelves[0].apply(&put(Query { service, ..query("other", &[]) }, true));
    it.shelves[2].register("db", "c2");
    let begun = Instant::now();
    assert_eq!(it.seeker.find("other").await.unwrap().datacenter, dc("dc3"));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    // Where it could have instances, "nobody has any" is not known.
    it.remove(2, "c1");
    tokio::time::sleep(SOON).await;
    let begun = Instant::now();
    assert_eq!(find(&it.seeker, "q").await, Err(SliceError::Unreachable));
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    it.shelves[1].register("web", "b1");
    it.world.link("dc2", Link::Up(Duration::from_millis(1)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc2"), 1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_datacenter_that_went_away_is_the_last_resort() {
    let it = Federation::new();
    it.shelves[1].register("web", "b1");
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc2"), 1)));
    it.world.link("dc2", Link::Closed);
    it.shelves[2].register("web", "c1");
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc3"), 1)));
    it.remove(2, "c1");
    tokio::time::sleep(SOON).await;
    assert_eq!(find(&it.seeker, "q").await, Ok((dc("dc2"), 1)));
}

#[tokio::test(start_paused = true)]
async fn a_client_agent_has_its_servers_execute_and_follows_what_they_find() {
    let it = Federation::new();
    let slices = it.agent();
    assert_eq!(ask(&slices, "q").await, Ok((dc("dc1"), 0)));
    let known = |expected: (&str, usize)| {
        let finding = slices.peek_query(&dc("dc1-agents"), "Q").unwrap();
        assert_eq!(place(&finding), (dc(expected.0), expected.1));
        let query = finding.query.unwrap();
        assert_eq!(
            (query.name.as_str(), query.token.as_str()),
            ("q", ""),
            "its token stays with the servers"
        );
    };
    it.shelves[2].register("web", "c1");
    tokio::time::sleep(SOON).await;
    known(("dc3", 1));
    it.shelves[1].register("web", "b1");
    tokio::time::sleep(SOON).await;
    known(("dc2", 1));
    it.shelves[0].register("web", "a1");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    known(("dc1", 1));
    // While it finds what is here it is asked about seldom, and hears of a change of the query at once.
    tokio::time::sleep(SOON).await;
    let before = it.world.sent().len();
    let nowhere = ServiceQuery { service: "absent".into(), ..ServiceQuery::default() };
    it.shelves[0].apply(&put(Query { service: nowhere, ..query("q", &[]) }, false));
    tokio::time::sleep(Duration::from_millis(100)).await;
    known(("dc1", 0));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(
        it.world.sent().iter().skip(before).filter(|sent| sent.uri.starts_with("/rpc/query")).count() <= 2
    );
}

#[tokio::test(start_paused = true)]
async fn without_servers_the_last_good_finding_answers_and_else_an_error_in_time() {
    let it = Federation::new();
    it.shelves[0].register("web", "a1");
    let template = Query { template: Some(TemplateSpec::default()), ..query("geo-", &["dc2"]) };
    it.shelves[0].apply(&put(template, true));
    let slices = it.agent();
    for name in ["q", "id-q", "geo-anything"] {
        assert_eq!(ask(&slices, name).await, Ok((dc("dc1"), 1)), "{name}");
    }
    it.world.link("dc1-agents", Link::Cut);
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(ask(&slices, "q").await, Ok((dc("dc1"), 1)));
    }
    let begun = Instant::now();
    assert_eq!(ask(&slices, "other").await, Err(SliceError::Unreachable));
    assert!(begun.elapsed() <= Duration::from_secs(3));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(ask(&slices, "q").await, Err(SliceError::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_query_of_another_datacenter_is_executed_there() {
    let it = Federation::new();
    it.shelves[1].apply(&put(query("theirs", &[]), true));
    it.shelves[1].register("web", "b1");
    let slices = it.world.forwarder("dc1").slices(SlicesConfig::default());
    let finding = slices.fetch_query(&dc("dc2"), "theirs").await.unwrap();
    assert_eq!(place(&finding), (dc("dc2"), 1));
    assert_eq!(slices.fetch_query(&dc("dc9"), "theirs").await.map(|_| ()), Err(SliceError::Unknown));
}
