//! `tribune kv`: reads, writes and removes keys, and carries trees of them over as JSON.

mod delete;
mod export;
mod get;
mod import;
mod put;

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

/// Reads, writes and removes keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    Delete(delete::Arguments),
    Export(export::Arguments),
    Get(get::Arguments),
    Import(import::Arguments),
    Put(put::Arguments),
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Delete(arguments) => delete::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Put(arguments) => put::run(arguments),
    }
}

/// A key as people write it: a slash before it is habit and no part of it.
fn unrooted(key: &str) -> &str {
    key.strip_prefix('/').unwrap_or(key)
}

/// What an argument stands for: the text itself, `@file`, or `-` for standard input.
fn data(argument: &str) -> anyhow::Result<Vec<u8>> {
    if let Some(file) = argument.strip_prefix('@') {
        return std::fs::read(file).with_context(|| format!("Error! Failed to read file: {file}"));
    }
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("Error! Failed to read stdin")?;
    Ok(bytes)
}

/// Makes sure that an index comes with `-cas`, and only with it.
fn index_of_cas(cas: bool, modify_index: u64) -> anyhow::Result<Option<u64>> {
    match (cas, modify_index) {
        (true, 0) => Err(anyhow!("Must specify -modify-index with -cas!")),
        (true, index) => Ok(Some(index)),
        (false, 0) => Ok(None),
        (false, _) => Err(anyhow!("Cannot specify -modify-index without -cas!")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_from_where_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("value");
        std::fs::write(&file, [0, 255]).unwrap();
        assert_eq!(data(&format!("@{}", file.display())).unwrap(), [0, 255]);
        assert_eq!(data("text").unwrap(), b"text");
        assert!(data("@/no/such/file").unwrap_err().to_string().starts_with("Error! Failed to read file"));
    }

    #[test]
    fn an_index_belongs_to_cas() {
        assert_eq!(index_of_cas(true, 3).unwrap(), Some(3));
        assert_eq!(index_of_cas(false, 0).unwrap(), None);
        assert!(index_of_cas(true, 0).is_err() && index_of_cas(false, 3).is_err());
        assert_eq!(unrooted("/a/b"), "a/b");
    }
}
