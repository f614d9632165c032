//! `tribune snapshot restore`: puts the state from a file in the place of the present one.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use super::only;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Puts the state from a file in the place of the present one. All that was written since is gone.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The file to restore from.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = only(&arguments.files)?;
    let archive = fs::read(file).map_err(|error| super::unopened(file, &error))?;
    let client = arguments.connection.client()?;
    wait_for(async {
        let restored = client.restore_snapshot(archive.into(), arguments.scope.datacenter()).await;
        restored.map_err(|error| failed("restoring snapshot", &error))
    })?;
    print("Restored snapshot\n")?;
    Ok(ExitCode::SUCCESS)
}
