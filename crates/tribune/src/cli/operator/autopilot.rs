//! `tribune operator autopilot`: what is decided about servers, and how they are.

mod get_config;
mod set_config;
mod state;

use std::process::ExitCode;

/// Shows and changes what is decided about servers, and shows how they are.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    GetConfig(get_config::Arguments),
    SetConfig(set_config::Arguments),
    State(state::Arguments),
}

pub(in crate::cli) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::GetConfig(arguments) => get_config::run(arguments),
        Command::SetConfig(arguments) => set_config::run(arguments),
        Command::State(arguments) => state::run(arguments),
    }
}
