//! `tribune kv export`: a tree of keys as JSON, for `tribune kv import`.

use std::process::ExitCode;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tribune_client::kv::{self, KvPair};

use super::unrooted;
use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Prints all keys under a prefix as JSON, for `kv import`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Where to begin; without it, everything.
    #[arg(value_name = "PREFIX")]
    prefixes: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

/// A key on its way from one datacenter to another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exported {
    pub(super) key: String,
    #[serde(default)]
    pub(super) flags: u64,
    /// In base64.
    #[serde(default)]
    pub(super) value: String,
}

impl From<KvPair> for Exported {
    fn from(pair: KvPair) -> Self {
        Self { key: pair.key, flags: pair.flags, value: STANDARD.encode(pair.value) }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let prefix = match arguments.prefixes.as_slice() {
        [] => "",
        [prefix] => unrooted(prefix),
        several => bail!("Too many arguments (expected 1, got {})", several.len()),
    };
    let client = arguments.connection.client()?;
    let question = arguments.scope.narrow(kv::tree(prefix));
    let answer = wait_for(async {
        client.ask(&question).await.map_err(|error| failed("querying Consul agent", &error))
    })?;
    print(json(answer.value)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Indented by tabs, as people compare such files.
fn json(pairs: Vec<KvPair>) -> anyhow::Result<Vec<u8>> {
    let exported: Vec<Exported> = pairs.into_iter().map(Exported::from).collect();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut text = Vec::new();
    exported.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_can_be_read_back() {
        let pair = KvPair { key: "q/1".into(), value: b"<&>".to_vec(), flags: 7, ..KvPair::default() };
        let text = json(vec![pair]).unwrap();
        let expected = "[\n\t{\n\t\t\"key\": \"q/1\",\n\t\t\"flags\": 7,\n\t\t\"value\": \"PCY+\"\n\t}\n]\n";
        assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
        let read: Vec<Exported> = serde_json::from_slice(&text).unwrap();
        assert_eq!((read[0].key.as_str(), read[0].flags, read[0].value.as_str()), ("q/1", 7, "PCY+"));
        assert_eq!(json(vec![]).unwrap(), b"[]\n");
    }
}
