//! `tribune kv get`: shows a value, or keys under a prefix.

use std::process::ExitCode;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tribune_client::kv::{self, KvPair};
use tribune_client::{Client, Error};

use super::unrooted;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Shows a value, or lists keys under a prefix.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Shows values in base64.
    #[arg(long)]
    base64: bool,
    /// Shows all that is known of a key.
    #[arg(long)]
    detailed: bool,
    /// Lists the names of the keys that start with the text.
    #[arg(long)]
    keys: bool,
    /// Lists the keys that start with the text, with their values.
    #[arg(long)]
    recurse: bool,
    /// Where -keys cuts names; empty shows them whole.
    #[arg(long, value_name = "TEXT", default_value = "/")]
    separator: String,
    /// The key, or the prefix with -keys and -recurse.
    #[arg(value_name = "KEY_OR_PREFIX")]
    names: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let key = match arguments.names.as_slice() {
        [] => "",
        [key] => unrooted(key),
        several => bail!("Too many arguments (expected 1, got {})", several.len()),
    };
    if key.is_empty() && !arguments.keys && !arguments.recurse {
        bail!("Error! Missing KEY argument");
    }
    let client = arguments.connection.client()?;
    let shown = wait_for(async {
        if arguments.keys {
            names(&client, arguments, key).await
        } else if arguments.recurse {
            tree(&client, arguments, key).await
        } else {
            one(&client, arguments, key).await
        }
    })?;
    print(shown)?;
    Ok(ExitCode::SUCCESS)
}

async fn names(client: &Client, arguments: &Arguments, prefix: &str) -> anyhow::Result<Vec<u8>> {
    let question = arguments.scope.narrow(kv::names(prefix, &arguments.separator));
    let names = client.ask(&question).await.map_err(unanswered)?.value;
    Ok(names.iter().flat_map(|name| format!("{name}\n").into_bytes()).collect())
}

async fn tree(client: &Client, arguments: &Arguments, prefix: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = client.ask(&arguments.scope.narrow(kv::tree(prefix))).await.map_err(unanswered)?.value;
    let mut out = Vec::new();
    for (at, pair) in pairs.iter().enumerate() {
        if arguments.detailed {
            if at > 0 {
                out.push(b'\n');
            }
            out.extend(block(pair, arguments.base64));
        } else {
            out.extend(pair.key.bytes().chain(*b":").chain(value(pair, arguments.base64)));
        }
        out.push(b'\n');
    }
    Ok(out)
}

async fn one(client: &Client, arguments: &Arguments, key: &str) -> anyhow::Result<Vec<u8>> {
    let found = client.ask(&arguments.scope.narrow(kv::get(key))).await.map_err(unanswered)?.value.0;
    let Some(pair) = found else { bail!("Error! No key exists at: {key}") };
    let mut out =
        if arguments.detailed { block(&pair, arguments.base64) } else { value(&pair, arguments.base64) };
    out.push(b'\n');
    Ok(out)
}

fn unanswered(error: Error) -> anyhow::Error {
    failed("querying Consul agent", &error)
}

/// A value may be any bytes; they are shown as they are.
fn value(pair: &KvPair, base64: bool) -> Vec<u8> {
    if base64 { STANDARD.encode(&pair.value).into_bytes() } else { pair.value.clone() }
}

fn block(pair: &KvPair, base64: bool) -> Vec<u8> {
    let session = if pair.session.is_empty() { "-" } else { &pair.session };
    let text = format!(
        "CreateIndex      {}\nFlags            {}\nKey              {}\nLockIndex        {}\n\
         ModifyIndex      {}\nSession          {session}\nValue            ",
        pair.create_index, pair.flags, pair.key, pair.lock_index, pair.modify_index
    );
    let mut out = text.into_bytes();
    out.extend(value(pair, base64));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_detail_is_a_block_of_columns() {
        let pair = KvPair {
            key: "a".into(),
            value: b"1".to_vec(),
            flags: 0,
            lock_index: 0,
            session: String::new(),
            create_index: 166,
            modify_index: 170,
        };
        let expected = "\
CreateIndex      166
Flags            0
Key              a
LockIndex        0
ModifyIndex      170
Session          -
Value            1";
        assert_eq!(String::from_utf8(block(&pair, false)).unwrap(), expected);
        assert!(block(&pair, true).ends_with(b"Value            MQ=="));
    }
}
