//! Agents that come back: restarted ones keep their services in DNS, a whole datacenter finds itself again, an agent
//! without its data is taken back, and data of another datacenter is not used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tribune_integration::{
    ClusterSettings, DnsProbe, Host, Program, Ready, Settings, TestCluster, TestNode, Until, calm,
    eventually, skip,
};

use crate::LIMIT;

/// Services of the server that is restarted: one from its configuration, one registered by an application.
const SERVICES: [&str; 2] = ["from-file", "from-api"];

fn with_check(name: &str) -> Value {
    json!({"name": name, "port": 80, "check": {"id": format!("ttl-{name}"), "ttl": "1h"}})
}

#[test]
fn a_restarted_server_keeps_its_services_in_dns_all_the_time() {
    let settings = ClusterSettings { configuration: calm(), ..ClusterSettings::default() };
    let places = settings.places().unwrap();
    let mut extra = vec![json!({}); places.len()];
    extra[0] = json!({"service": with_check(SERVICES[0])});
    let mut cluster = TestCluster::launch(settings, places, &extra).unwrap();
    cluster.wait_formed().unwrap();
    cluster.node(0).put("/v1/agent/service/register", &with_check(SERVICES[1])).unwrap();
    for name in SERVICES {
        cluster.node(0).put(&format!("/v1/agent/check/pass/ttl-{name}"), &json!(null)).unwrap();
    }
    let probes: Vec<_> = [1, 2].map(|server| DnsProbe::new(cluster.node(server).dns())).into();
    for name in SERVICES {
        eventually("DNS has the service", LIMIT, || {
            Ok(probes.iter().all(|probe| instances(probe, name) == Some(1)))
        })
        .unwrap();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let until = Until(&over);
        let watchers: Vec<_> = probes.iter().map(|probe| scope.spawn(|| watch(probe, &over))).collect();
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            cluster.node(0).signal(signal).unwrap();
            cluster.node_mut(0).wait_end().unwrap();
            cluster.restart(0).unwrap();
            cluster.wait_formed().unwrap();
        }
        drop(until);
        for watcher in watchers {
            let (asked, gone) = watcher.join().unwrap();
            assert!(asked > 0 && gone.is_empty(), "of {asked} answers these had no instance: {gone:?}");
        }
    });
}

