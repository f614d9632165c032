//! `tribune snapshot save`: writes the state of a datacenter to a file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use futures::StreamExt;
use tribune_api::snapshot::{self, Meta};

use super::only;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Writes the state of a datacenter to a file, which is verified before it bears its name.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The file to write.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = only(&arguments.files)?;
    let unverified = unverified(file);
    let saved = save(arguments, &unverified).and_then(|()| verify(&unverified));
    let meta = match saved {
        Ok(meta) => meta,
        Err(error) => {
            // What is not verified is of no use to anybody; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&unverified);
            return Err(error);
        }
    };
    fs::rename(&unverified, file)
        .with_context(|| format!("Error renaming {:?} to {:?}", unverified.display(), file.display()))?;
    print(format!("Saved and verified snapshot to index {}\n", meta.index))?;
    Ok(ExitCode::SUCCESS)
}

fn save(arguments: &Arguments, unverified: &Path) -> anyhow::Result<()> {
    let client = arguments.connection.client()?;
    let scope = &arguments.scope;
    wait_for(async {
        let opened = client.save_snapshot(scope.datacenter(), scope.is_stale()).await;
        let pieces = opened.map_err(|error| failed("saving snapshot", &error))?;
        let mut pieces = std::pin::pin!(pieces);
        // A state holds what nobody else on this machine is to read.
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(unverified);
        let mut file = opened.context("Error creating unverified snapshot file")?;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| failed("saving snapshot", &error))?;
            file.write_all(&piece).context("Error writing unverified snapshot file")?;
        }
        file.sync_all().context("Error writing unverified snapshot file")
    })
}

fn verify(unverified: &Path) -> anyhow::Result<Meta> {
    let file = File::open(unverified).context("Error opening snapshot file for verify")?;
    let inspected = snapshot::inspect(BufReader::new(file)).context("Error verifying snapshot file")?;
    Ok(inspected.meta)
}

fn unverified(file: &Path) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(".unverified");
    name.into()
}
