//! The same battery through every kind of door.

use tribune_integration::{ClusterSettings, Door, Federation, Member, TestCluster, TestNode, calm};

#[test]
fn one_server_does_everything() {
    let node = TestNode::start().unwrap();
    let door = Door {
        name: "single".to_owned(),
        ask: node.http(),
        datacenter: None,
        dns: node.dns(),
        home: node.http(),
        home_node: "scenario".to_owned(),
    };
    door.battery().unwrap();
}

#[test]
fn three_servers_do_everything_through_any_agent() {
    let settings = ClusterSettings { clients: 1, configuration: calm(), ..ClusterSettings::default() };
    let cluster = TestCluster::start_with(settings).unwrap();
    let (leader, followers) = (cluster.wait_leader().unwrap(), cluster.followers().unwrap());
    let client = cluster.clients().start;
    let doors = [("leader", leader), ("follower", followers[0]), ("client", client)];
    let failures: Vec<_> = doors
        .into_iter()
        // Services live where the application asks: on the same agent.
        .filter_map(|(name, asked)| inside(name, &cluster, asked).battery().err())
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn another_datacenter_does_everything_in_both_directions() {
    let members = vec![Member::new("dc1", 3, 1), Member::new("dc2", 3, 1)];
    let federation = Federation::start(members).unwrap();
    let mut failures = Vec::new();
    for (here, there) in [(0, 1), (1, 0)] {
        let (asked, meant) = (federation.dc(here), federation.dc(there));
        let (leader, follower) = (asked.wait_leader().unwrap(), asked.followers().unwrap()[0]);
        for (name, agent) in [("leader", leader), ("follower", follower), ("client", asked.clients().start)] {
            let name = format!("{}-{name}", asked.datacenter());
            let home = meant.clients().start;
            let door = Door {
                datacenter: Some(meant.datacenter().to_owned()),
                home: meant.http(home),
                home_node: meant.name(home),
                ..inside(&name, asked, agent)
            };
            failures.extend(door.battery().err().map(|error| format!("{error:#}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn inside(name: &str, cluster: &TestCluster, agent: usize) -> Door {
    Door {
        name: name.to_owned(),
        ask: cluster.http(agent),
        datacenter: None,
        dns: cluster.node(agent).dns(),
        home: cluster.http(agent),
        home_node: cluster.name(agent),
    }
}
