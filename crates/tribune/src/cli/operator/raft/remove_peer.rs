//! `tribune operator raft remove-peer`: puts a server out of the agreement.

use std::process::ExitCode;

use anyhow::bail;
use tribune_client::operator::Peer;

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Puts a server out of the agreement that is gone for good.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Its address, ip:port.
    #[arg(long, default_value = "", hide_default_value = true)]
    address: String,
    /// Its id.
    #[arg(long, default_value = "", hide_default_value = true)]
    id: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (peer, told) = match (arguments.address.as_str(), arguments.id.as_str()) {
        ("", "") => bail!("Error removing peer: an address or id is required for the peer to remove"),
        ("", id) => (Peer::Id(id), format!("Removed peer with id {id:?}\n")),
        (address, "") => (Peer::Address(address), format!("Removed peer with address {address:?}\n")),
        _ => bail!("Error removing peer: cannot give both an address and id"),
    };
    let client = arguments.connection.client()?;
    wait_for(async {
        let removed = client.remove_peer(peer, arguments.scope.datacenter()).await;
        removed.map_err(|error| failed("removing peer", &error))
    })?;
    print(told)?;
    Ok(ExitCode::SUCCESS)
}
