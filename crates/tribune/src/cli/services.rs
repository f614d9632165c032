//! `tribune services`: registers services with the local agent and removes them.

mod definitions;
mod deregister;
mod register;

use std::process::ExitCode;

/// Registers services with the local agent and removes them.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Register(register::Arguments),
    Deregister(deregister::Arguments),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Register(arguments) => register::run(arguments),
        Command::Deregister(arguments) => deregister::run(arguments),
    }
}
