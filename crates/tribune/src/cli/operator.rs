//! `tribune operator`: looks after the servers of a datacenter.

mod autopilot;
mod raft;

use std::process::ExitCode;

/// Looks after the servers of a datacenter.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    #[command(subcommand)]
    Autopilot(autopilot::Command),
    #[command(subcommand)]
    Raft(raft::Command),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Autopilot(command) => autopilot::run(command),
        Command::Raft(command) => raft::run(command),
    }
}
