//! Datacenters that know each other, over links that can be bad.

mod addresses;
mod expiry;
mod faults;
mod machines;
mod queries;
mod strangers;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tribune_integration::{
    Answer, Condition, Federation, Member, Program, Request, TestCluster, eventually, skip,
};

use crate::LIMIT;

/// A question to an unreachable datacenter is answered within a second; the rest is for a busy machine.
const REFUSAL_LIMIT: Duration = Duration::from_secs(3);
/// A healed link is used again within five seconds; the rest is for a busy machine.
const HEALED_LIMIT: Duration = Duration::from_secs(15);
/// A local question takes milliseconds; one that waits for another datacenter would take longer than this.
const LOCAL_LIMIT: Duration = Duration::from_secs(1);
/// How often each local question is asked.
const LOOKS: usize = 3;
/// Consul waits for its own timeouts.
const PEER_LIMIT: Duration = Duration::from_secs(90);
/// Equal questions of the storm, and how many are under way at once.
const STORM: usize = 1000;
const STORM_AT_ONCE: usize = 100;

/// What Tribune promises; Consul promises nothing but comes to it in the end.
fn promised(limit: Duration) -> Duration {
    if Program::under_test().is_consul() { PEER_LIMIT } else { limit }
}

/// Registers a service in every datacenter whose metadata say where it is.
fn mark(federation: &Federation) {
    for (number, cluster) in federation.dcs().iter().enumerate() {
        let meta = json!({"home": cluster.datacenter()});
        let service = json!({"Name": "whereabouts", "Port": 1000 + number, "Meta": meta});
        cluster.node(0).put("/v1/agent/service/register", &service).unwrap();
        eventually("the mark is in the catalog", LIMIT, || {
            Ok(cluster.look(0, "/v1/catalog/service/whereabouts")?.text().contains("whereabouts"))
        })
        .unwrap();
    }
}

/// Asks an agent where `whereabouts` is in a datacenter. A good answer must be from there.
fn ask(from: &TestCluster, agent: usize, to: &TestCluster, more: &str) -> (Option<Answer>, Duration) {
    let started = Instant::now();
    let target = format!("/v1/health/service/whereabouts?dc={}{more}", to.datacenter());
    let answer = Request::new("GET", &target).send_within(from.http(agent), promised(LIMIT)).ok();
    if let Some(answer) = answer.as_ref().filter(|answer| answer.status == 200) {
        let body = answer.json().unwrap();
        assert_eq!(body.as_array().unwrap().len(), 1, "{body}");
        assert_eq!(body[0]["Service"]["Meta"]["home"], to.datacenter(), "from the wrong datacenter");
    }
    (answer, started.elapsed())
}

fn answered(from: &TestCluster, agent: usize, to: &TestCluster, more: &str) -> bool {
    ask(from, agent, to, more).0.is_some_and(|answer| answer.status == 200)
}

/// Asks every agent of a datacenter about itself: always answered, at once.
fn assert_undisturbed(cluster: &TestCluster) {
    for agent in cluster.servers().chain(cluster.clients()).filter(|agent| cluster.node(*agent).running()) {
        for path in ["/v1/health/service/whereabouts", "/v1/catalog/nodes?stale", "/v1/kv/absent"] {
            // What waits for another datacenter is slow each time; a busy machine is so now and then.
            let times: Vec<_> = (0..LOOKS)
                .map(|_| {
                    let started = Instant::now();
                    let answer = cluster.look(agent, path).unwrap();
                    assert!(
                        matches!(answer.status, 200 | 404),
                        "{path}: {} {}",
                        answer.status,
                        answer.text()
                    );
                    started.elapsed()
                })
                .collect();
            assert!(times.iter().any(|took| *took < LOCAL_LIMIT), "{path} took {times:?}");
        }
    }
}

/// Whether every running agent of a datacenter gets answers from another one.
fn reaches(from: &TestCluster, to: &TestCluster) -> bool {
    let mut agents = from.servers().chain(from.clients()).filter(|agent| from.node(*agent).running());
    agents.all(|agent| answered(from, agent, to, ""))
}

/// Waits until every datacenter reaches every other one, and itself; says how long that took.
fn wait_healed(federation: &Federation) -> Duration {
    let started = Instant::now();
    eventually("the datacenters reach each other again", promised(HEALED_LIMIT), || {
        Ok(federation.dcs().iter().all(|from| federation.dcs().iter().all(|to| reaches(from, to))))
    })
    .unwrap();
    started.elapsed()
}

