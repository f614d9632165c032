//! The measured servers: started as child processes, asked whether they are ready, killed by process id.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::wire::{Connection, Response, request};

/// How long a server without data may take until it has a leader.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Connections from one address: above the 10,000 watchers, which all come from loopback, and below the
/// 20,000 open files that many machines allow.
const CONNECTIONS_MAX: u32 = 15_000;

/// A program that can be measured.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) label: String,
    pub(crate) path: PathBuf,
    /// What the program says of itself, with its age where we know it.
    pub(crate) version: String,
}

/// A running server with its own data folder, which is deleted with it.
pub(crate) struct Server {
    pub(crate) program: Program,
    folder: TempDir,
    ports: Ports,
    child: Child,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    dns: u16,
    server: u16,
    serf: u16,
}

impl Program {
    /// Asks the program for its version, which also proves that it can be run.
    pub(crate) fn new(label: &str, path: &Path) -> Result<Self> {
        let said = Command::new(path).arg("version").output();
        let said =
            said.with_context(|| format!("cannot run {}: build or install it first", path.display()))?;
        let said = String::from_utf8_lossy(&said.stdout);
        let first = said.lines().next().unwrap_or("unknown version").to_owned();
        let age = if first.contains("v1.8.7") { " (released December 2020)" } else { "" };
        Ok(Self { label: label.to_owned(), path: path.to_owned(), version: format!("{first}{age}") })
    }
}

impl Program {
    /// As the harness of the tests starts it.
    pub(crate) fn under_test(&self) -> tribune_integration::Program {
        if self.version.starts_with("Consul") {
            tribune_integration::Program::Consul(self.path.clone())
        } else {
            tribune_integration::Program::Build(self.path.clone())
        }
    }
}

impl Server {
    /// Starts the program on free loopback ports with an empty data folder and waits until it takes writes.
    pub(crate) async fn start(program: &Program) -> Result<Self> {
        let folder = TempDir::with_prefix("tribune-bench-")?;
        let ports = Ports::free()?;
        fs::write(folder.path().join("agent.json"), ports.configuration().to_string())?;
        let child = spawn(program, folder.path())?;
        let mut server = Self { program: program.clone(), folder, ports, child };
        server
            .wait_until("a leader", START_LIMIT, "/v1/status/leader", |answer| answer.body.len() > 2)
            .await?;
        server
            .wait_until("its own node", START_LIMIT, "/v1/catalog/nodes", |answer| answer.body.len() > 2)
            .await?;
        Ok(server)
    }

    pub(crate) fn http(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.http).into()
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.dns).into()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One GET on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Result<Response> {
        Connection::open(self.http()).await?.ask(&request("GET", path, "")).await
    }

    /// Kills the process without warning and starts it again on the same data and ports.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.program, self.folder.path())?;
        Ok(())
    }

    /// Waits until a GET is answered 200 with a body that satisfies `good`.
    pub(crate) async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        path: &str,
        good: impl Fn(&Response) -> bool,
    ) -> Result<Duration> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended by itself ({status}):\n{}", self.program.label, self.log_tail());
            }
            if let Ok(answer) = self.get(path).await
                && answer.status == 200
                && good(&answer)
            {
                return Ok(started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{} had not {what} after {limit:?}:\n{}", self.program.label, self.log_tail())
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn kill(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ports {
    /// Ports that were free a moment ago; held together so that they differ.
    fn free() -> Result<Self> {
        let listeners: Vec<_> =
            (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
        let port = |index: usize| listeners[index].local_addr().map(|address| address.port());
        Ok(Self { http: port(0)?, dns: port(1)?, server: port(2)?, serf: port(3)? })
    }

    fn configuration(self) -> serde_json::Value {
        json!({
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "node_name": "bench",
            "log_level": "WARN",
            "disable_update_check": true,
            "performance": {"raft_multiplier": 1},
            "limits": {"http_max_conns_per_client": CONNECTIONS_MAX},
            "ports": {
                "http": self.http, "https": -1, "grpc": -1, "dns": self.dns,
                "server": self.server, "serf_lan": self.serf, "serf_wan": -1,
            },
        })
    }
}

fn spawn(program: &Program, folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let child = Command::new(&program.path)
        .args(["agent", "-server", "-bootstrap-expect=1"])
        .arg(format!("-data-dir={}", folder.join("data").display()))
        .arg(format!("-config-file={}", folder.join("agent.json").display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child.with_context(|| format!("cannot start {}", program.path.display()))
}
