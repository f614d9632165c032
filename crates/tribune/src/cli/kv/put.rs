//! `tribune kv put`: writes a value, also to lock a key and to let go of it.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tribune_client::kv::Put;

use super::data;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{print, told};

/// Writes a value.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Writes only when the session has the key or can have it, and then holds it.
    #[arg(long)]
    acquire: bool,
    /// Writes only when the session holds the key, which it then lets go.
    #[arg(long)]
    release: bool,
    /// The session for -acquire and -release.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    /// The value is given in base64.
    #[arg(long)]
    base64: bool,
    /// Writes only when the key last changed at the index that -modify-index names; 0: only when it is not there.
    #[arg(long)]
    cas: bool,
    /// The index that the key must have last changed at.
    #[arg(long, value_name = "INDEX")]
    modify_index: Option<u64>,
    /// A number that is kept with the key.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    flags: u64,
    /// The key, then the value: the text itself, @file, or - for standard input.
    #[arg(value_name = "KEY [VALUE]")]
    words: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (key, value) = match arguments.words.as_slice() {
        [] => bail!("Error! Missing KEY argument"),
        [key] => (key, Vec::new()),
        [key, value] => (key, data(value)?),
        several => bail!("Error! Too many arguments (expected 1 or 2, got {})", several.len()),
    };
    if key.starts_with('/') {
        bail!("Error! Failed writing data: Invalid key. Key must not begin with a '/': {key}");
    }
    let value = match arguments.base64 {
        true => STANDARD.decode(value).map_err(|why| anyhow!("Error! Cannot base 64 decode data: {why}"))?,
        false => value,
    };
    let put = conditional(arguments, Put::new(key, value).flags(arguments.flags))?;
    let put = arguments.scope.datacenter().into_iter().fold(put, Put::datacenter);
    let client = arguments.connection.client()?;
    let written = wait_for(async {
        client.put(&put).await.map_err(|error| anyhow!("Error! Failed writing data: {}", told(&error)))
    })?;
    print(said(arguments, key, written)?)?;
    Ok(ExitCode::SUCCESS)
}

fn conditional(arguments: &Arguments, put: Put) -> anyhow::Result<Put> {
    if (arguments.acquire || arguments.release) && arguments.session.is_empty() {
        bail!("Error! Missing -session (required with -acquire and -release)");
    }
    if arguments.acquire && arguments.release {
        bail!("Cannot specify -acquire with -release!");
    }
    if arguments.cas && (arguments.acquire || arguments.release) {
        bail!("Cannot specify -cas with -acquire or -release!");
    }
    Ok(match (arguments.cas, arguments.modify_index) {
        (true, None) => bail!("Must specify -modify-index with -cas!"),
        (false, Some(1..)) => bail!("Cannot specify -modify-index without -cas!"),
        (true, Some(index)) => put.cas(index),
        _ if arguments.acquire => put.acquire(&arguments.session),
        _ if arguments.release => put.release(&arguments.session),
        _ => put,
    })
}

fn said(arguments: &Arguments, key: &str, written: bool) -> anyhow::Result<String> {
    Ok(match written {
        false if arguments.cas => bail!("Error! Did not write to {key}: CAS failed"),
        false if arguments.acquire => bail!("Error! Did not acquire lock"),
        false if arguments.release => bail!("Error! Did not release lock"),
        false => bail!("Error! Did not write to {key}"),
        true if arguments.acquire => format!("Success! Lock acquired on: {key}\n"),
        true if arguments.release => format!("Success! Lock released on: {key}\n"),
        true => format!("Success! Data written to: {key}\n"),
    })
}
