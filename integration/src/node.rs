//! A running agent: the real program in a process of its own, with its own data folder and ports.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::{Host, free_port};
use crate::http::{Answer, Request};
use crate::program::Program;
use crate::wait::eventually;

/// How long a server may take to lead and to know its own node, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long one look at a starting node may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// How to start a node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub program: Program,
    /// Where it runs.
    pub host: Host,
    /// What follows `agent` on the command line, before the data folder and the configuration file.
    pub arguments: Vec<String>,
    /// When it counts as started.
    pub ready: Ready,
    /// Laid over the configuration that every test node has.
    pub configuration: Value,
    /// A command that executes the one appended to it, such as a shell that sets a limit first.
    pub wrapper: Vec<String>,
    /// Where the data is kept; in the node's own folder by default.
    pub data_dir: Option<PathBuf>,
}

/// When a node counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// It leads its datacenter and the catalog has its own node.
    Leads,
    /// It answers over HTTP; whether it belongs to a datacenter is looked at elsewhere.
    Answers,
}

/// A node; unless told otherwise the only server of datacenter `dc1`, named `scenario`.
pub struct TestNode {
    settings: Settings,
    folder: TempDir,
    child: Child,
    running: bool,
    http: SocketAddr,
    dns: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: Program::under_test(),
            host: Host::local(),
            arguments: vec!["-server".to_owned(), "-bootstrap-expect=1".to_owned()],
            ready: Ready::Leads,
            configuration: json!({}),
            wrapper: Vec::new(),
            data_dir: None,
        }
    }
}

impl TestNode {
    /// Starts our program with the usual configuration and waits until it serves.
    pub fn start() -> Result<Self> {
        Self::start_with(Settings::default())
    }

    /// Starts a node and waits until it leads and knows itself.
    pub fn start_with(settings: Settings) -> Result<Self> {
        let mut node = Self::launch(settings)?;
        node.wait_ready()?;
        Ok(node)
    }

    /// Starts a node without waiting for it.
    pub fn launch(settings: Settings) -> Result<Self> {
        let folder = TempDir::with_prefix("tribune-test-")?;
        write_configuration(&settings, folder.path())?;
        let child = spawn(&settings, folder.path())?;
        let nowhere = SocketAddr::from((settings.host.address, 0));
        Ok(Self { settings, folder, child, running: true, http: nowhere, dns: nowhere })
    }

    /// Whether it was started and not killed since; a node that was stopped by a signal still runs.
    pub fn running(&self) -> bool {
        self.running
    }

