//! `tribune join`: has the agent join others.

use std::process::ExitCode;

use anyhow::bail;

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Has the agent join the datacenter of another agent, or with -wan a server the servers of other datacenters.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Joins the servers of other datacenters.
    #[arg(long)]
    wan: bool,
    /// Addresses of members: host or host:port.
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.addresses.is_empty() {
        bail!("At least one address to join must be specified.");
    }
    let client = arguments.connection.client()?;
    let joined = wait_for(async {
        let mut joined = 0;
        for address in &arguments.addresses {
            match client.join(address, arguments.wan).await {
                Ok(()) => joined += 1,
                Err(error) => eprintln!("{}", failed(&format!("joining address '{address}'"), &error)),
            }
        }
        Ok(joined)
    })?;
    if joined == 0 {
        bail!("Failed to join any nodes.");
    }
    print(format!("Successfully joined cluster by contacting {joined} nodes.\n"))?;
    Ok(ExitCode::SUCCESS)
}
