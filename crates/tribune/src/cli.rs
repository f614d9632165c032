//! The command tree: which commands exist and which function each runs. One file per command under `cli/`.
//!
//! Flags are written as Consul's users write them, with one dash or two; [`dashes`] brings them into the one form
//! that the parser knows.

mod dashes;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A service registry with Consul's interfaces: catalog, health checks, HTTP API and DNS.
#[derive(Debug, Parser)]
#[command(name = "tribune", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What `tribune` can be told to do.
#[derive(Debug, Subcommand)]
enum Command {
    Version(version::Arguments),
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Version(arguments) => version::run(&arguments),
        }
    }
}

/// Runs the command that `argv` names (its first word is the program's own name) and says how it ended.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let tree = Arguments::command();
    let argv = dashes::doubled(&tree, argv.into_iter().collect());
    let parsed = tree.try_get_matches_from(argv).and_then(|found| Arguments::from_arg_matches(&found));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    arguments.command.run().unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Prints what is wrong with the arguments, or the help that was asked for. Consul's commands exit with 1 on bad
/// usage, where the parser's own habit is 2.
fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if printed.is_ok() && error.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