/// Asks until it is over: how often, and for what there was no instance.
fn watch(probe: &DnsProbe, over: &AtomicBool) -> (usize, Vec<&'static str>) {
    let (mut asked, mut gone) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        for name in SERVICES {
            asked += 1;
            if instances(probe, name) != Some(1) {
                gone.push(name);
            }
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    (asked, gone)
}

fn instances(probe: &DnsProbe, name: &str) -> Option<usize> {
    let answer = probe.ask(&format!("{name}.service.consul."), RecordType::SRV).ok()?;
    Some(answer.answers.len())
}

#[test]
fn a_whole_datacenter_comes_back_by_itself_and_with_other_addresses() {
    let mut cluster = TestCluster::start(3, 1).unwrap();
    let client = cluster.clients().start;
    let all: Vec<_> = cluster.servers().chain(cluster.clients()).collect();
    cluster.write("kept", "yes").unwrap();
    cluster.node(client).put("/v1/agent/service/register", &json!({"Name": "kept", "Port": 1})).unwrap();
    eventually("the service is in the catalog", LIMIT, || Ok(has_service(&cluster))).unwrap();
    // First nobody is named: they find each other by what they remember. Then all addresses change, and the
    // configuration names the new ones, as an operator would.
    for moved in [false, true] {
        all.iter().try_for_each(|agent| cluster.kill(*agent)).unwrap();
        if moved {
            all.iter().try_for_each(|agent| cluster.move_to(*agent, Host::loopback())).unwrap();
        }
        let join: Vec<_> = cluster.servers().filter(|_| moved).map(|server| lan(&cluster, server)).collect();
        for agent in &all {
            cluster.node_mut(*agent).configure(&json!({"retry_join": join})).unwrap();
            cluster.node_mut(*agent).relaunch().unwrap();
        }
        cluster.wait_formed().unwrap();
        let kept = cluster.node(client).get("/v1/kv/kept?consistent&raw").unwrap();
        assert_eq!(kept.text(), "yes", "moved: {moved}");
        eventually("the service is there", LIMIT, || Ok(has_service(&cluster))).unwrap();
        cluster.write(&format!("after-{moved}"), "yes").unwrap();
    }
    let mut addresses: Vec<_> = cluster.servers().map(|server| cluster.peer_address(server)).collect();
    addresses.sort();
    eventually("the voters have the new addresses", LIMIT * 2, || {
        Ok(cluster.voters().is_ok_and(|voters| voters == addresses))
    })
    .unwrap();
}

fn has_service(cluster: &TestCluster) -> bool {
    cluster.look(0, "/v1/health/service/kept?passing").is_ok_and(|answer| answer.text().contains("\"kept\""))
}

fn lan(cluster: &TestCluster, server: usize) -> String {
    let place = cluster.place(server);
    format!("{}:{}", place.host.address, place.ports.serf_lan)
}

/// As another server, with an id of its own, in the place of the old one.
#[test]
fn a_server_that_lost_its_data_comes_back_under_its_name() {
    comes_back_without_data(&vec![json!({}); 3]);
}

/// As the server whose votes and confirmations the others remember, which it is no more.
#[test]
fn a_server_that_lost_its_data_comes_back_with_the_id_of_its_configuration() {
    let id = |number| json!({"node_id": format!("5b9a9c9e-0000-4000-8000-{number:012}")});
    comes_back_without_data(&[id(1), id(2), id(3)]);
}

fn comes_back_without_data(extra: &[Value]) {
    let settings = ClusterSettings { configuration: calm(), ..ClusterSettings::default() };
    let places = settings.places().unwrap();
    let mut cluster = TestCluster::launch(settings, places, extra).unwrap();
    cluster.wait_formed().unwrap();
    cluster.write("kept", "yes").unwrap();
    let lost = cluster.followers().unwrap()[0];
    cluster.kill(lost).unwrap();
    std::fs::remove_dir_all(cluster.node(lost).data_dir()).unwrap();
    cluster.restart(lost).unwrap();
    cluster.wait_formed().unwrap();
    eventually("it has what was written", LIMIT, || {
        Ok(cluster.look(lost, "/v1/kv/kept?stale&raw")?.text() == "yes")
    })
    .unwrap();
    eventually("it votes and the one it was is gone", LIMIT * 2, || {
        let own = cluster.look(lost, "/v1/agent/self")?.json()?["Config"]["NodeID"].clone();
        let Ok(leader) = cluster.leader() else { return Ok(false) };
        let Ok(servers) = cluster.look(leader, "/v1/operator/raft/configuration")?.json() else {
            // The leader may have changed under the question.
            return Ok(false);
        };
        let voters = servers["Servers"].as_array().map(|servers| servers.as_slice()).unwrap_or_default();
        let votes = voters.iter().any(|server| server["ID"] == own && server["Voter"] == true);
        Ok(votes && voters.len() == 3)
    })
    .map_err(|error| error.context(cluster.log_tails()))
    .unwrap();
    eventually("the catalog has it", LIMIT, || {
        let own = cluster.look(lost, "/v1/agent/self")?.json()?["Config"]["NodeID"].clone();
        let node = cluster.look(lost, &format!("/v1/catalog/node/{}", cluster.name(lost)))?;
        Ok(node.status == 200 && node.json()?["Node"]["ID"] == own)
    })
    .map_err(|error| error.context(cluster.log_tails()))
    .unwrap();
    // It counts: without it there is no majority.
    let other = cluster.followers().unwrap().into_iter().find(|server| *server != lost).unwrap();
    cluster.kill(other).unwrap();
    cluster.write("after", "yes").unwrap();
}

#[test]
fn a_client_agent_refuses_the_data_of_another_datacenter() {
    if Program::under_test().is_consul() {
        return skip("Consul does not look");
    }
    let settings = Settings { arguments: Vec::new(), ready: Ready::Answers, ..Settings::default() };
    let mut agent = TestNode::start_with(settings).unwrap();
    agent.put("/v1/agent/service/register", &json!({"Name": "kept", "Port": 1})).unwrap();
    agent.kill().unwrap();
    agent.configure(&json!({"datacenter": "dc2"})).unwrap();
    let (status, said) = agent.start_refused().unwrap();
    assert!(!status.success(), "it took the data of dc1");
    assert!(said.contains("belongs to datacenter \"dc1\""), "{said}");
    agent.configure(&json!({"datacenter": "dc1"})).unwrap();
    agent.restart().unwrap();
    assert!(agent.get("/v1/agent/services").unwrap().text().contains("kept"), "the refused start changed it");
}
