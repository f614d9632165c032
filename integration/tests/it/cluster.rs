//! A datacenter of three servers and client agents: it forms, and it survives what its machines do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::json;
use tribune_integration::{DnsProbe, Host, Program, Request, TestCluster, Until, eventually, skip};

use crate::LIMIT;

/// Longer than servers wait for a leader to come back before they refuse a write (7 s).
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn three_servers_and_a_client_agent_are_one_datacenter() {
    let cluster = TestCluster::start(3, 1).unwrap();
    let leader = cluster.wait_leader().unwrap();
    assert_eq!(cluster.followers().unwrap().len(), 2);
    let mut servers: Vec<_> = cluster.servers().map(|server| cluster.peer_address(server)).collect();
    servers.sort();
    assert_eq!(cluster.voters().unwrap(), servers);
    // What is written anywhere is read everywhere.
    for agent in cluster.servers().chain(cluster.clients()) {
        let key = format!("/v1/kv/written-at-{agent}");
        cluster.node(agent).put(&key, &json!(agent)).unwrap();
        for reader in [leader, 0, 1, 2, 3] {
            let raw = cluster.node(reader).get(&format!("{key}?raw")).unwrap();
            assert_eq!(raw.text(), agent.to_string(), "written at {agent}, read at {reader}");
        }
    }
}

#[test]
fn a_minority_refuses_writes_in_time_and_answers_stale_reads() {
    let mut cluster = TestCluster::start(3, 1).unwrap();
    cluster.write("before", "yes").unwrap();
    let leader = cluster.wait_leader().unwrap();
    let followers = cluster.followers().unwrap();
    let (victim, left) = (followers[0], followers[1]);
    // What the last one has must be there before the others are gone.
    eventually("the write is everywhere", LIMIT, || {
        Ok(cluster.look(left, "/v1/kv/before?stale&raw")?.text() == "yes")
    })
    .unwrap();
    cluster.kill(victim).unwrap();
    cluster.kill(leader).unwrap();
    eventually("the last one notices", LIMIT, || {
        Ok(cluster.look(left, "/v1/status/leader?stale").is_ok_and(|answer| answer.text() == "\"\""))
    })
    .unwrap();
    let register = json!({"Node": "n", "Address": "10.0.0.1", "Service": {"Service": "s"}}).to_string();
    for agent in [left, cluster.clients().start] {
        for (target, body) in [("/v1/kv/after", "no"), ("/v1/catalog/register", register.as_str())] {
            let request = Request::new("PUT", target).body(body);
            // Consul's client agents first complain of each dead server that they try.
            let attempts = if Program::under_test().is_consul() { 20 } else { 1 };
            let mut said = String::new();
            let refused = (0..attempts).any(|_| {
                let answer = request.send_within(cluster.http(agent), REFUSAL_LIMIT).unwrap();
                assert_eq!(answer.status, 500, "{target} at {agent}: {}", answer.text());
                said = answer.text();
                said.contains("No cluster leader")
            });
            assert!(refused, "{target} at {agent}: {said}");
        }
    }
    let stale = cluster.look(left, "/v1/kv/before?stale").unwrap();
    assert_eq!(stale.status, 200, "{}", stale.text());
    assert_eq!(stale.header("x-consul-knownleader"), Some("false"));
    let contact: u64 = stale.header("x-consul-lastcontact").unwrap().parse().unwrap();
    assert!(contact > 0, "a server without leader claims to be fresh");
    assert_eq!(cluster.look(left, "/v1/catalog/nodes?stale").unwrap().status, 200);
    for server in [leader, victim] {
        cluster.restart(server).unwrap();
    }
    cluster.wait_formed().unwrap();
    cluster.write("healed", "yes").unwrap();
    let after = cluster.node(left).get("/v1/kv/after?consistent").unwrap();
    assert_eq!(after.status, 404, "a refused write was done: {}", after.text());
}

