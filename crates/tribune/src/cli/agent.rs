//! `tribune agent`: runs a node until a signal, its API or a failure ends it.

mod banner;
mod flags;
mod notify;
mod signals;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use crate::config::{Remark, Sources};
use crate::daemon::{Daemon, Ending};
use crate::logging::{Log, Thread};
use crate::settings::Settings;
use crate::telemetry;

pub(super) use flags::Arguments;

use signals::{Signal, Signals};

/// How long an orderly end may take before the process ends anyway, which is Consul's time for a graceful leave.
const STOP_WAIT: Duration = Duration::from_secs(15);

/// Open files a busy server needs: one per watcher or client connection.
const OPEN_FILES_WANTED: u64 = 65_536;

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let sources = arguments.into_sources();
    let (config, remarks) = sources.read().map_err(spoken)?;
    let (settings, more) = Settings::resolve(&config).map_err(spoken)?;
    println!("==> Starting Tribune agent...");
    let open_files = raise_open_files();
    let (log, thread) = Log::start(&settings.logging).context("the log cannot be written; check log_file")?;
    telemetry::metrics();
    // Of several providers of cryptography only the one that is installed first counts; this is the first use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    for remark in remarks.iter().chain(&more) {
        warn_of(remark);
    }
    if open_files < OPEN_FILES_WANTED {
        warn!(
            limit = open_files,
            "few files may be open at a time: raise the limit (LimitNOFILE, ulimit -n)"
        );
    }
    let pid_file = settings.pid_file.clone().map(PidFile::write).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = live(&runtime, settings, sources, log, thread);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(pid_file);
    code
}

/// Errors of the configuration are printed as Consul prints them.
fn spoken(refused: crate::config::Refused) -> anyhow::Error {
    anyhow::anyhow!("==> {refused}")
}

fn warn_of(remark: &Remark) {
    warn!(place = %remark.place, "{}", remark.text);
}

fn live(
    runtime: &Runtime,
    settings: Settings,
    sources: Sources,
    log: Log,
    mut thread: Thread,
) -> anyhow::Result<ExitCode> {
    let code = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let start = Daemon::start(settings.clone(), log, Some(sources));
        let started = tokio::select! {
            started = start => started,
            signal = signals.ending() => {
                info!(%signal, "stopped while starting");
                return Ok(ExitCode::FAILURE);
            }
        };
        let daemon = match started {
            Ok(daemon) => daemon,
            Err(error) => {
                error!(%error, "the agent could not start");
                return Err(anyhow::anyhow!("==> {error}"));
            }
        };
        thread.open(&banner::text(&settings, &daemon));
        info!("agent running: it serves HTTP and DNS");
        notify::ready();
        Ok(until_the_end(daemon, &settings, &mut signals).await)
    });
    thread.close();
    code
}

/// Why a node goes down, and whether it leaves its datacenter first.
struct Farewell {
    reason: String,
    leaves: bool,
}

async fn until_the_end(mut daemon: Daemon, settings: &Settings, signals: &mut Signals) -> ExitCode {
    let farewell = loop {
        let ending = tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => {
                    reload(&daemon).await;
                    continue;
                }
                Signal::Dump => {
                    eprint!("{}", telemetry::dump(telemetry::metrics(), &settings.telemetry));
                    continue;
                }
                Signal::Interrupt => Farewell::by_signal("SIGINT", settings.leaving.on_interrupt),
                Signal::Terminate => Farewell::by_signal("SIGTERM", settings.leaving.on_terminate),
            },
            ending = daemon.ending() => match ending {
                Ending::Leave => Farewell { reason: "the API was asked to leave".to_owned(), leaves: true },
                Ending::Failure(why) => {
                    error!(%why, "the agent cannot go on");
                    Farewell { reason: why, leaves: false }
                }
            },
        };
        break ending;
    };
    notify::stopping();
    stop(daemon, farewell, signals).await
}

impl Farewell {
    fn by_signal(name: &str, leaves: bool) -> Self {
        Self { reason: format!("caught {name}"), leaves }
    }
}

async fn reload(daemon: &Daemon) {
    info!("caught SIGHUP, reading the configuration again");
    notify::reloading();
    if let Err(error) = daemon.reload().await {
        error!(%error, "reload failed");
    }
    notify::ready();
}

/// Ends in order, at most for [`STOP_WAIT`]; a second signal ends at once.
async fn stop(daemon: Daemon, farewell: Farewell, signals: &mut Signals) -> ExitCode {
    if farewell.leaves {
        info!(reason = %farewell.reason, "Gracefully shutting down agent: it leaves its datacenter");
    } else {
        info!(reason = %farewell.reason, "Graceful shutdown disabled. Exiting: the node stays in the catalog");
    }
    tokio::select! {
        stopped = tokio::time::timeout(STOP_WAIT, daemon.stop(farewell.leaves)) => {
            if stopped.is_err() {
                warn!(waited = ?STOP_WAIT, "the agent did not stop in time; what was acknowledged is on disk");
                return ExitCode::FAILURE;
            }
        }
        signal = signals.ending() => {
            warn!(%signal, "caught a second signal, ending at once; what was acknowledged is on disk");
            return ExitCode::FAILURE;
        }
    }
    if farewell.leaves { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Raises the number of files that may be open to what the system allows, and tells it.
fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// A file with the process id, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> anyhow::Result<Self> {
        let text = format!("{}\n", std::process::id());
        std::fs::write(&path, text).with_context(|| {
            format!("pid_file {} cannot be written; check the path and who may write there", path.display())
        })?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.path()) {
            eprintln!("pid_file {} could not be removed: {error}", self.path().display());
        }
    }
}
