//! `tribune lock`: runs a program while a lock is held.

mod child;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::future::{Either, pending, select};
use tokio::signal::unix::{SignalKind, signal};
use tribune_client::lock::{Lock, LockError, LockSettings};

use self::child::{Child, Program};
use super::connection::{Connection, wait_for};

/// How a child that failed is told with -child-exit-code, as Consul's tool does.
const CHILD_FAILED: u8 = 2;

/// Waits for a lock, runs a program while it is held, and lets go of it afterwards. When the lock is lost the
/// program is stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many may hold the lock at once; more than one make it a semaphore.
    #[arg(long = "n", value_name = "COUNT", default_value_t = 1, allow_negative_numbers = true)]
    holders: i64,
    /// Name of the session, for people; without it, one that tells of the program and the lock.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// How long the lock is waited for, such as 10s; without it, for ever.
    #[arg(long, alias = "try", value_name = "DURATION")]
    timeout: Option<String>,
    /// How often in a row looking after the lock may fail before the program is stopped.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    monitor_retry: u32,
    /// Gives the program this command's standard input.
    #[arg(long)]
    pass_stdin: bool,
    /// Runs the program with the shell in SHELL; -shell=false runs it directly.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(),
          value_name = "BOOL")]
    shell: bool,
    /// Ends with code 2 when the program ends with any code but 0.
    #[arg(long)]
    child_exit_code: bool,
    /// Says what is being done.
    #[arg(long)]
    verbose: bool,
    /// Below which prefix the lock keeps its keys, then the program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PREFIX CHILD")]
    words: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let [prefix, words @ ..] = arguments.words.as_slice() else {
        bail!("Key prefix and child command must be specified");
    };
    if words.is_empty() {
        bail!("Key prefix and child command must be specified");
    }
    let holders_max = match usize::try_from(arguments.holders) {
        Ok(1..) => arguments.holders.unsigned_abs() as usize,
        _ => bail!("Lock holder limit must be positive"),
    };
    let timeout = timeout(arguments.timeout.as_deref())?;
    let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
    let settings = LockSettings {
        holders_max,
        name: match arguments.name.as_str() {
            "" => format!("Consul lock for '{}' at '{prefix}'", words.join(" ")),
            name => name.to_owned(),
        },
        monitor_retries: arguments.monitor_retry,
        ..LockSettings::new(prefix)
    };
    let program = Program::new(words, arguments.shell, arguments.pass_stdin);
    let client = arguments.connection.client()?;
    wait_for(async {
        let mut stop = Stop::new()?;
        arguments.say(&format!("Setting up lock at path: {prefix}/.lock"));
        let lock = Lock::prepare(client, settings);
        let mut lock = lock.await.map_err(|error| anyhow!("Lock setup failed: {error}"))?;
        arguments.say("Attempting lock acquisition");
        if let Err(error) = acquired(&mut lock, timeout, &mut stop).await {
            // What cannot be tidied up now runs out by itself.
            let _ = lock.abandon().await;
            return Err(error);
        }
        arguments.say(&format!("Starting handler '{}'", words.join(" ")));
        let failed = hold(arguments, &mut lock, &program, &mut stop).await;
        lock.release().await.map_err(released)?;
        let propagates = arguments.child_exit_code && failed;
        Ok(if propagates { ExitCode::from(CHILD_FAILED) } else { ExitCode::SUCCESS })
    })
}

impl Arguments {
    fn say(&self, text: &str) {
        if self.verbose {
            eprintln!("{text}");
        }
    }
}

/// Waits for the lock until somebody or something ends that.
async fn acquired(lock: &mut Lock, timeout: Option<Duration>, stop: &mut Stop) -> anyhow::Result<()> {
    let late = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => pending().await,
        }
    };
    tokio::select! {
        acquired = lock.acquire() => acquired.map_err(|error| anyhow!("Lock acquisition failed: {error}")),
        () = late => bail!("Shutdown triggered or timeout during lock acquisition"),
        () = stop.asked() => bail!("Shutdown triggered or timeout during lock acquisition"),
    }
}

/// Runs the program until it ends, the lock is lost or somebody wants it to stop. Gives whether it failed: a program that
/// had to be stopped because the lock was lost did.
async fn hold(arguments: &Arguments, lock: &mut Lock, program: &Program, stop: &mut Stop) -> bool {
    let mut child = match program.start() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("Error starting handler: {error}");
            return true;
        }
    };
    let (why, is_lost) = {
        let ended = std::pin::pin!(child.ended());
        let end = std::pin::pin!(async {
            tokio::select! {
                why = lock.lost() => (format!("Lock lost, killing child: {why}"), true),
                () = stop.asked() => ("Shutdown triggered, killing child".to_owned(), false),
            }
        });
        match select(ended, end).await {
            Either::Left((well, _)) => {
                arguments.say("Child terminated, releasing lock");
                return !well;
            }
            Either::Right((why, _)) => why,
        }
    };
    eprintln!("{why}");
    kill(arguments, &mut child).await;
    is_lost
}

async fn kill(arguments: &Arguments, child: &mut Child) {
    arguments.say(&format!("Terminating child pid {}", child.id()));
    if !child.terminate().await {
        arguments.say("Child did not exit after grace period, killing");
        child.kill().await;
    }
}

fn released(error: LockError) -> anyhow::Error {
    anyhow!("Lock release failed: {error}")
}

fn timeout(text: Option<&str>) -> anyhow::Result<Option<Duration>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let span: tribune_api::GoDuration =
        text.parse().map_err(|error| anyhow!("Error parsing -timeout: {error}"))?;
    Ok(span.positive())
}

/// The signals that ask the command to stop.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_durations() {
        assert_eq!(timeout(None).unwrap(), None);
        assert_eq!(timeout(Some("0s")).unwrap(), None);
        assert_eq!(timeout(Some("1m30s")).unwrap(), Some(Duration::from_secs(90)));
        assert!(timeout(Some("5")).unwrap_err().to_string().starts_with("Error parsing -timeout"));
    }
}
