//! Links that are cut, silent, one-way or lossy, and gateways and whole datacenters that die.

use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, RecordType};
use serde_json::json;
use tribune_integration::{Condition, DnsProbe, Federation, Member, Program, eventually};

use super::{HEALED_LIMIT, REFUSAL_LIMIT, answered, ask, assert_undisturbed, mark, promised, wait_healed};
use crate::LIMIT;

/// Port of the mark in the second datacenter.
const MARK_PORT: u16 = 1001;

fn federation() -> Federation {
    let federation = Federation::start(vec![Member::new("dc1", 3, 1), Member::new("dc2", 1, 1)]).unwrap();
    mark(&federation);
    federation
}

/// Fills the cache of every agent of the first datacenter with the answer of the second.
fn warm(federation: &Federation) {
    let (here, there) = (federation.dc(0), federation.dc(1));
    for agent in here.servers().chain(here.clients()) {
        let hit = || {
            let answer = ask(here, agent, there, "&cached").0;
            Ok(answer.is_some_and(|answer| answer.header("x-cache") == Some("HIT")))
        };
        eventually("the answer is cached", LIMIT, hit).unwrap();
        eventually("DNS knows it too", LIMIT, || Ok(dns_port(federation, agent)? == Some(MARK_PORT)))
            .unwrap();
    }
}

/// The port that an agent of the first datacenter tells about the mark of the second over DNS.
fn dns_port(federation: &Federation, agent: usize) -> anyhow::Result<Option<u16>> {
    let probe = DnsProbe::new(federation.dc(0).node(agent).dns());
    let answer = probe.ask("whereabouts.service.dc2.consul.", RecordType::SRV)?;
    Ok(answer.answers.iter().find_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv.port),
        _ => None,
    }))
}

/// While the second datacenter cannot be reached: plain questions fail in time, cached ones are answered with their
/// age, and the first datacenter notices nothing.
fn assert_cut_off(federation: &Federation, how: &str) {
    let (here, there) = (federation.dc(0), federation.dc(1));
    for agent in here.servers().chain(here.clients()) {
        assert_undisturbed(here);
        let limit = promised(REFUSAL_LIMIT);
        eventually("a plain question fails in time", promised(LIMIT), || {
            let (answer, took) = ask(here, agent, there, "");
            // What was already under way may still arrive.
            Ok(answer.is_some_and(|answer| answer.status == 500) && took < limit)
        })
        .unwrap_or_else(|error| panic!("{how}: {error:#}"));
        let (answer, took) = ask(here, agent, there, "&cached");
        let how = format!("{how}, {}", here.name(agent));
        let answer = answer.unwrap_or_else(|| panic!("{how}: a cached question was not answered"));
        assert_eq!(answer.status, 200, "{how}: {}", answer.text());
        assert_eq!(answer.header("x-cache"), Some("HIT"), "{how}: {:?}", answer.headers);
        answer.header("age").expect("a cached answer tells its age").parse::<u64>().unwrap();
        assert!(took < limit, "{how}: a cached answer took {took:?}");
        // DNS goes on with its last good answer; Consul's has none.
        if !Program::under_test().is_consul() {
            let started = Instant::now();
            assert_eq!(dns_port(federation, agent).unwrap(), Some(MARK_PORT), "{how}");
            assert!(started.elapsed() < limit, "{how}: DNS took {:?}", started.elapsed());
        }
    }
}

#[test]
fn a_bad_link_harms_nobody_and_is_used_again_when_it_heals() {
    let federation = federation();
    let all = [Condition::Refused, Condition::Silent, Condition::OnlyThere, Condition::OnlyBack];
    // Through a silent link Consul's questions hang for minutes.
    let conditions = if Program::under_test().is_consul() { &all[..1] } else { &all };
    for condition in conditions.iter().copied() {
        warm(&federation);
        federation.set_all(condition).unwrap();
        assert_cut_off(&federation, &format!("{condition:?}"));
        federation.set_all(Condition::Open).unwrap();
        println!("{condition:?}: healed after {:?}", wait_healed(&federation));
    }
}

#[test]
fn lost_connections_are_opened_again() {
    let federation = federation();
    let (here, there) = (federation.dc(0), federation.dc(1));
    for _ in 0..10 {
        federation.lose_connections().unwrap();
        for agent in here.servers().chain(here.clients()) {
            let again = || Ok(answered(here, agent, there, ""));
            eventually("the next question is answered", promised(HEALED_LIMIT), again).unwrap();
        }
    }
}

#[test]
fn a_slow_link_only_takes_its_time() {
    let federation = federation();
    federation.delay(Duration::from_millis(500)).unwrap();
    let (here, there) = (federation.dc(0), federation.dc(1));
    for agent in here.servers().chain(here.clients()) {
        eventually("the other datacenter answers", promised(HEALED_LIMIT), || {
            Ok(answered(here, agent, there, ""))
        })
        .unwrap();
        let (_, took) = ask(here, agent, there, "");
        assert!(took >= Duration::from_millis(500), "it took only {took:?}");
        assert_undisturbed(here);
    }
}

#[test]
fn a_dead_gateway_is_replaced_by_another() {
    let members = vec![Member::new("dc1", 1, 1), Member::new("dc2", 3, 0)];
    let mut federation = Federation::start(members).unwrap();
    mark(&federation);
    // The mark lives on the first server, which stays.
    let victim = federation.dc(1).followers().unwrap().into_iter().find(|server| *server != 0).unwrap();
    federation.dc_mut(1).kill(victim).unwrap();
    let (here, there) = (federation.dc(0), federation.dc(1));
    let mut failures = 0;
    for round in 0..40 {
        let agent = round % 2;
        let (answer, took) = ask(here, agent, there, "");
        failures += usize::from(answer.is_none_or(|answer| answer.status != 200));
        assert!(took < promised(REFUSAL_LIMIT), "it took {took:?}");
    }
    println!("{failures} of 40 questions failed after a gateway died");
    // A question that was under way when it died may fail; the next ones go to another gateway.
    assert!(failures <= 2, "{failures} of 40 questions failed");
}

#[test]
fn a_dead_datacenter_harms_nobody_and_comes_back() {
    let mut federation = federation();
    warm(&federation);
    for agent in 0..2 {
        federation.dc_mut(1).kill(agent).unwrap();
    }
    assert_cut_off(&federation, "killed");
    for agent in 0..2 {
        federation.dc_mut(1).node_mut(agent).relaunch().unwrap();
    }
    federation.dc_mut(1).wait_formed().unwrap();
    println!("killed: back after {:?}", wait_healed(&federation));
    // Writes pass again too, and land where they belong.
    let (here, there) = (federation.dc(0), federation.dc(1));
    here.node(0).put("/v1/kv/after?dc=dc2", &json!("back")).unwrap();
    assert_eq!(there.node(0).get("/v1/kv/after?raw").unwrap().text(), "\"back\"");
    assert_eq!(here.node(0).get("/v1/kv/after").unwrap().status, 404);
}
