//! `tribune force-leave`: declares a failed member to have left.

use std::process::ExitCode;

use anyhow::bail;

use super::connection::{Connection, wait_for};
use super::output::failed;

/// Declares a failed member to have left, so that it is no longer waited for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Forgets the member altogether.
    #[arg(long)]
    prune: bool,
    /// Looks for it among the servers of all datacenters, where its name is node.datacenter.
    #[arg(long)]
    wan: bool,
    /// Name of the member.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let [node] = arguments.nodes.as_slice() else {
        bail!("A single node name must be specified to force leave.");
    };
    let client = arguments.connection.client()?;
    wait_for(async {
        let left = client.force_leave(node, arguments.prune, arguments.wan).await;
        left.map_err(|error| failed("force leaving", &error))
    })?;
    Ok(ExitCode::SUCCESS)
}
