//! `tribune tls`: makes a CA and certificates for nodes and people.

mod ca;
mod cert;
mod files;

use std::process::ExitCode;

/// Makes a CA, and certificates for nodes and people.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    #[command(subcommand)]
    Ca(ca::Command),
    #[command(subcommand)]
    Cert(cert::Command),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ca(ca::Command::Create(arguments)) => ca::create(arguments),
        Command::Cert(cert::Command::Create(arguments)) => cert::create(arguments),
    }
}
