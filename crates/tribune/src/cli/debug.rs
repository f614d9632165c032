//! `tribune debug`: gathers what helps to find a fault, for a while, into one archive.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior};
use tribune_api::GoDuration;
use tribune_client::{Client, Question, agent};

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Most bytes of the log that are kept, so that an archive can be sent to somebody.
const LOG_BYTES_MAX: usize = 64 << 20;

/// Half the time that figures are of: none is missed, and looking more often would tell nothing new.
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// What can be gathered.
const TARGETS: [&str; 5] = ["agent", "cluster", "host", "logs", "metrics"];

/// Gathers what an agent says of itself for a while, into one archive. Look through it before you pass it on.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For how long.
    #[arg(long, default_value = "2m", value_parser = span)]
    duration: Duration,
    /// Time between two looks at the figures.
    #[arg(long, default_value = "30s", value_parser = span)]
    interval: Duration,
    /// Only this: agent, cluster, host, logs or metrics. May be given several times.
    #[arg(long, value_name = "WHAT", value_parser = TARGETS)]
    capture: Vec<String>,
    /// The archive to write; .tar.gz is added to its name.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.interval < INTERVAL_MIN {
        bail!("interval must be at least {}", GoDuration::from(INTERVAL_MIN));
    }
    if arguments.duration < arguments.interval {
        bail!("duration must be at least the interval, {}", GoDuration::from(arguments.interval));
    }
    let begun = seconds();
    let base = arguments.output.clone().unwrap_or_else(|| format!("tribune-debug-{begun}").into());
    let mut name = base.into_os_string();
    name.push(".tar.gz");
    let archive = PathBuf::from(name);
    let client = arguments.connection.client()?;
    // Before anything is gathered: it would be in vain if it could not be written.
    let file = create(&archive)?;
    let gathered = wait_for(gather(&client, arguments));
    let written = gathered.and_then(|files| {
        write(file, begun, &files).with_context(|| format!("Error writing {}", archive.display()))
    });
    if let Err(error) = written {
        // Half an archive is of no use; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&archive);
        return Err(error);
    }
    print(format!("Saved debug archive: {}\n", archive.display()))?;
    Ok(ExitCode::SUCCESS)
}

type Files = Vec<(String, Vec<u8>)>;

impl Arguments {
    fn wants(&self, what: &str) -> bool {
        self.capture.is_empty() || self.capture.iter().any(|wanted| wanted == what)
    }
}

/// An agent that cannot be asked at the beginning is an error; what it does not answer later is left out.
async fn gather(client: &Client, arguments: &Arguments) -> anyhow::Result<Files> {
    print("Starting debugger and capturing static information...\n")?;
    let mut files = Files::new();
    let fixed =
        [("agent", agent::info().raw()), ("cluster", agent::members().raw()), ("host", agent::host().raw())];
    for (what, question) in fixed.into_iter().filter(|(what, _)| arguments.wants(what)) {
        let answer = client.ask(&question).await.map_err(|error| failed("querying target agent", &error))?;
        files.push((format!("{what}.json"), answer.value.get().as_bytes().to_vec()));
    }
    print(format!("Beginning capture for {}...\n", GoDuration::from(arguments.duration)))?;
    let until = Instant::now() + arguments.duration;
    let figures = figures(client, arguments, until);
    let log = log(client, arguments.wants("logs"), until);
    tokio::select! {
        // An agent that refuses its log does so at once.
        gathered = async { tokio::try_join!(async { Ok(figures.await) }, log) } => {
            let (figures, log) = gathered?;
            files.extend(figures);
            files.extend(log.map(|log| ("agent.log".to_owned(), log)));
        }
        _ = tokio::signal::ctrl_c() => eprintln!("Interrupted: only what was there at the beginning is saved"),
    }
    Ok(files)
}

async fn figures(client: &Client, arguments: &Arguments, until: Instant) -> Files {
    let mut files = Files::new();
    if !arguments.wants("metrics") {
        return files;
    }
    let question: Question<Box<RawValue>> = agent::metrics().raw();
    let mut ticks = tokio::time::interval(arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while tokio::time::timeout_at(until, ticks.tick()).await.is_ok() {
        if let Ok(answer) = client.ask(&question).await {
            files.push((format!("{}/metrics.json", seconds()), answer.value.get().as_bytes().to_vec()));
        }
    }
    files
}

async fn log(client: &Client, wanted: bool, until: Instant) -> anyhow::Result<Option<Vec<u8>>> {
    if !wanted {
        return Ok(None);
    }
    let opened = client.monitor("debug", false).await;
    let lines = opened.map_err(|error| failed("querying target agent", &error))?;
    let mut lines = std::pin::pin!(lines);
    let mut log = Vec::new();
    while let Ok(Some(Ok(piece))) = tokio::time::timeout_at(until, lines.next()).await {
        if log.len() + piece.len() > LOG_BYTES_MAX {
            break;
        }
        log.extend_from_slice(&piece);
    }
    Ok(Some(log))
}

fn create(archive: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(archive);
    opened.with_context(|| format!("Error creating {}", archive.display()))
}

fn write(file: File, begun: u64, files: &Files) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(begun);
        tar.append_data(&mut header, format!("tribune-debug-{begun}/{name}"), bytes.as_slice())?;
    }
    let mut file = tar.into_inner().and_then(GzEncoder::finish)?;
    Ok(file.flush().and_then(|()| file.sync_all())?)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn span(text: &str) -> Result<Duration, String> {
    let span: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    span.positive().ok_or_else(|| "it must be longer than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_for_its_owner_and_never_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tar.gz");
        let files = vec![("agent.json".to_owned(), b"{}".to_vec())];
        write(create(&archive).unwrap(), 7, &files).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&archive).unwrap()));
        let paths = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
        assert_eq!(paths.collect::<Vec<_>>(), [PathBuf::from("tribune-debug-7/agent.json")]);
        assert!(create(&archive).unwrap_err().to_string().starts_with("Error creating"));
    }

    #[test]
    fn times_are_as_gos() {
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert!(span("0s").is_err() && span("x").is_err());
    }
}
