//! `tribune reload`: has the agent read its configuration again.

use std::process::ExitCode;

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Has the agent read its configuration files again, as SIGHUP does.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    wait_for(async { client.reload().await.map_err(|error| failed("reloading", &error)) })?;
    print("Configuration reload triggered\n")?;
    Ok(ExitCode::SUCCESS)
}
