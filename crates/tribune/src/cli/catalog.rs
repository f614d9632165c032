//! `tribune catalog`: what is registered in a datacenter.

mod datacenters;
mod nodes;
mod services;

use std::process::ExitCode;

/// Shows datacenters, nodes and services.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Datacenters(datacenters::Arguments),
    Nodes(nodes::Arguments),
    Services(services::Arguments),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Datacenters(arguments) => datacenters::run(arguments),
        Command::Nodes(arguments) => nodes::run(arguments),
        Command::Services(arguments) => services::run(arguments),
    }
}
