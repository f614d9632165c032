//! Measures one server, or one beside a peer, and says what it saw.
//!
//! Both servers run at once on loopback with the same configuration and the same data, each on its own disk
//! folder, and take turns round by round, so that whatever else the machine does meets both alike. The load
//! comes from this program; nothing else needs to be installed but the peer itself.

mod dataset;
mod figure;
mod formation;
mod load;
mod machine;
mod process;
mod record;
mod report;
mod server;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::figure::{Baseline, Effort, Figure};
use crate::machine::Machine;
use crate::record::Records;
use crate::report::Run;
use crate::server::{Program, Server};

/// Measures Tribune, alone or beside a peer, and prints medians and ratios.
#[derive(Debug, Parser)]
#[command(name = "tribune-bench", version)]
struct Arguments {
    /// Program to measure beside ours: a name in PATH or a path, such as `consul`
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Our program; by default the release binary beside this one
    #[arg(long)]
    ours: Option<PathBuf>,
    /// Figures to take; also cluster, renew and failover on three servers, and wan on two datacenters
    #[arg(long, value_delimiter = ',', default_value = "dns,http,register,watch,memory,restart")]
    only: Vec<Figure>,
    /// Numbers of registered instances at which everything is measured, rising
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    sizes: Vec<usize>,
    /// Rounds; ours and the peer take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each load in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds of the restart figure, which takes minutes with some peers
    #[arg(long, default_value_t = 1)]
    restart_rounds: usize,
    /// How often the leader of three servers is killed in the failover figure
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Blocked watchers to wake: 1000 and 10000 are known
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    watchers: Vec<usize>,
    /// DNS questions per second at which latency is looked at
    #[arg(long, default_value_t = 5000)]
    dns_rate: u32,
    /// HTTP requests per second at which latency is looked at
    #[arg(long, default_value_t = 3000)]
    http_rate: u32,
    /// File to write all raw rounds to, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A run in progress.
struct Bench {
    arguments: Arguments,
    effort: Effort,
    servers: Vec<Server>,
    records: Records,
    failures: Vec<String>,
    progress: ProgressBar,
}

// Two threads: enough to wake ten thousand watchers quickly, not so many that they crowd out the servers.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match measure(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: Arguments) -> Result<()> {
    ensure!(arguments.sizes.is_sorted(), "--sizes must rise");
    ensure!(arguments.sizes.first().is_some_and(|size| *size >= 10), "--sizes must be at least 10");
    allow_many_files();
    let machine = Machine::look();
    let mut programs = vec![Program::new("ours", &ours(arguments.ours.as_deref())?)?];
    if let Some(peer) = &arguments.peer {
        let label = peer.file_name().unwrap_or(peer.as_os_str()).to_string_lossy();
        let label = if label == "ours" { "peer".into() } else { label };
        programs.push(Program::new(&label, peer)?);
    }
    let (rounds, seconds, json) = (arguments.rounds, arguments.seconds, arguments.json.clone());
    let bench = Bench::start(arguments, &programs).await?;
    let (records, failures) = bench.run(&programs).await?;
    let run = Run { machine, programs, rounds, seconds, failures };
    report::print(&run, &records);
    if let Some(path) = json {
        report::write(&path, &run, &records)?;
    }
    Ok(())
}

impl Bench {
    async fn start(arguments: Arguments, programs: &[Program]) -> Result<Self> {
        let mut servers = Vec::new();
        if arguments.only.iter().any(|figure| figure.is_single()) {
            for program in programs {
                servers.push(Server::start(program).await?);
            }
        }
        let effort = Effort {
            duration: Duration::from_secs_f64(arguments.seconds),
            dns_rate: arguments.dns_rate,
            http_rate: arguments.http_rate,
            watchers: arguments.watchers.clone(),
        };
        let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {msg}")?;
        let progress = ProgressBar::new_spinner().with_style(style);
        progress.enable_steady_tick(Duration::from_millis(200));
        Ok(Self { arguments, effort, servers, records: Records::default(), failures: Vec::new(), progress })
    }

