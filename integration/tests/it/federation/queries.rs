//! Prepared queries whose names DNS answers from other datacenters, at a server and at a client agent.

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use serde_json::json;
use tribune_integration::{DnsProbe, Federation, Member, Program, Request, eventually};

use super::{HEALED_LIMIT, mark, promised};
use crate::LIMIT;

/// A DNS client gives up after five seconds; the rest is for a busy machine.
const DNS_LIMIT: Duration = Duration::from_secs(8);
/// A datacenter that has fallen silent is given up within this time.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// What an agent says about the query in the first datacenter: how it went, and the ports and targets of instances.
fn found(federation: &Federation, agent: usize, name: &str) -> (ResponseCode, Vec<(u16, String)>) {
    let started = Instant::now();
    let probe = DnsProbe::new(federation.dc(0).node(agent).dns());
    let answer = probe.ask(name, RecordType::SRV).unwrap();
    if !Program::under_test().is_consul() {
        assert!(started.elapsed() < DNS_LIMIT, "{name} took {:?}", started.elapsed());
    }
    let instances = answer.answers.iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some((srv.port, srv.target.to_ascii())),
        _ => None,
    });
    (answer.metadata.response_code, instances.collect())
}

/// Waits until every agent of the first datacenter finds the mark of this one.
fn wait_found(federation: &Federation, name: &str, datacenter: usize, limit: Duration) {
    let here = federation.dc(0);
    for agent in here.servers().chain(here.clients()) {
        let what = format!("{} finds {name} in datacenter {datacenter}", here.name(agent));
        eventually(&what, limit, || {
            let (_, instances) = found(federation, agent, name);
            let Some((port, target)) = instances.first() else { return Ok(false) };
            let is_there = usize::from(*port) == 1000 + datacenter && instances.len() == 1;
            // Names in the answer are of the datacenter that was found.
            Ok(is_there && target.contains(&format!(".{}.consul", federation.dc(datacenter).datacenter())))
        })
        .unwrap();
    }
}

#[test]
fn dns_finds_the_instances_of_a_query_in_the_next_datacenter_that_answers() {
    let members = vec![Member::new("dc1", 1, 1), Member::new("dc2", 1, 0), Member::new("dc3", 1, 0)];
    let mut federation = Federation::start(members).unwrap();
    mark(&federation);
    let server = federation.dc(0).servers().start;
    let client = federation.dc(0).clients().start;
    let service = json!({"Service": "whereabouts", "Failover": {"Datacenters": ["dc2", "dc3"]}});
    let query = json!({"Name": "nearby", "Service": service});
    let made = Request::new("POST", "/v1/query").body(query.to_string());
    assert_eq!(made.send_within(federation.dc(0).http(server), LIMIT).unwrap().status, 200);
    wait_found(&federation, "nearby.query.consul.", 0, LIMIT);
    let gone = federation.dc(0).node(server).put("/v1/agent/service/deregister/whereabouts", &json!(null));
    assert_eq!(gone.unwrap().status, 200);
    for name in ["nearby.query.consul.", "nearby.query.dc1.consul."] {
        wait_found(&federation, name, 1, LIMIT);
    }
    let is_consul = Program::under_test().is_consul();
    // Questions to a silent datacenter hang for minutes in Consul.
    if !is_consul {
        federation.dc(1).pause(0).unwrap();
        let started = Instant::now();
        wait_found(&federation, "nearby.query.consul.", 2, promised(SILENCE_LIMIT));
        println!("silent: passed over after {:?}", started.elapsed());
        federation.dc(1).resume(0).unwrap();
        let started = Instant::now();
        wait_found(&federation, "nearby.query.consul.", 1, promised(HEALED_LIMIT));
        println!("silent: found again after {:?}", started.elapsed());
    }
    federation.dc_mut(1).kill(0).unwrap();
    let started = Instant::now();
    wait_found(&federation, "nearby.query.consul.", 2, promised(SILENCE_LIMIT));
    println!("dead: passed over after {:?}", started.elapsed());
    federation.dc_mut(1).restart(0).unwrap();
    let started = Instant::now();
    wait_found(&federation, "nearby.query.consul.", 1, promised(LIMIT));
    println!("dead: found again after {:?}", started.elapsed());
    for agent in [server, client] {
        assert_eq!(found(&federation, agent, "nobody.query.consul.").0, ResponseCode::NXDomain);
    }
    if is_consul {
        return;
    }
    // Without servers a client agent goes on with its last good answer, and knows that it does not know the rest.
    federation.dc_mut(0).kill(server).unwrap();
    for _ in 0..5 {
        assert_eq!(found(&federation, client, "nearby.query.consul.").1.len(), 1);
        assert_eq!(found(&federation, client, "unasked.query.consul.").0, ResponseCode::ServFail);
    }
}
