//! Several datacenters that know each other, with certificates of one authority and links that can be bad.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{ClusterSettings, Place, TestCluster, calm};
use crate::host::Host;
use crate::link::{Condition, Forward, Link, Traffic};
use crate::node::lay_over;
use crate::pki::Authority;
use crate::program::Program;
use crate::wait::eventually;

/// How long datacenters may take until each reaches each other.
const JOIN_LIMIT: Duration = Duration::from_secs(120);

/// One datacenter of a federation.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub datacenter: String,
    /// What the names of its nodes begin with.
    pub label: String,
    /// Its servers; all of them are gateways.
    pub servers: usize,
    /// Its client agents.
    pub clients: usize,
    /// Where its agents run, as in [`ClusterSettings`].
    pub hosts: Vec<Host>,
}

/// What a federation is made of.
#[derive(Debug, Clone)]
pub struct FederationSettings {
    /// The program that all agents run.
    pub program: Program,
    /// The datacenters.
    pub members: Vec<Member>,
    /// Laid over the configuration of every agent.
    pub configuration: Value,
    /// Whether every server is reached from other datacenters through a link of the harness.
    pub linked: bool,
}

/// Running datacenters; numbered in the order of their settings.
pub struct Federation {
    clusters: Vec<TestCluster>,
    /// The files of the certificates last as long as the agents that use them.
    authority: Authority,
    /// Links to the servers of each datacenter; none when they are reached directly.
    links: Vec<Vec<Link>>,
    entries: Vec<String>,
}

impl Member {
    /// A datacenter on loopback addresses.
    pub fn new(datacenter: &str, servers: usize, clients: usize) -> Self {
        let [datacenter, label] = [datacenter; 2].map(str::to_owned);
        Self { datacenter, label, servers, clients, hosts: Vec::new() }
    }
}

impl FederationSettings {
    /// These datacenters with the program under test, through links.
    pub fn linked(members: Vec<Member>) -> Self {
        let configuration = calm();
        Self { program: Program::under_test(), members, configuration, linked: true }
    }
}

impl Federation {
    /// Starts the datacenters, through links, and waits until each reaches each other.
    pub fn start(members: Vec<Member>) -> Result<Self> {
        Self::start_with(FederationSettings::linked(members))
    }

    /// The same with more choice.
    pub fn start_with(settings: FederationSettings) -> Result<Self> {
        let mut federation = Self::launch(settings)?;
        for cluster in &mut federation.clusters {
            cluster.wait_formed()?;
        }
        federation.wait_joined()?;
        Ok(federation)
    }

    /// Starts all agents without waiting.
    pub fn launch(settings: FederationSettings) -> Result<Self> {
        let authority = Authority::create(&settings.program)?;
        let clusters: Vec<_> = settings.members.iter().map(|member| settings.cluster(member)).collect();
        let places = clusters.iter().map(ClusterSettings::places).collect::<Result<Vec<_>>>()?;
        let links = places
            .iter()
            .zip(&clusters)
            .map(|(places, cluster)| open_links(&places[..cluster.servers], settings.linked))
            .collect::<Result<Vec<_>>>()?;
        let entries: Vec<_> = places.iter().zip(&links).map(|(places, links)| entry(places, links)).collect();
        let mut running = Vec::new();
        for ((cluster, places), links) in clusters.into_iter().zip(places).zip(&links) {
            let extra = (0..places.len())
                .map(|number| extra(&authority, &cluster, number, links, &entries))
                .collect::<Result<Vec<_>>>()?;
            running.push(TestCluster::launch(cluster, places, &extra)?);
        }
        Ok(Self { authority, clusters: running, links, entries })
    }

    /// Who issued all certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// All datacenters.
    pub fn dcs(&self) -> &[TestCluster] {
        &self.clusters
    }

    /// One datacenter.
    pub fn dc(&self, number: usize) -> &TestCluster {
        &self.clusters[number]
    }

    /// One datacenter, to do something to it.
    pub fn dc_mut(&mut self, number: usize) -> &mut TestCluster {
        &mut self.clusters[number]
    }

    /// Where others join a datacenter: address and WAN port of its first server, or of the link to it.
    pub fn entry(&self, number: usize) -> &str {
        &self.entries[number]
    }

