//! `tribune leave`: has the agent leave its datacenter and stop.

use std::process::ExitCode;

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Has the agent leave its datacenter gracefully and stop.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    wait_for(async { client.leave().await.map_err(|error| failed("leaving", &error)) })?;
    print("Graceful leave complete\n")?;
    Ok(ExitCode::SUCCESS)
}