#[test]
fn two_datacenters_reach_each_other() {
    let federation = Federation::start(vec![Member::new("dc1", 3, 1), Member::new("dc2", 1, 0)]).unwrap();
    mark(&federation);
    for (here, there) in [(0, 1), (1, 0)] {
        let from = federation.dc(here);
        for agent in from.servers().chain(from.clients()) {
            let datacenters = from.node(agent).json("/v1/catalog/datacenters").unwrap();
            let mut names: Vec<String> = serde_json::from_value(datacenters).unwrap();
            assert_eq!(names.first().map(String::as_str), Some(from.datacenter()), "its own is nearest");
            names.sort();
            assert_eq!(names, ["dc1", "dc2"], "at {}", from.name(agent));
            assert!(answered(from, agent, federation.dc(there), ""));
        }
        let members = from.node(0).json("/v1/agent/members?wan=1").unwrap();
        assert_eq!(members.as_array().unwrap().len(), 4, "{members}");
    }
}

#[test]
fn a_storm_of_equal_questions_is_one_on_the_wire() {
    let federation = Federation::start(vec![Member::new("dc1", 1, 0), Member::new("dc2", 1, 0)]).unwrap();
    let (here, there) = (federation.dc(0), federation.dc(1));
    for number in 0..300 {
        let service = json!({"ID": format!("crowd-{number}"), "Service": "crowd", "Port": 1000 + number});
        let body = json!({"Node": format!("node-{number}"), "Address": "10.0.0.1", "Service": service});
        there.node(0).put("/v1/catalog/register", &body).unwrap();
    }
    let target = "/v1/health/service/crowd?dc=dc2";
    let quiet = federation.traffic(1).back;
    let plain = here.node(0).get(target).unwrap();
    assert_eq!(plain.status, 200);
    let one = federation.traffic(1).back - quiet;
    let before = federation.traffic(1).back;
    thread::scope(|scope| {
        for _ in 0..STORM_AT_ONCE {
            scope.spawn(|| {
                for _ in 0..STORM / STORM_AT_ONCE {
                    let answer = here.node(0).get(&format!("{target}&cached")).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.body.len(), plain.body.len());
                }
            });
        }
    });
    let storm = federation.traffic(1).back - before;
    println!("one question: {one} bytes over the link, {STORM} cached ones: {storm} bytes");
    assert!(storm < one * 3, "{STORM} equal questions took {storm} bytes, one takes {one}");
}

#[test]
fn other_datacenters_answer_while_the_own_one_has_no_leader() {
    let mut federation = Federation::start(vec![Member::new("dc1", 3, 1), Member::new("dc2", 1, 0)]).unwrap();
    mark(&federation);
    let leader = federation.dc(0).wait_leader().unwrap();
    let followers = federation.dc(0).followers().unwrap();
    federation.dc_mut(0).kill(followers[0]).unwrap();
    federation.dc_mut(0).kill(leader).unwrap();
    let (here, there) = (federation.dc(0), federation.dc(1));
    eventually("the last server has no leader", LIMIT, || {
        Ok(here.look(followers[1], "/v1/status/leader?stale")?.text() == "\"\"")
    })
    .unwrap();
    for agent in [followers[1], here.clients().start] {
        let reached = || Ok(answered(here, agent, there, ""));
        eventually("the other datacenter answers", promised(REFUSAL_LIMIT), reached).unwrap();
    }
}

#[test]
fn a_datacenter_that_can_only_dial_out_is_asked_over_its_own_connection() {
    if Program::under_test().is_consul() {
        return skip("Consul needs every server to reach every other one");
    }
    let federation = Federation::start(vec![Member::new("dc1", 1, 0), Member::new("dc2", 1, 0)]).unwrap();
    mark(&federation);
    federation.set(1, Condition::Refused).unwrap();
    federation.lose_connections().unwrap();
    let (outside, behind) = (federation.dc(0), federation.dc(1));
    assert!(!answered(outside, 0, behind, ""), "the way in is closed");
    eventually("the way out carries requests in", LIMIT, || Ok(answered(outside, 0, behind, ""))).unwrap();
    assert!(answered(behind, 0, outside, ""));
    let write = Request::new("PUT", "/v1/kv/from-outside?dc=dc2").body("x").send(outside.http(0)).unwrap();
    assert_eq!((write.status, write.text().trim()), (200, "true"));
}
