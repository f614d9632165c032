//! Who must not be let in.

use std::collections::BTreeSet;

use serde_json::json;
use tribune_integration::{Federation, FederationSettings, Member, Program, Request, eventually, skip};

use super::{answered, mark};
use crate::LIMIT;

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let mut one = Federation::start(vec![Member::new("dc1", 1, 0)]).unwrap();
    let mut other = Federation::start(vec![Member::new("dc2", 1, 0)]).unwrap();
    for federation in [&one, &other] {
        mark(federation);
    }
    let join = format!("/v1/agent/join/{}?wan=1", other.entry(0));
    // Consul's gossip has no certificates and lets the stranger in; its requests are refused all the same.
    let joined = Request::new("PUT", &join).send(one.dc(0).http(0)).unwrap();
    assert!(Program::under_test().is_consul() || joined.status != 200, "the stranger was let in");
    for (from, to) in [(&one, &other), (&other, &one)] {
        for _ in 0..10 {
            assert!(!answered(from.dc(0), 0, to.dc(0), ""), "a stranger's question was answered");
        }
    }
    // And nobody was harmed.
    for federation in [&mut one, &mut other] {
        federation.dc_mut(0).wait_formed().unwrap();
        federation.dc(0).write("after", "fine").unwrap();
    }
}

#[test]
fn two_datacenters_with_one_name_are_refused() {
    if Program::under_test().is_consul() {
        return skip("Consul mixes them up");
    }
    let twin = Member { label: "twin".to_owned(), ..Member::new("dc1", 1, 0) };
    let members = vec![Member::new("dc1", 1, 0), twin];
    let mut federation = Federation::launch(FederationSettings::linked(members)).unwrap();
    for number in 0..2 {
        federation.dc_mut(number).wait_formed().unwrap();
    }
    for cluster in federation.dcs() {
        eventually("it says why it does not join", LIMIT, || {
            Ok(cluster.node(0).log().contains("two datacenters are called 'dc1'"))
        })
        .map_err(|error| error.context(about_wan(&cluster.node(0).log())))
        .unwrap();
    }
    // Both have met the other one by now.
    for cluster in federation.dcs() {
        let members = cluster.node(0).json("/v1/agent/members?wan=1").unwrap();
        assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
        let nodes = cluster.node(0).json("/v1/catalog/nodes").unwrap();
        assert_eq!(nodes.as_array().unwrap().len(), 1, "{nodes}");
    }
}

/// The lines of a log about other datacenters, each text once.
fn about_wan(log: &str) -> String {
    let texts = log.lines().filter(|line| line.to_lowercase().contains("wan"));
    // What comes before is the time.
    let texts: BTreeSet<_> = texts.filter_map(|line| line.split_once(' ').map(|(_, text)| text)).collect();
    texts.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_server_of_another_datacenter_does_not_join_the_lan() {
    let members = vec![Member::new("dc1", 1, 0), Member::new("dc2", 1, 0)];
    let federation = Federation::start(members).unwrap();
    let place = federation.dc(1).place(0);
    let join = format!("/v1/agent/join/{}:{}", place.host.address, place.ports.serf_lan);
    let answer = Request::new("PUT", &join).send(federation.dc(0).http(0)).unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
    for number in 0..2 {
        let cluster = federation.dc(number);
        assert_eq!(cluster.alive_members(0).unwrap(), [cluster.name(0)]);
        cluster.node(0).put("/v1/kv/after", &json!("fine")).unwrap();
    }
}
