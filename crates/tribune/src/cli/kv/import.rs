//! `tribune kv import`: writes keys that `tribune kv export` printed.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tribune_client::kv::Put;

use super::data;
use super::export::Exported;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{print, told};

/// Writes keys from JSON as `kv export` prints it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Puts this before the name of every key.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// The JSON itself, @file, or - for standard input.
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let json = match arguments.data.as_slice() {
        [] => bail!("Error! Missing DATA argument"),
        [one] if one.is_empty() => bail!("Error! Empty DATA argument"),
        [one] => data(one)?,
        several => bail!("Error! Too many arguments (expected 1, got {})", several.len()),
    };
    let entries: Vec<Exported> =
        serde_json::from_slice(&json).map_err(|error| anyhow!("Cannot unmarshal data: {error}"))?;
    let client = arguments.connection.client()?;
    wait_for(async {
        for entry in entries {
            let key = format!("{}{}", arguments.prefix, entry.key);
            let value = STANDARD
                .decode(&entry.value)
                .map_err(|why| anyhow!("Error base 64 decoding value for key {key}: {why}"))?;
            let put = Put::new(&key, value).flags(entry.flags);
            let put = arguments.scope.datacenter().into_iter().fold(put, Put::datacenter);
            client
                .put(&put)
                .await
                .map_err(|error| anyhow!("Error! Failed writing data for key {key}: {}", told(&error)))?;
            print(format!("Imported: {key}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
