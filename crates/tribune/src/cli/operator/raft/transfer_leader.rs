//! `tribune operator raft transfer-leader`: has another server lead.

use std::process::ExitCode;

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Has another server lead, for example before this one is stopped.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The id of the server that is to lead; without it, the one that is furthest.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let id = arguments.id.as_deref().filter(|id| !id.is_empty());
    wait_for(async {
        let transferred = client.transfer_leader(id, arguments.scope.datacenter()).await;
        transferred.map_err(|error| failed("transfering leadership", &error))
    })?;
    print("Success\n")?;
    Ok(ExitCode::SUCCESS)
}