    /// Address of the HTTP API.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Address of the DNS server, UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Process id of the running program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the node keeps what must last.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.settings, self.folder.path())
    }

    /// A folder beside the data for whatever a test needs; it goes with the node.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything the program said since it was last started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A GET on a connection of its own.
    pub fn get(&self, target: &str) -> Result<Answer> {
        Request::new("GET", target).send(self.http)
    }

    /// A GET that must be answered 200 with JSON.
    pub fn json(&self, target: &str) -> Result<Value> {
        let answer = self.get(target)?;
        if answer.status != 200 {
            bail!("GET {target} was answered {}: {}", answer.status, answer.text());
        }
        answer.json()
    }

    /// A PUT of JSON (of nothing for null) that must be answered 200.
    pub fn put(&self, target: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = Request::new("PUT", target).body(body).send(self.http)?;
        if answer.status != 200 {
            bail!("PUT {target} was answered {}: {}", answer.status, answer.text());
        }
        Ok(answer)
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.running = false;
        Ok(())
    }

    /// Waits until the program has ended by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let mut ended = None;
        eventually("the program ends", END_LIMIT, || {
            ended = self.child.try_wait()?;
            Ok(ended.is_some())
        })
        .with_context(|| self.log_tail())?;
        self.running = false;
        ended.context("the program has not ended")
    }

    /// Starts the program again on the same data, when it was killed or has ended.
    pub fn restart(&mut self) -> Result<()> {
        self.relaunch()?;
        self.wait_ready()
    }

    /// The same without waiting for it.
    pub fn relaunch(&mut self) -> Result<()> {
        self.child = spawn(&self.settings, self.folder.path())?;
        self.running = true;
        Ok(())
    }

    /// Lays something over the configuration; it counts from the next start on.
    pub fn configure(&mut self, over: &Value) -> Result<()> {
        lay_over(&mut self.settings.configuration, over);
        write_configuration(&self.settings, self.folder.path())
    }

    /// Moves to another host, which counts from the next start on.
    pub fn move_to(&mut self, host: Host) {
        self.http.set_ip(host.address.into());
        self.dns.set_ip(host.address.into());
        self.settings.host = host;
    }

    /// Starts the program on data that it is expected to refuse: its exit status and all it said.
    pub fn start_refused(&mut self) -> Result<(ExitStatus, String)> {
        self.child = spawn(&self.settings, self.folder.path())?;
        let status = self.wait_end()?;
        Ok((status, self.log()))
    }

    /// From the next start on the program runs without its wrapper.
    pub fn remove_wrapper(&mut self) {
        self.settings.wrapper.clear();
    }

    /// Waits until the node is ready in the sense of its settings; fails at once when the program ends instead.
    pub fn wait_ready(&mut self) -> Result<()> {
        eventually("the node is ready", READY_LIMIT, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended ({status}):\n{}", self.log());
            }
            let log = self.log();
            let (Some(http), Some(dns)) = (port_after(&log, "HTTP: "), port_after(&log, "DNS: ")) else {
                return Ok(false);
            };
            self.http.set_port(http);
            self.dns.set_port(dns);
            Ok(match self.settings.ready {
                Ready::Answers => self.answers(),
                Ready::Leads => self.leads(),
            })
        })
        .with_context(|| self.log_tail())
    }

    fn answers(&self) -> bool {
        let answer = Request::new("GET", "/v1/agent/self").send_within(self.http, LOOK_LIMIT);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    fn leads(&self) -> bool {
        let Ok(leader) = self.get("/v1/status/leader") else { return false };
        let Ok(checks) = self.get("/v1/health/node/scenario") else { return false };
        leader.status == 200 && leader.body.len() > 2 && checks.text().contains("serfHealth")
    }

    /// The last lines of the log, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        format!("the end of its log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(settings: &Settings, folder: &Path) -> Result<Child> {
    let program = settings.program.path()?;
    let log = File::create(folder.join("log"))?;
    let wrappers = settings.host.wrapper.iter().chain(&settings.wrapper).map(OsString::from);
    let words: Vec<_> = wrappers.chain([program.clone().into()]).collect();
    let (first, rest) = words.split_first().context("nothing to start")?;
    let child = Command::new(first)
        .args(rest)
        .arg("agent")
        .args(&settings.arguments)
        .arg(format!("-data-dir={}", data_dir(settings, folder).display()))
        .arg(format!("-config-file={}", folder.join("agent.json").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child.with_context(|| format!("cannot start {}", program.display()))
}

fn data_dir(settings: &Settings, folder: &Path) -> PathBuf {
    settings.data_dir.clone().unwrap_or_else(|| folder.join("data"))
}

fn write_configuration(settings: &Settings, folder: &Path) -> Result<()> {
    let mut configuration = json!({
        "datacenter": "dc1", "node_name": "scenario",
        "bind_addr": settings.host.address, "client_addr": settings.host.address,
        "log_level": "INFO", "disable_update_check": true, "performance": {"raft_multiplier": 1},
        "ports": ports(&settings.program)?,
    });
    lay_over(&mut configuration, &settings.configuration);
    fs::write(folder.join("agent.json"), configuration.to_string())?;
    Ok(())
}

/// Ours is asked to take any port and says which; Consul cannot do that and gets ports that were free just now.
fn ports(program: &Program) -> Result<Value> {
    if !program.is_consul() {
        return Ok(
            json!({"http": 0, "dns": 0, "server": 0, "serf_lan": 0, "serf_wan": -1, "https": -1, "grpc": -1}),
        );
    }
    let free = (0..4).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    Ok(
        json!({"http": free[0], "dns": free[1], "server": free[2], "serf_lan": free[3], "serf_wan": -1, "https": -1, "grpc": -1}),
    )
}

/// Objects are merged, everything else is replaced.
pub(crate) fn lay_over(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// The port in the start banner, such as `HTTP: 8500` or `DNS: 8600`.
fn port_after(log: &str, label: &str) -> Option<u16> {
    let rest = log.split_once(label)?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|port| *port != 0)
}
