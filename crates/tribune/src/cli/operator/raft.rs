//! `tribune operator raft`: who takes part in the agreement.

mod list_peers;
mod recover;
mod remove_peer;
mod transfer_leader;

use std::process::ExitCode;

/// Shows and changes who takes part in the agreement of a datacenter's servers.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    ListPeers(list_peers::Arguments),
    Recover(recover::Arguments),
    RemovePeer(remove_peer::Arguments),
    TransferLeader(transfer_leader::Arguments),
}

pub(in crate::cli) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::ListPeers(arguments) => list_peers::run(arguments),
        Command::Recover(arguments) => recover::run(arguments),
        Command::RemovePeer(arguments) => remove_peer::run(arguments),
        Command::TransferLeader(arguments) => transfer_leader::run(arguments),
    }
}
