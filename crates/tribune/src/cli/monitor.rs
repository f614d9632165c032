//! `tribune monitor`: follows the agent's log.

use std::pin::pin;
use std::process::ExitCode;

use futures::{Stream, StreamExt};
use tribune_client::Error;

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Follows the agent's log, at a finer level than it writes itself if that is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Lowest level that is shown: trace, debug, info, warn or error.
    #[arg(long, default_value = "INFO", value_name = "LEVEL")]
    log_level: String,
    /// Shows log lines as JSON.
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    wait_for(async {
        let log = client.monitor(&arguments.log_level, arguments.log_json).await;
        let log = log.map_err(|error| failed("starting monitor", &error))?;
        tokio::select! {
            ended = follow(log) => ended,
            stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| ExitCode::SUCCESS)?),
        }
    })
}

/// Prints what comes until the agent ends it.
async fn follow(log: impl Stream<Item = Result<impl AsRef<[u8]>, Error>>) -> anyhow::Result<ExitCode> {
    let mut log = pin!(log);
    while let Some(Ok(piece)) = log.next().await {
        print(piece)?;
    }
    print(
        "Remote side ended the monitor! This usually means that the\nremote side has exited or crashed.\n",
    )?;
    Ok(ExitCode::FAILURE)
}