#[test]
fn a_client_agent_answers_from_its_last_good_state_when_all_servers_are_gone() {
    if Program::under_test().is_consul() {
        return skip("Consul's client agents have no answers without servers");
    }
    let mut cluster = TestCluster::start(3, 1).unwrap();
    let client = cluster.clients().start;
    let service = json!({"Name": "kept", "Port": 4242, "Check": {"TTL": "1h", "Status": "passing"}});
    cluster.node(client).put("/v1/agent/service/register", &service).unwrap();
    let probe = DnsProbe::new(cluster.node(client).dns());
    let known = || Ok(!probe.ask("kept.service.consul.", RecordType::SRV)?.answers.is_empty());
    eventually("DNS knows the service", LIMIT, known).unwrap();
    let cached = "/v1/health/service/kept?cached";
    let before = cluster.node(client).json(cached).unwrap();
    for server in cluster.servers() {
        cluster.kill(server).unwrap();
    }
    for _ in 0..20 {
        let answer = probe.ask("kept.service.consul.", RecordType::SRV).unwrap();
        assert_eq!(answer.answers.len(), 1, "{answer:?}");
    }
    let answer = cluster.look(client, cached).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json().unwrap(), before);
    assert_eq!(answer.header("x-cache"), Some("HIT"));
    answer.header("age").expect("a cached answer tells its age").parse::<u64>().unwrap();
    // The agent's own list takes changes, and they reach the catalog when there is one again.
    let late = json!({"Name": "late", "Port": 1});
    cluster.node(client).put("/v1/agent/service/register", &late).unwrap();
    for server in cluster.servers() {
        cluster.node_mut(server).relaunch().unwrap();
    }
    cluster.wait_formed().unwrap();
    eventually("the late service is in the catalog", LIMIT, || {
        Ok(cluster.look(0, "/v1/catalog/service/late")?.text().contains("\"late\""))
    })
    .unwrap();
}

#[test]
fn a_dead_client_agents_services_leave_dns_and_come_back_with_it() {
    let mut cluster = TestCluster::start(3, 1).unwrap();
    let client = cluster.clients().start;
    let service = json!({"Name": "mortal", "Port": 80});
    cluster.node(client).put("/v1/agent/service/register", &service).unwrap();
    let wait_for = |cluster: &TestCluster, count: usize| {
        let probes: Vec<_> =
            cluster.servers().map(|server| DnsProbe::new(cluster.node(server).dns())).collect();
        eventually(&format!("every server's DNS has {count} instances"), LIMIT, || {
            let counts = probes.iter().map(|probe| probe.ask("mortal.service.consul.", RecordType::A));
            Ok(counts.collect::<Result<Vec<_>, _>>()?.iter().all(|answer| answer.answers.len() == count))
        })
        .unwrap();
    };
    wait_for(&cluster, 1);
    cluster.kill(client).unwrap();
    wait_for(&cluster, 0);
    let node = format!("/v1/health/node/{}", cluster.name(client));
    let checks = cluster.node(0).json(&node).unwrap();
    let serf = checks.as_array().unwrap().iter().find(|check| check["CheckID"] == "serfHealth").unwrap();
    assert_eq!(serf["Status"], "critical");
    let all = cluster.node(0).json("/v1/catalog/service/mortal").unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "a dead node's services stay in the catalog");
    cluster.restart(client).unwrap();
    wait_for(&cluster, 1);
}

#[test]
fn a_server_returns_with_another_address() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    let mover = cluster.followers().unwrap()[0];
    cluster.write("before", "yes").unwrap();
    cluster.kill(mover).unwrap();
    cluster.write("meanwhile", "yes").unwrap();
    cluster.move_to(mover, Host::loopback()).unwrap();
    cluster.restart(mover).unwrap();
    cluster.wait_formed().unwrap();
    // Consul looks again only once a minute.
    eventually("the voters have the new address", LIMIT * 2, || {
        Ok(cluster.voters().is_ok_and(|voters| voters.contains(&cluster.peer_address(mover))))
    })
    .unwrap();
    assert_eq!(cluster.voters().unwrap().len(), 3);
    let caught_up = || Ok(cluster.look(mover, "/v1/kv/meanwhile?stale&raw")?.text() == "yes");
    eventually("it has what was written meanwhile", LIMIT, caught_up).unwrap();
    // It counts: without it there is no majority.
    let other = cluster.followers().unwrap().into_iter().find(|server| *server != mover).unwrap();
    cluster.kill(other).unwrap();
    cluster.write("after", "yes").unwrap();
}

