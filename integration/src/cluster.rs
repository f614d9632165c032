//! A datacenter of several servers and client agents: real processes, each on an address of its own.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::host::{Host, Ports};
use crate::http::{Answer, Request};
use crate::node::{Ready, Settings, TestNode, lay_over};
use crate::program::Program;
use crate::wait::eventually;

/// How long a datacenter may take until all its agents know its leader and one another, on a busy machine.
const FORM_LIMIT: Duration = Duration::from_secs(120);
/// How long one look at a node may take; a stopped node answers nothing.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long a write of [`TestCluster::write`] may take before another server is tried.
const WRITE_LIMIT: Duration = Duration::from_secs(12);

/// What a datacenter is made of.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The program that all agents run.
    pub program: Program,
    /// Its name.
    pub datacenter: String,
    /// What the names of its nodes begin with.
    pub label: String,
    /// How many servers vote.
    pub servers: usize,
    /// How many client agents there are beside them.
    pub clients: usize,
    /// Laid over the configuration of every agent.
    pub configuration: Value,
    /// Where the agents run, servers first; loopback addresses for those that are not named.
    pub hosts: Vec<Host>,
    /// Whether its servers open their WAN port.
    pub federated: bool,
}

/// A running datacenter. Agents are numbered: servers first, then client agents.
pub struct TestCluster {
    settings: ClusterSettings,
    nodes: Vec<TestNode>,
    places: Vec<Place>,
}

/// Where an agent listens.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its address and how to start programs there.
    pub host: Host,
    /// Its ports.
    pub ports: Ports,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            program: Program::under_test(),
            datacenter: "dc1".to_owned(),
            label: "dc1".to_owned(),
            servers: 3,
            clients: 0,
            configuration: json!({}),
            hosts: Vec::new(),
            federated: false,
        }
    }
}

/// Configuration for datacenters whose leader is to stay although the machine does much else: Consul's own default
/// of the election timeout, five times that of other tests.
pub fn calm() -> Value {
    json!({"performance": {"raft_multiplier": 5}})
}

impl ClusterSettings {
    /// Chooses addresses and ports for all agents, before any is started.
    pub fn places(&self) -> Result<Vec<Place>> {
        let count = self.servers + self.clients;
        let given = self.hosts.iter().cloned();
        given
            .chain(std::iter::repeat_with(Host::loopback))
            .take(count)
            .map(|host| Ok(Place { ports: Ports::choose(&host)?, host }))
            .collect()
    }
}

impl TestCluster {
    /// Starts `servers` and `clients` of the program under test in `dc1` and waits until they are one datacenter.
    pub fn start(servers: usize, clients: usize) -> Result<Self> {
        Self::start_with(ClusterSettings { servers, clients, ..ClusterSettings::default() })
    }

    /// Starts a datacenter and waits until all servers see a leader and all agents each other.
    pub fn start_with(settings: ClusterSettings) -> Result<Self> {
        let places = settings.places()?;
        let extra = vec![json!({}); places.len()];
        let mut cluster = Self::launch(settings, places, &extra)?;
        cluster.wait_formed()?;
        Ok(cluster)
    }

