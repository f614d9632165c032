//! `tribune demo`: two federated datacenters on this machine, to look at and to break.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::demo::{self, Options};

/// Starts two federated datacenters on this machine, with services and certificates, to look at and to break; leaves
/// nothing behind.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Shows everything by itself and ends: an instance fails, the link is cut and healed, the leader is killed. The
    /// exit code is 0 if all went as it should.
    #[arg(long)]
    script: bool,
    /// Stays after -script until a signal or a key ends it.
    #[arg(long)]
    keep_alive: bool,
    /// Servers of the first datacenter.
    #[arg(long, value_name = "NUMBER", default_value = "3", value_parser = servers())]
    servers: u8,
    /// One of the demo's own agents: the configuration it runs with.
    #[arg(long, value_name = "FILE", hide = true, requires = "parent")]
    agent: Option<PathBuf>,
    /// The process id of the demo.
    #[arg(long, value_name = "ID", hide = true)]
    parent: Option<u32>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let (Some(file), Some(parent)) = (&arguments.agent, arguments.parent) {
        demo::end_with_parent(parent)?;
        let mut flag = OsString::from("-config-file=");
        flag.push(file);
        return Ok(super::run(["tribune".into(), "agent".into(), flag]));
    }
    let Arguments { script, keep_alive, servers, .. } = *arguments;
    demo::run(Options { script, keep_alive, servers })
}

/// With an even number the demo could not show that one may fail.
fn servers() -> impl TypedValueParser<Value = u8> {
    PossibleValuesParser::new(["1", "3", "5"]).try_map(|text| text.parse::<u8>())
}