    async fn run(mut self, programs: &[Program]) -> Result<(Records, Vec<String>)> {
        if !self.servers.is_empty() {
            self.single().await?;
        }
        // What follows has servers of its own; these would only be in the way.
        self.servers.clear();
        self.clustered(programs).await?;
        self.federated(programs).await?;
        self.progress.finish_and_clear();
        Ok((self.records, self.failures))
    }

    /// The figures of single servers, at all sizes.
    async fn single(&mut self) -> Result<()> {
        let mut baselines = Vec::new();
        for server in &self.servers {
            baselines.push(Baseline::take(server).await?);
        }
        let mut loaded = 0;
        for size in self.arguments.sizes.clone() {
            self.grow(loaded, size, &baselines).await?;
            loaded = size;
            for figure in Figure::ROUNDS {
                if self.arguments.only.contains(&figure) {
                    self.rounds_of(figure, size).await;
                }
            }
        }
        if self.arguments.only.contains(&Figure::Restart) {
            self.restarts(loaded).await?;
        }
        Ok(())
    }

    /// Loads up to `size` and takes what loading itself shows.
    async fn grow(&mut self, from: usize, size: usize, baselines: &[Baseline]) -> Result<()> {
        for (server, baseline) in self.servers.iter().zip(baselines) {
            let label = &server.program.label;
            self.progress.set_message(format!("{label}: loading {size} instances"));
            let written = process::written_bytes(server.pid())?;
            let took = dataset::load(server.http(), from, size).await?;
            let written = process::written_bytes(server.pid())? - written;
            let added = (size - from) as f64;
            if self.arguments.only.contains(&Figure::Register) && size > from {
                self.records.add(figure::LOAD_RATE, size, label, added / took.as_secs_f64());
                self.records.add(figure::LOAD_BYTES, size, label, written as f64 / added);
            }
            if self.arguments.only.contains(&Figure::Memory) {
                let bytes = baseline.per_instance(server, size).await?;
                self.records.add(figure::PER_INSTANCE, size, label, bytes);
                self.records.add(figure::RAW, size, label, Baseline::raw());
            }
        }
        Ok(())
    }

    /// All rounds of one figure; who begins changes from round to round.
    async fn rounds_of(&mut self, figure: Figure, size: usize) {
        for round in 0..self.arguments.rounds {
            for turn in 0..self.servers.len() {
                let server = &self.servers[(turn + round) % self.servers.len()];
                let label = &server.program.label;
                let (number, rounds) = (round + 1, self.arguments.rounds);
                let message = format!("{label}: {figure:?} at {size} instances, round {number} of {rounds}");
                self.progress.set_message(message);
                match figure.round(server, size, &self.effort).await {
                    Ok(readings) => {
                        for (measure, value) in readings {
                            self.records.add(measure, size, label, value);
                        }
                    }
                    Err(error) => {
                        self.failures.push(format!("{figure:?} of {label} at {size} instances: {error:#}"));
                    }
                }
            }
        }
    }

    async fn restarts(&mut self, size: usize) -> Result<()> {
        for round in 0..self.arguments.restart_rounds {
            for server in &mut self.servers {
                let label = server.program.label.clone();
                let limit = figure::RESTART_LIMIT.as_secs();
                self.progress.set_message(format!(
                    "{label}: restart {} with {size} instances, up to {limit} s",
                    round + 1
                ));
                let seconds = figure::restart(server, size).await?;
                self.records.add(figure::SERVING, size, &label, seconds);
            }
        }
        Ok(())
    }
}

/// Our program: the one named, or the release binary that lies beside this one.
fn ours(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("tribune");
    ensure!(
        beside.exists(),
        "{} is not there: run `cargo build --release -p tribune` first, or name a program with --ours",
        beside.display()
    );
    Ok(beside)
}

/// Raises the limit of open files as far as allowed: ten thousand watchers are ten thousand sockets.
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // A refusal leaves the old limit, and the figure that needs more will say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