    /// Starts all agents without waiting; `extra` is laid over the configuration of each.
    pub fn launch(settings: ClusterSettings, places: Vec<Place>, extra: &[Value]) -> Result<Self> {
        ensure!(places.len() == settings.servers + settings.clients, "a place for each agent is needed");
        let mut nodes = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let mut configuration = settings.configuration_of(number, place, &places);
            lay_over(&mut configuration, extra.get(number).unwrap_or(&json!({})));
            nodes.push(TestNode::launch(Settings {
                program: settings.program.clone(),
                host: place.host.clone(),
                arguments: Vec::new(),
                ready: Ready::Answers,
                configuration,
                ..Settings::default()
            })?);
        }
        Ok(Self { settings, nodes, places })
    }

    /// Its name.
    pub fn datacenter(&self) -> &str {
        &self.settings.datacenter
    }

    /// One agent.
    pub fn node(&self, number: usize) -> &TestNode {
        &self.nodes[number]
    }

    /// One agent, to change it.
    pub fn node_mut(&mut self, number: usize) -> &mut TestNode {
        &mut self.nodes[number]
    }

    /// Numbers of the servers.
    pub fn servers(&self) -> Range<usize> {
        0..self.settings.servers
    }

    /// Numbers of the client agents.
    pub fn clients(&self) -> Range<usize> {
        self.settings.servers..self.nodes.len()
    }

    /// The name of an agent.
    pub fn name(&self, number: usize) -> String {
        self.settings.name(number)
    }

    /// Where an agent listens.
    pub fn place(&self, number: usize) -> &Place {
        &self.places[number]
    }

    /// The HTTP addresses of all servers, running or not.
    pub fn server_addresses(&self) -> Vec<SocketAddr> {
        self.servers().map(|server| self.http(server)).collect()
    }

    /// The HTTP address of an agent, running or not.
    pub fn http(&self, number: usize) -> SocketAddr {
        let Place { host, ports } = &self.places[number];
        (host.address, ports.http).into()
    }

    /// The server that leads: it says so itself, and no running server says otherwise.
    pub fn leader(&self) -> Result<usize> {
        let mut found = None;
        for server in self.servers().filter(|server| self.nodes[*server].running()) {
            let Ok(answer) = self.look(server, "/v1/status/leader") else { continue };
            let named = self.servers().find(|candidate| self.is_named(*candidate, &answer));
            let Some(named) = named else { continue };
            if *found.get_or_insert(named) != named {
                bail!("servers name different leaders");
            }
        }
        let leader = found.context("no server knows a leader")?;
        ensure!(self.nodes[leader].running(), "the leader that servers name is gone");
        let own = self.look(leader, "/v1/status/leader")?;
        ensure!(self.is_named(leader, &own), "the leader that others name does not lead");
        Ok(leader)
    }

    /// The servers that run and do not lead, once there is a leader.
    pub fn followers(&self) -> Result<Vec<usize>> {
        let leader = self.wait_leader()?;
        let servers = self.servers().filter(|server| *server != leader && self.nodes[*server].running());
        Ok(servers.collect())
    }

    /// Waits until a server leads.
    pub fn wait_leader(&self) -> Result<usize> {
        let mut leader = Ok(0);
        let found = eventually("a leader that all agree on", FORM_LIMIT, || {
            leader = self.leader();
            Ok(leader.is_ok())
        });
        found.map_err(|error| error.context(self.log_tails()))?;
        leader
    }

    /// Waits until all running servers see the same leader and all running agents see exactly each other alive,
    /// in the catalog too.
    pub fn wait_formed(&mut self) -> Result<usize> {
        for node in self.nodes.iter_mut().filter(|node| node.running()) {
            node.wait_ready()?;
        }
        let formed = eventually("the datacenter is formed", FORM_LIMIT, || Ok(self.is_formed()));
        formed.map_err(|error| error.context(self.log_tails()))?;
        self.leader()
    }

    fn is_formed(&self) -> bool {
        let running: Vec<_> = (0..self.nodes.len()).filter(|number| self.nodes[*number].running()).collect();
        let mut names: Vec<_> = running.iter().map(|number| self.name(*number)).collect();
        names.sort();
        self.leader().is_ok()
            && running.iter().all(|number| self.alive_members(*number).is_ok_and(|alive| alive == names))
            && self.passing_nodes().is_ok_and(|passing| passing == names)
    }

    /// Names of the members that an agent holds for alive, sorted.
    pub fn alive_members(&self, number: usize) -> Result<Vec<String>> {
        /// `alive` in the answers of both programs.
        const ALIVE: u64 = 1;
        let members = self.look(number, "/v1/agent/members")?.json()?;
        let members = members.as_array().context("members are a list")?;
        let alive = members.iter().filter(|member| member["Status"] == ALIVE);
        let mut names: Vec<_> =
            alive.filter_map(|member| Some(member["Name"].as_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the nodes whose `serfHealth` passes in the leader's catalog, sorted.
    pub fn passing_nodes(&self) -> Result<Vec<String>> {
        let checks = self.look(self.leader()?, "/v1/health/state/passing")?.json()?;
        let checks = checks.as_array().context("checks are a list")?;
        let serf = checks.iter().filter(|check| check["CheckID"] == "serfHealth");
        let mut names: Vec<_> = serf.filter_map(|check| Some(check["Node"].as_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.nodes[number].kill()
    }

    /// Starts an agent that was killed again, on the same data and ports, and waits until it answers.
    pub fn restart(&mut self, number: usize) -> Result<()> {
        self.nodes[number].restart()
    }

    /// Stops a process in the middle of whatever it does; its connections stay open.
    pub fn pause(&self, number: usize) -> Result<()> {
        self.nodes[number].signal(Signal::SIGSTOP)
    }

    /// Lets a paused process go on.
    pub fn resume(&self, number: usize) -> Result<()> {
        self.nodes[number].signal(Signal::SIGCONT)
    }

    /// A stopped agent comes back on another host, with its data.
    pub fn move_to(&mut self, number: usize, host: Host) -> Result<()> {
        ensure!(!self.nodes[number].running(), "only a stopped agent can move");
        let address = json!(host.address);
        self.nodes[number].move_to(host.clone());
        self.nodes[number].configure(&json!({"bind_addr": address, "client_addr": address}))?;
        self.places[number].host = host;
        Ok(())
    }

    /// A question to one agent that gives up soon.
    pub fn look(&self, number: usize, target: &str) -> Result<Answer> {
        Request::new("GET", target).send_within(self.http(number), LOOK_LIMIT)
    }

    /// Puts a key at whichever server takes it, and says how long that took; retried every 10 ms.
    pub fn write(&self, key: &str, value: &str) -> Result<Duration> {
        let started = Instant::now();
        let request = Request::new("PUT", &format!("/v1/kv/{key}")).body(value);
        eventually("an acknowledged write", FORM_LIMIT, || {
            let mut running = self.servers().filter(|server| self.nodes[*server].running());
            Ok(running.any(|server| request.acknowledged(self.http(server), WRITE_LIMIT)))
        })
        .map_err(|error| error.context(self.log_tails()))?;
        Ok(started.elapsed())
    }

    /// Addresses of the servers that vote, as the leader sees them, sorted.
    pub fn voters(&self) -> Result<Vec<String>> {
        let configuration = self.look(self.leader()?, "/v1/operator/raft/configuration")?.json()?;
        let servers = configuration["Servers"].as_array().context("no list of servers")?;
        let voters = servers.iter().filter(|server| server["Voter"] == true);
        let mut addresses: Vec<_> =
            voters.filter_map(|server| Some(server["Address"].as_str()?.to_owned())).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// The ends of all logs, for messages.
    pub fn log_tails(&self) -> String {
        let tails = self.nodes.iter().enumerate();
        tails.map(|(number, node)| format!("{}: {}\n", self.name(number), node.log_tail())).collect()
    }

    /// The address at which a server talks to servers.
    pub fn peer_address(&self, server: usize) -> String {
        let Place { host, ports } = &self.places[server];
        format!("{}:{}", host.address, ports.server)
    }

    fn is_named(&self, server: usize, answer: &Answer) -> bool {
        answer.text() == format!("\"{}\"", self.peer_address(server))
    }
}

impl ClusterSettings {
    fn name(&self, number: usize) -> String {
        match number.checked_sub(self.servers) {
            None => format!("{}-server-{number}", self.label),
            Some(number) => format!("{}-client-{number}", self.label),
        }
    }

    fn configuration_of(&self, number: usize, place: &Place, places: &[Place]) -> Value {
        let server = number < self.servers;
        let join = places.iter().take(self.servers);
        let join: Vec<_> =
            join.map(|Place { host, ports }| format!("{}:{}", host.address, ports.serf_lan)).collect();
        let mut configuration = json!({
            "datacenter": self.datacenter, "node_name": self.name(number), "server": server,
            "ports": place.ports.configuration(self.federated && server),
            "retry_join": join, "retry_interval": "1s",
            // Many tests share the machine and all clients one address.
            "limits": {"http_max_conns_per_client": 4096, "rpc_max_conns_per_client": 4096},
        });
        if server {
            lay_over(&mut configuration, &json!({"bootstrap_expect": self.servers}));
        }
        lay_over(&mut configuration, &self.configuration);
        configuration
    }
}