#[test]
fn agents_leave_and_come_back() {
    let mut cluster = TestCluster::start(3, 1).unwrap();
    let client = cluster.clients().start;
    let follower = cluster.followers().unwrap()[0];
    let service = json!({"Name": "leaving", "Port": 80});
    cluster.node(client).put("/v1/agent/service/register", &service).unwrap();
    for (agent, count) in [(client, 3), (follower, 2)] {
        cluster.node(agent).put("/v1/agent/leave", &json!(null)).unwrap();
        assert_eq!(cluster.voters().unwrap().len(), count, "it was told to have left before it had");
        assert!(cluster.node_mut(agent).wait_end().unwrap().success(), "it left with an error");
        let name = cluster.name(agent);
        eventually(&format!("{name} is gone from the catalog and the voters"), LIMIT, || {
            let Ok(leader) = cluster.leader() else { return Ok(false) };
            let nodes = cluster.look(leader, "/v1/catalog/nodes")?;
            let gone = nodes.status == 200 && !nodes.text().contains(&format!("\"{name}\""));
            Ok(gone && cluster.voters().is_ok_and(|voters| voters.len() == count))
        })
        .unwrap();
    }
    let leader = cluster.wait_leader().unwrap();
    assert_eq!(cluster.node(leader).json("/v1/catalog/service/leaving").unwrap(), json!([]));
    for agent in [client, follower] {
        cluster.restart(agent).unwrap();
    }
    cluster.wait_formed().unwrap();
    let three = || Ok(cluster.voters().is_ok_and(|voters| voters.len() == 3));
    eventually("three vote again", LIMIT * 2, three).unwrap();
    eventually("the service is back", LIMIT, || {
        Ok(cluster.look(leader, "/v1/catalog/service/leaving")?.text().contains("leaving"))
    })
    .unwrap();
}

#[test]
fn a_rolling_restart_loses_no_write_and_fails_no_stale_read() {
    let mut cluster = TestCluster::start(3, 0).unwrap();
    cluster.write("rolling/0", "0").unwrap();
    let servers = cluster.server_addresses();
    let restarts: Vec<_> = servers.iter().map(|_| AtomicU64::new(0)).collect();
    let (over, written, rounds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            for number in 1.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                write_somewhere(&servers, number);
                written.store(number, Ordering::Release);
            }
        });
        scope.spawn(|| {
            let mut reader = Reader { servers: &servers, restarts: &restarts, knowing: vec![None; 3] };
            while !over.load(Ordering::Relaxed) {
                reader.read_everywhere();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        for server in cluster.servers() {
            let before = written.load(Ordering::Acquire);
            cluster.node(server).signal(Signal::SIGTERM).unwrap();
            cluster.node_mut(server).wait_end().unwrap();
            restarts[server].fetch_add(1, Ordering::AcqRel);
            cluster.node_mut(server).relaunch().unwrap();
            cluster.wait_formed().unwrap();
            // The next one may go when this one has what was written, as an operator would wait.
            let last = written.load(Ordering::Acquire);
            eventually("the restarted server has caught up", LIMIT, || {
                Ok(cluster.look(server, &format!("/v1/kv/rolling/{last}?stale"))?.status == 200)
            })
            .unwrap();
            eventually("writes go on", LIMIT, || Ok(written.load(Ordering::Acquire) > before + 5)).unwrap();
        }
    });
    let last = written.into_inner();
    println!("{last} writes and {} stale reads at each server in three restarts", rounds.into_inner());
    let keys = cluster.node(0).json("/v1/kv/rolling/?keys&consistent").unwrap();
    let there: std::collections::BTreeSet<_> =
        keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
    let lost: Vec<_> = (0..=last).filter(|number| !there.contains(&format!("rolling/{number}"))).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// Writes a key, at one server after the other until one acknowledges it.
fn write_somewhere(servers: &[SocketAddr], number: u64) {
    let request = Request::new("PUT", &format!("/v1/kv/rolling/{number}")).body(number.to_string());
    eventually("a write is acknowledged", LIMIT, || {
        Ok(servers.iter().any(|server| request.acknowledged(*server, REFUSAL_LIMIT)))
    })
    .unwrap();
}

/// Reads what is there all the time.
struct Reader<'a> {
    servers: &'a [SocketAddr],
    /// How often each was started again.
    restarts: &'a [AtomicU64],
    /// After how many restarts each has given the value.
    knowing: Vec<Option<u64>>,
}

impl Reader<'_> {
    /// A stale read at every server. One at least must give the value, and so must each that has given it since it
    /// was started: one that has just come may not know anything yet.
    fn read_everywhere(&mut self) {
        let read = Request::new("GET", "/v1/kv/rolling/0?stale&raw");
        let mut given = 0;
        for (server, address) in self.servers.iter().enumerate() {
            let restarts = || self.restarts[server].load(Ordering::Acquire);
            let before = restarts();
            // A server that goes away under the question has not failed: the client asks another one.
            let Ok(answer) = read.send_within(*address, LIMIT) else { continue };
            if answer.status == 200 && answer.text() == "0" {
                given += 1;
                self.knowing[server] = Some(before);
                continue;
            }
            // Consul's leader forgets that it may answer stale reads when it loses its followers.
            let excused = Program::under_test().is_consul() || restarts() != before;
            let knew = self.knowing[server] == Some(before) && !excused;
            assert!(!knew, "server {server} fails a stale read: {} {}", answer.status, answer.text());
        }
        assert!(given > 0 || Program::under_test().is_consul(), "no server answered a stale read");
    }
}
