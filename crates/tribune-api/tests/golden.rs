//! The reference version's answers, byte by byte, from the same registrations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use tribune_api::agent::{self, ServiceDefinition};
use tribune_api::catalog::Registration;
use tribune_api::convert::LocalService;
use tribune_api::health::ServiceEntry;
use tribune_api::render::{
    AgentServiceJson, CatalogServiceJson, CheckJson, HealthEntryJson, NodeJson, NodeServiceListJson,
    NodeServicesJson, ServiceHealthJson, ServiceJson, services,
};
use tribune_api::{Addresses, Layout, catalog, health, json, status};
use tribune_core::{Authority, Check, CheckSpec, Command, Index, State, Status};

const DC: &str = "dc1";
const EVERYTHING: &Authority = &Authority::Unrestricted;

fn golden(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/consul-1.8.7");
    fs::read_to_string(folder.join(name)).expect("a golden file")
}

/// Index and body of each request to a path.
fn requests(path: &str) -> Vec<(u64, String)> {
    let text = golden("requests.txt");
    let fields = text.lines().map(|line| {
        let (index, rest) = line.split_once(' ').expect("an index");
        let (path, body) = rest.split_once(' ').expect("a path");
        (index.parse().expect("a number"), path, body)
    });
    let of_path = fields.filter(|(_, found, _)| *found == path);
    of_path.map(|(index, _, body)| (index, body.to_owned())).collect()
}

fn state() -> State {
    let mut state = State::default();
    for (index, body) in requests("catalog/register") {
        let body = Registration::from_body(body.as_bytes()).expect("a registration");
        let command = Command::try_from(body).expect("a command");
        state.apply(Index(index), &command);
    }
    state
}

fn local_services() -> BTreeMap<String, LocalService> {
    let read = |(_, body): (u64, String)| {
        let body = ServiceDefinition::from_body(body.as_bytes()).expect("a definition");
        LocalService::try_from(body).expect("a service")
    };
    let services = requests("agent/service/register").into_iter().map(read);
    services.map(|service| (service.instance.id.as_str().to_owned(), service)).collect()
}

#[track_caller]
fn assert_golden(name: &str, actual: Vec<u8>) {
    let actual = String::from_utf8(actual).expect("text");
    let expected = golden(name);
    for (at, (a, e)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, e, "{name}, line {}", at + 1);
    }
    assert_eq!(actual, expected, "{name}");
}

fn pretty_list<T: serde::Serialize>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    json::list(items, Layout::Pretty).expect("JSON")
}

