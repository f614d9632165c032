//! `tribune catalog datacenters`: all known datacenters, one per line, the nearest first.

use std::process::ExitCode;

use tribune_client::catalog;

use crate::cli::connection::{Connection, wait_for};
use crate::cli::output::{failed, print};

/// Lists all known datacenters, the nearest first.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let answer = wait_for(async {
        client.ask(&catalog::datacenters()).await.map_err(|error| failed("listing datacenters", &error))
    })?;
    print(answer.value.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
