//! What the demo consists of: two datacenters, their servers with addresses and ports, and what runs on them.
//!
//! Every server is a machine of its own: it has a loopback address for all that happens in its datacenter, and a
//! second one that other datacenters are told, at which the [link](super::link) listens and passes on.
//!
//! ```text
//!   dc1  127.0.1.1  127.0.1.2  127.0.1.3        dc2  127.0.2.1         cluster, gossip, instances
//!        127.0.11.1 127.0.11.2 127.0.11.3            127.0.12.1        what the other datacenter is told
//!        127.0.0.1, ports of their own                                 HTTP and DNS
//! ```
//!
//! The second number of the addresses is that of the demo, if several run; all but HTTP and DNS is then apart, and
//! their ports are one higher for each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// The two datacenters.
pub(super) const DATACENTERS: [&str; 2] = ["dc1", "dc2"];
/// The service that both datacenters have.
pub(super) const WEB: &str = "web";
/// The service that only the second datacenter has.
pub(super) const BILLING: &str = "billing";

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) ports: ClusterPorts,
}

/// Ports between nodes, alike on all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterPorts {
    pub(super) server: u16,
    pub(super) serf_lan: u16,
    pub(super) serf_wan: u16,
}

/// A server with what runs on its machine.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) datacenter: &'static str,
    /// For traffic inside its datacenter.
    pub(super) address: Ipv4Addr,
    /// What other datacenters are told.
    pub(super) wan_address: Ipv4Addr,
    pub(super) http: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) instances: Vec<Instance>,
}

/// An instance of a service.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) service: &'static str,
    pub(super) id: String,
    pub(super) address: SocketAddr,
}

impl Plan {
    /// A first datacenter of so many servers and a second one of one, in the demo of this number. `choose` gives a
    /// port that is free at all the addresses, if possible the one it is asked for.
    pub(super) fn new(
        demo: u8,
        servers: u8,
        mut choose: impl FnMut(u16, &[Ipv4Addr]) -> io::Result<u16>,
    ) -> io::Result<Self> {
        let mut nodes = Vec::new();
        for (number, datacenter) in (1..).zip(DATACENTERS) {
            for machine in 1..=if number == 1 { servers } else { 1 } {
                let shift =
                    if number == 1 { 0 } else { 1000 } + 10 * u16::from(machine - 1) + u16::from(demo);
                nodes.push(Node {
                    name: format!("{datacenter}-{machine}"),
                    datacenter,
                    address: Ipv4Addr::new(127, demo, number, machine),
                    wan_address: Ipv4Addr::new(127, demo, 10 + number, machine),
                    http: client(&mut choose, 8500 + shift)?,
                    dns: client(&mut choose, 8600 + shift)?,
                    instances: Vec::new(),
                });
            }
        }
        let lan: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let both: Vec<_> = nodes.iter().flat_map(|node| [node.address, node.wan_address]).collect();
        let ports = ClusterPorts {
            server: choose(8300, &lan)?,
            serf_lan: choose(8301, &lan)?,
            serf_wan: choose(8302, &both)?,
        };
        let mut plan = Self { nodes, ports };
        plan.populate(&mut choose)?;
        Ok(plan)
    }

    /// One instance of `web` on each machine of the first datacenter, and on the last machine two of each service.
    fn populate(&mut self, choose: &mut impl FnMut(u16, &[Ipv4Addr]) -> io::Result<u16>) -> io::Result<()> {
        let mut webs = 0;
        for node in &mut self.nodes {
            let services: &[&'static str] =
                if node.datacenter == DATACENTERS[0] { &[WEB] } else { &[WEB, WEB, BILLING, BILLING] };
            for (place, &service) in (1..).zip(services) {
                let (number, base) = if service == WEB {
                    webs += 1;
                    (webs, 8080)
                } else {
                    (place - 2, 9090)
                };
                let port = choose(base + number, &[node.address])?;
                let address = SocketAddr::from((node.address, port));
                node.instances.push(Instance { service, id: format!("{service}-{number}"), address });
            }
        }
        Ok(())
    }

    /// The servers of a datacenter.
    pub(super) fn servers(&self, datacenter: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.datacenter == datacenter)
    }

    /// The ports at which the instances of a service in a datacenter answer, in order.
    pub(super) fn service_ports(&self, service: &str, datacenter: &str) -> Vec<u16> {
        let instances = self.servers(datacenter).flat_map(|node| &node.instances);
        let of_service = instances.filter(|instance| instance.service == service);
        let mut ports: Vec<u16> = of_service.map(|instance| instance.address.port()).collect();
        ports.sort_unstable();
        ports
    }

    /// The node whose address for traffic in the cluster this is.
    pub(super) fn at(&self, address: SocketAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| address.ip() == node.address)
    }
}

fn client(
    choose: &mut impl FnMut(u16, &[Ipv4Addr]) -> io::Result<u16>,
    favourite: u16,
) -> io::Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, choose(favourite, &[Ipv4Addr::LOCALHOST])?).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan on a machine where every port is free.
    pub(in super::super) fn plan(servers: u8) -> Plan {
        Plan::new(0, servers, |favourite, _| Ok(favourite)).unwrap()
    }

    #[test]
    fn the_first_node_has_the_usual_ports() {
        let plan = plan(3);
        let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["dc1-1", "dc1-2", "dc1-3", "dc2-1"]);
        assert_eq!(plan.nodes[0].http.to_string(), "127.0.0.1:8500");
        assert_eq!(plan.nodes[0].dns.to_string(), "127.0.0.1:8600");
        assert_eq!(plan.nodes[3].http.to_string(), "127.0.0.1:9500");
        assert_eq!(plan.nodes[3].wan_address.to_string(), "127.0.12.1");
        assert_eq!(plan.ports.serf_wan, 8302);
    }

    #[test]
    fn demos_at_the_same_time_share_nothing() {
        let (first, second) = (plan(3), Plan::new(1, 3, |favourite, _| Ok(favourite)).unwrap());
        for (one, other) in first.nodes.iter().zip(&second.nodes) {
            assert!(one.address != other.address && one.wan_address != other.wan_address);
        }
        let sockets =
            |plan: &Plan| plan.nodes.iter().flat_map(|node| [node.http, node.dns]).collect::<Vec<_>>();
        assert!(sockets(&first).iter().all(|socket| !sockets(&second).contains(socket)));
    }

    #[test]
    fn instances_are_told_apart_by_their_ports() {
        let plan = plan(3);
        assert_eq!(plan.service_ports(WEB, "dc1"), [8081, 8082, 8083]);
        assert_eq!(plan.service_ports(WEB, "dc2"), [8084, 8085]);
        assert!(plan.service_ports(BILLING, "dc1").is_empty());
        assert_eq!(plan.service_ports(BILLING, "dc2"), [9091, 9092]);
        assert_eq!(plan.nodes[3].instances[3].id, "billing-2");
    }

    #[test]
    fn a_leader_is_found_by_its_address() {
        let plan = plan(3);
        assert_eq!(plan.at("127.0.1.2:8300".parse().unwrap()).unwrap().name, "dc1-2");
        assert!(plan.at("127.0.1.9:8300".parse().unwrap()).is_none());
    }
}