    /// Changes every link to a datacenter.
    pub fn set(&self, number: usize, condition: Condition) -> Result<()> {
        ensure!(!self.links[number].is_empty(), "this federation was started without links");
        self.links[number].iter().try_for_each(|link| link.set(condition))
    }

    /// Changes every link.
    pub fn set_all(&self, condition: Condition) -> Result<()> {
        (0..self.links.len()).try_for_each(|number| self.set(number, condition))
    }

    /// Makes a round trip between any two datacenters take so much longer.
    pub fn delay(&self, round_trip: Duration) -> Result<()> {
        self.links.iter().flatten().try_for_each(|link| link.delay(round_trip / 2))
    }

    /// Closes every connection between the datacenters once.
    pub fn lose_connections(&self) -> Result<()> {
        self.links.iter().flatten().try_for_each(Link::lose_connections)
    }

    /// What has passed the links to a datacenter so far.
    pub fn traffic(&self, number: usize) -> Traffic {
        let none = Traffic { connections: 0, there: 0, back: 0 };
        self.links[number].iter().map(Link::traffic).fold(none, |sum, link| Traffic {
            connections: sum.connections + link.connections,
            there: sum.there + link.there,
            back: sum.back + link.back,
        })
    }

    /// Waits until every running agent gets the nodes of every datacenter by its name.
    pub fn wait_joined(&self) -> Result<()> {
        let joined = eventually("every datacenter reaches every other", JOIN_LIMIT, || Ok(self.is_joined()));
        joined.map_err(|error| {
            let logs: String = self.clusters.iter().map(TestCluster::log_tails).collect();
            error.context(logs)
        })
    }

    fn is_joined(&self) -> bool {
        self.clusters.iter().all(|from| {
            let running = from.servers().chain(from.clients()).filter(|number| from.node(*number).running());
            running.into_iter().all(|number| self.clusters.iter().all(|to| reaches(from, number, to)))
        })
    }
}

fn reaches(from: &TestCluster, number: usize, to: &TestCluster) -> bool {
    let answer = from.look(number, &format!("/v1/catalog/nodes?dc={}", to.datacenter()));
    answer.is_ok_and(|answer| answer.status == 200 && answer.text().contains(&to.name(0)))
}

impl FederationSettings {
    fn cluster(&self, member: &Member) -> ClusterSettings {
        ClusterSettings {
            program: self.program.clone(),
            datacenter: member.datacenter.clone(),
            label: member.label.clone(),
            servers: member.servers,
            clients: member.clients,
            configuration: self.configuration.clone(),
            hosts: member.hosts.clone(),
            federated: true,
        }
    }
}

/// A link to each server, at an address of its own: gossip between datacenters, which may be datagrams, and
/// requests, which Consul takes on its server port.
fn open_links(servers: &[Place], linked: bool) -> Result<Vec<Link>> {
    let servers = servers.iter().take(if linked { usize::MAX } else { 0 });
    servers
        .map(|Place { host, ports }| {
            let forwards = [
                Forward { port: ports.serf_wan, datagrams: true },
                Forward { port: ports.server, datagrams: false },
            ];
            Link::open(Host::loopback().address, host.address, &forwards)
        })
        .collect()
}

/// Where other datacenters first look for a datacenter.
fn entry(places: &[Place], links: &[Link]) -> String {
    let address = links.first().map_or(places[0].host.address, Link::address);
    format!("{address}:{}", places[0].ports.serf_wan)
}

fn extra(
    authority: &Authority,
    cluster: &ClusterSettings,
    number: usize,
    links: &[Link],
    entries: &[String],
) -> Result<Value> {
    if number >= cluster.servers {
        return Ok(authority.client(&cluster.datacenter)?.configuration());
    }
    let mut configuration = authority.server(&cluster.datacenter)?.configuration();
    lay_over(&mut configuration, &json!({"retry_join_wan": entries, "retry_interval_wan": "1s"}));
    if let Some(link) = links.get(number) {
        lay_over(&mut configuration, &json!({"advertise_addr_wan": link.address()}));
    }
    Ok(configuration)
}
