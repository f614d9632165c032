//! `tribune kv delete`: removes a key, or all keys under a prefix.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tribune_client::kv::Delete;

use super::{index_of_cas, unrooted};
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{print, told};

/// Removes a key, or all keys under a prefix.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Removes all keys that start with the text.
    #[arg(long)]
    recurse: bool,
    /// Removes the key only when it last changed at the index that -modify-index names.
    #[arg(long)]
    cas: bool,
    /// The index that the key must have last changed at.
    #[arg(long, value_name = "INDEX", default_value_t = 0, hide_default_value = true)]
    modify_index: u64,
    /// The key, or the prefix with -recurse.
    #[arg(value_name = "KEY_OR_PREFIX")]
    keys: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let key = match arguments.keys.as_slice() {
        [] if arguments.recurse => "",
        [] => bail!("Error! Missing KEY argument"),
        [key] => unrooted(key),
        several => bail!("Too many arguments (expected 1, got {})", several.len()),
    };
    if key.is_empty() && !arguments.recurse {
        bail!("Error! Missing KEY argument");
    }
    let index = index_of_cas(arguments.cas, arguments.modify_index)?;
    if arguments.recurse && index.is_some() {
        bail!("Cannot specify -cas with -recurse!");
    }
    let delete = if arguments.recurse { Delete::tree(key) } else { Delete::key(key) };
    let delete = index.into_iter().fold(delete, Delete::cas);
    let delete = arguments.scope.datacenter().into_iter().fold(delete, Delete::datacenter);
    let client = arguments.connection.client()?;
    let done = wait_for(async {
        client
            .delete(&delete)
            .await
            .map_err(|error| anyhow!("Error! Failed deleting key {key}: {}", told(&error)))
    })?;
    match (done, arguments.recurse) {
        (false, _) => bail!("Error! Did not delete key {key}: CAS failed"),
        (true, true) => print(format!("Success! Deleted keys with prefix: {key}\n"))?,
        (true, false) => print(format!("Success! Deleted key: {key}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
