//! Everything that runs while the demo does: agents, instances, the link between the datacenters, and the last look
//! at all of them. It goes away as a whole.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::certificates;
use super::configuration;
use super::folder::Folder;
use super::instance::Instance;
use super::link::Link;
use super::plan::{DATACENTERS, Node, Plan};
use super::ports::{Claim, Ports};
use super::process::Process;
use super::screen::{Screen, listed};
use super::view::View;

/// Pause between two looks.
const TICK: Duration = Duration::from_millis(100);
/// Lines of the log of an agent in trouble that are shown.
const LOG_LINES: usize = 12;

/// All that runs. Dropping it ends everything at once and removes the folder; [`Stage::end`] lets agents end in
/// order first.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) screen: Screen,
    pub(super) view: View,
    pub(super) link: Link,
    pub(super) instances: Vec<Instance>,
    /// Whether what happens by itself is shown.
    pub(super) tells_news: bool,
    /// What was not as it should be.
    pub(super) troubles: Vec<String>,
    pub(super) began: Instant,
    processes: Vec<Process>,
    /// These are last, because agents use both until they have ended.
    _folder: Folder,
    _claim: Claim,
}

impl Stage {
    /// Sets everything up and starts it. Nothing has to be ready when this returns.
    pub(super) async fn set(servers: u8, mut screen: Screen) -> anyhow::Result<Self> {
        let began = Instant::now();
        has_loopback_network()?;
        let claim = Claim::take().context("the demo finds no addresses for its agents")?;
        let mut ports = Ports::default();
        let plan =
            Plan::new(claim.number, servers, |favourite, addresses| ports.choose(favourite, addresses))
                .context("the demo finds no ports for its agents")?;
        let names: Vec<&str> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        screen.done("starting", &format!("the agents {}", listed(&names)), None);
        let folder = Folder::new().context("the demo cannot make a folder for its files")?;
        let secrets = certificates::draw(&plan, folder.path())?;
        let mut instances = Vec::new();
        for node in &plan.nodes {
            for planned in &node.instances {
                let mut instance = Instance::new(&planned.id, node.datacenter, planned.address);
                let started = instance.start().await;
                started.with_context(|| format!("{} cannot listen on {}", planned.id, planned.address))?;
                instances.push(instance);
            }
        }
        let link = Link::open(&plan).await.context("the link between the datacenters cannot be set up")?;
        let mut processes = Vec::new();
        for (node, secrets) in plan.nodes.iter().zip(&secrets) {
            let home = folder.path().join(&node.name);
            std::fs::create_dir(&home)?;
            let configuration = configuration::of(&plan, node, &home.join("data"), secrets);
            let mut process = Process::new(&node.name, &home, &configuration)?;
            process.start().with_context(|| format!("the agent {} cannot be started", node.name))?;
            processes.push(process);
        }
        let (view, troubles) = (View::default(), Vec::new());
        Ok(Self {
            plan,
            screen,
            view,
            link,
            instances,
            tells_news: false,
            troubles,
            began,
            processes,
            _folder: folder,
            _claim: claim,
        })
    }

    /// A running server of the first datacenter, the one whose ports are shown if it runs.
    pub(super) fn home(&self) -> &Node {
        let mut nodes = self.plan.servers(DATACENTERS[0]);
        nodes.find(|node| self.runs(&node.name)).unwrap_or(&self.plan.nodes[0])
    }

    /// The process of a server.
    pub(super) fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        let found = self.processes.iter_mut().find(|process| process.name == name);
        found.with_context(|| format!("there is no server {name}"))
    }

    fn runs(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.name == name && process.is_running())
    }

    /// Looks at everything once, and tells what is new. An agent that has ended by itself is an error.
    pub(super) async fn look(&mut self) -> anyhow::Result<()> {
        if self.screen.is_unread() {
            bail!("nobody reads what the demo shows");
        }
        for number in 0..self.processes.len() {
            if let Some(status) = self.processes[number].ended() {
                let name = self.processes[number].name.clone();
                self.show_log(number);
                bail!("the agent {name} has ended by itself ({status}); above is the end of its log");
            }
        }
        let view = View::take(&self.plan, |name| self.runs(name)).await;
        let before = std::mem::replace(&mut self.view, view);
        if self.tells_news {
            for line in self.view.news(&before) {
                self.screen.event(&line);
            }
        }
        Ok(())
    }

    /// Looks again and again until `is_so`, and says how long that took; `None` if it was not so within `limit`.
    pub(super) async fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&Plan, &View) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        loop {
            let next = tokio::time::Instant::now() + TICK;
            self.look().await?;
            if is_so(&self.plan, &self.view) {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() > limit {
                return Ok(None);
            }
            self.screen.waiting(what, began.elapsed());
            tokio::time::sleep_until(next).await;
        }
    }

    /// Looks on until this is dropped or fails.
    pub(super) async fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            self.look().await?;
            tokio::time::sleep(TICK).await;
        }
    }

    /// Shows what came of something, and remembers it if it should not be.
    pub(super) fn tell(&mut self, is_right: bool, subject: &str, text: &str, took: Option<Duration>) {
        if is_right {
            self.screen.done(subject, text, took);
        } else {
            self.screen.trouble(subject, text);
            self.troubles.push(format!("{subject}: {text}"));
        }
    }

    /// Shows the end of every log: the reason why something does not happen is likely to be there.
    pub(super) fn show_logs(&mut self) {
        (0..self.processes.len()).for_each(|number| self.show_log(number));
    }

    fn show_log(&mut self, number: usize) {
        let process = &self.processes[number];
        self.screen.heading(&format!("The end of the log of {}", process.name));
        let lines = process.last_lines(LOG_LINES).unwrap_or_else(|error| vec![error.to_string()]);
        self.screen.text(&lines.join("\n"));
    }

    /// Ends all agents in order, all at the same time.
    pub(super) async fn end(mut self) {
        self.processes.iter().for_each(Process::tell_to_end);
        for process in &mut self.processes {
            process.end().await;
        }
    }
}

/// Every machine of the demo has loopback addresses of its own.
fn has_loopback_network() -> anyhow::Result<()> {
    let address = Ipv4Addr::new(127, 0, 1, 1);
    TcpListener::bind((address, 0)).map(drop).with_context(|| {
        format!(
            "the demo needs the whole network 127.0.0.0/8 on the loopback interface, as Linux has it, but {address} \
             cannot be used (macOS: `sudo ifconfig lo0 alias {address}`, and so on for 127.0.1.2, 127.0.1.3, \
             127.0.2.1, 127.0.11.1, 127.0.11.2, 127.0.11.3 and 127.0.12.1)"
        )
    })
}
