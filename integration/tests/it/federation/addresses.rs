//! Addresses of another datacenter as an agent shows them that translates (`translate_wan_addrs`).

use hickory_proto::rr::{RData, RecordType};
use serde_json::{Value, json};
use tribune_integration::{
    DnsProbe, Federation, FederationSettings, Member, Request, TestCluster, eventually,
};

use crate::LIMIT;

/// Says that an agent translates.
const HEADER: &str = "x-consul-translate-addresses";

fn federation() -> Federation {
    let mut settings = FederationSettings::linked(vec![Member::new("dc1", 1, 1), Member::new("dc2", 1, 0)]);
    settings.configuration["translate_wan_addrs"] = json!(true);
    Federation::start_with(settings).unwrap()
}

/// Node address, service address and port of the only instance in an answer.
fn shown(entry: &Value) -> Value {
    match entry.get("Service") {
        Some(service) => json!([entry["Node"]["Address"], service["Address"], service["Port"]]),
        None => json!([entry["Address"], entry["ServiceAddress"], entry["ServicePort"]]),
    }
}

fn get(from: &TestCluster, agent: usize, target: &str) -> Value {
    let answer = from.look(agent, target).unwrap();
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    assert_eq!(answer.header(HEADER), Some("true"), "{target}");
    answer.json().unwrap()
}

#[test]
fn who_translates_gives_the_wan_addresses_of_other_datacenters_only() {
    let federation = federation();
    let (here, there) = (federation.dc(0), federation.dc(1));
    let instance = json!({"Service": "remote", "Port": 80, "Address": "10.9.9.9",
                          "TaggedAddresses": {"wan": {"Address": "203.0.113.9", "Port": 8080}}});
    let body = json!({"Node": "outside", "Address": "10.2.0.2", "TaggedAddresses": {"wan": "198.51.100.2"},
                      "Service": instance});
    there.node(0).put("/v1/catalog/register", &body).unwrap();
    let query =
        json!({"Name": "far", "Service": {"Service": "remote", "Failover": {"Datacenters": ["dc2"]}}});
    let made = Request::new("POST", "/v1/query").body(query.to_string());
    assert_eq!(made.send_within(here.http(0), LIMIT).unwrap().status, 200);
    let wan = json!(["198.51.100.2", "203.0.113.9", 8080]);
    for agent in here.servers().chain(here.clients()) {
        for target in ["/v1/health/service/remote?dc=dc2", "/v1/catalog/service/remote?dc=dc2"] {
            let known = || Ok(here.look(agent, target)?.text().contains("outside"));
            eventually("the instance is known", LIMIT, known).unwrap();
            assert_eq!(shown(&get(here, agent, target)[0]), wan, "{target} at {}", here.name(agent));
        }
        assert_eq!(shown(&get(here, agent, "/v1/query/far/execute")["Nodes"][0]), wan);
        let node = get(here, agent, "/v1/catalog/node/outside?dc=dc2");
        let service = &node["Services"]["remote"];
        assert_eq!(json!([node["Node"]["Address"], service["Address"], service["Port"]]), wan);
        let probe = DnsProbe::new(here.node(agent).dns());
        let answer = probe.ask("far.query.consul.", RecordType::A).unwrap();
        assert!(
            matches!(&answer.answers[0].data, RData::A(ip) if ip.to_string() == "203.0.113.9"),
            "{answer:?}"
        );
    }
    // In its own datacenter it is where it is.
    let own = get(there, 0, "/v1/health/service/remote");
    assert_eq!(shown(&own[0]), json!(["10.2.0.2", "10.9.9.9", 80]));
}
