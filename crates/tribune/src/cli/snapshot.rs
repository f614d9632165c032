//! `tribune snapshot`: the state of a datacenter as a file, and back.

mod inspect;
mod restore;
mod save;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, bail};

/// Saves the state of a datacenter to a file, and restores it from one.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Inspect(inspect::Arguments),
    Restore(restore::Arguments),
    Save(save::Arguments),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Save(arguments) => save::run(arguments),
    }
}

/// Why a file could not be opened, in the words of Consul's tool.
fn unopened(file: &Path, error: &std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    anyhow!("Error opening snapshot file: open {}: {why}", file.display())
}

/// The one file that a command is about.
fn only(files: &[std::path::PathBuf]) -> anyhow::Result<&Path> {
    match files {
        [] => bail!("Missing FILE argument"),
        [file] => Ok(file),
        more => bail!("Too many arguments (expected 1, got {})", more.len()),
    }
}