#[test]
fn catalog_lists() {
    let state = state();
    let view = state.view(EVERYTHING);
    assert_golden("catalog-nodes.json", pretty_list(view.nodes().map(|node| NodeJson::new(&node, DC))));
    // The reference version gives tags in no particular order.
    let tags = |text: &str| -> BTreeMap<String, BTreeSet<String>> { serde_json::from_str(text).unwrap() };
    let actual = services(view.services(), Layout::Compact).expect("JSON");
    let actual = String::from_utf8(actual).expect("text");
    assert_eq!(tags(&actual), tags(&golden("catalog-services.json")));
    assert_eq!(actual, r#"{"mesh":[],"web":["\u003c\u0026\u003e","primary","v1"]}"#);
    for service in ["web", "mesh", "unknown"] {
        let instances = view.instances(service);
        let entries = instances.map(|instance| CatalogServiceJson {
            instance,
            datacenter: DC,
            addresses: Addresses::Own,
        });
        assert_golden(&format!("catalog-service-{service}.json"), pretty_list(entries));
    }
}

#[test]
fn catalog_nodes() {
    let state = state();
    let view = state.view(EVERYTHING);
    for name in ["alpha", "beta", "unknown"] {
        let node = view.node(name);
        let services: Vec<_> = node
            .iter()
            .flat_map(|node| node.instances().map(|instance| ServiceJson(instance.service, Addresses::Own)))
            .collect();
        let body = node.map(|node| NodeServicesJson { node: NodeJson::new(&node, DC), services: &services });
        let text = json::to_vec(&body, Layout::Pretty).expect("JSON");
        assert_golden(&format!("catalog-node-{name}.json"), text);
        if name != "alpha" {
            let text = json::to_vec(&NodeServiceListJson(body), Layout::Pretty).expect("JSON");
            assert_golden(&format!("catalog-node-services-{name}.json"), text);
        }
    }
}

#[test]
fn health_lists() {
    let state = state();
    let view = state.view(EVERYTHING);
    for name in ["alpha", "gamma"] {
        let node = view.node(name).expect("a node");
        assert_golden(&format!("health-node-{name}.json"), pretty_list(node.checks().map(CheckJson::from)));
    }
    let of_web = view.checks().filter(|check| check.service.is_some_and(|s| s.name.as_str() == "web"));
    assert_golden("health-checks-web.json", pretty_list(of_web.map(CheckJson::from)));
    let critical = view.checks().filter(|check| check.check.value.status == Status::Critical);
    assert_golden("health-state-critical.json", pretty_list(critical.map(CheckJson::from)));
    let entries = view.instances("web").map(|instance| HealthEntryJson {
        instance,
        datacenter: DC,
        addresses: Addresses::Own,
    });
    assert_golden("health-service-web.json", pretty_list(entries));
}

#[test]
fn agent_services() {
    let services = local_services();
    let shown = services
        .iter()
        .map(|(id, service)| (id, AgentServiceJson { service: &service.instance, content_hash: None }));
    assert_golden("agent-services.json", json::object(shown, Layout::Pretty).expect("JSON"));
    let one = golden("agent-service-api-1.json");
    let hash = one.split('"').rev().nth(1).expect("a hash");
    let shown = AgentServiceJson { service: &services["api-1"].instance, content_hash: Some(hash) };
    assert_golden("agent-service-api-1.json", json::to_vec(&shown, Layout::Pretty).expect("JSON"));
}

#[test]
fn agent_checks() {
    let services = local_services();
    let body = requests("agent/check/register").remove(0).1;
    let body = agent::CheckDefinition::from_body(body.as_bytes()).expect("a definition");
    let own = (CheckSpec::try_from(body).expect("a check"), None);
    let of_services = services
        .values()
        .flat_map(|service| service.checks.iter().map(move |check| (check.clone(), Some(&service.instance))));
    let mut checks: Vec<(Check, _)> = of_services
        .chain([own])
        .map(|(spec, service)| (spec.to_check(spec.kind().expect("a kind"), spec.status, "".into()), service))
        .collect();
    checks.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    let shown = checks.iter().map(|(check, service)| {
        (check.id.as_str(), CheckJson { node: "n1", check, service: *service, indexes: (0, 0) })
    });
    assert_golden("agent-checks.json", json::object(shown, Layout::Pretty).expect("JSON"));
    let unknown = ServiceHealthJson { status: "critical", service: None, checks: &[] };
    assert_golden("agent-health-unknown.json", json::to_vec(&unknown, Layout::Pretty).expect("JSON"));
}

#[test]
fn status_answers() {
    let address: String = serde_json::from_str(&golden("status-leader.json")).expect("a string");
    assert_golden("status-leader.json", status::leader(Some(&address), Layout::Pretty).expect("JSON"));
    assert_golden("status-peers.json", status::peers([address.as_str()], Layout::Pretty).expect("JSON"));
    assert_eq!(status::leader(None, Layout::Compact).expect("JSON"), b"\"\"");
}

/// What clients read, from the same files.
#[test]
fn clients_read_what_servers_write() {
    let entries: Vec<ServiceEntry> = serde_json::from_str(&golden("health-service-web.json")).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].service.weights, catalog::Weights { passing: 10, warning: 2 });
    assert_eq!(entries[0].service.tagged_addresses["wan"].port, 80);
    assert_eq!(entries[0].checks[1].definition.http, "http://10.0.0.11:8080/health?a=1&b=2");
    assert!(entries[1].service.tags.is_empty() && entries[1].service.meta.is_empty());
    let nodes: Vec<catalog::Node> = serde_json::from_str(&golden("catalog-nodes.json")).unwrap();
    assert_eq!(nodes[0].tagged_addresses["wan"], "192.0.2.1");
    let listed: Vec<catalog::CatalogService> =
        serde_json::from_str(&golden("catalog-service-web.json")).unwrap();
    assert_eq!(listed[0].service_port, 8080);
    let on_node: catalog::NodeServices = serde_json::from_str(&golden("catalog-node-beta.json")).unwrap();
    assert_eq!(on_node.services["native"].port, 9000);
    let checks: Vec<health::HealthCheck> = serde_json::from_str(&golden("health-node-gamma.json")).unwrap();
    assert_eq!(checks[0].definition.ttl.unwrap().as_secs(), 15);
    let services: BTreeMap<String, agent::AgentService> =
        serde_json::from_str(&golden("agent-services.json")).unwrap();
    assert_eq!(services["six"].tagged_addresses["wan_ipv6"].port, 82);
    let members: Vec<agent::Member> = serde_json::from_str(&golden("agent-members.json")).unwrap();
    assert_golden("agent-members.json", json::to_vec(&members, Layout::Pretty).unwrap());
    let health: agent::ServiceHealth = serde_json::from_str(&golden("agent-health-unknown.json")).unwrap();
    assert_eq!(health.service, None);
}
