//! The command tree: which commands exist and which function each runs. One file per command under `cli/`.
//!
//! Flags are written as Consul's users write them, with one dash or two; `dashes` brings them into the one form
//! that the parser knows.

mod connection;
mod dashes;
mod flag;
mod output;
mod shell;
mod unknown;

mod agent;
mod catalog;
mod completion;
mod debug;
mod demo;
mod event;
mod force_leave;
mod info;
mod join;
mod keygen;
mod keyring;
mod kv;
mod leave;
mod lock;
mod maint;
mod members;
mod monitor;
mod operator;
mod reload;
mod rtt;
mod services;
mod snapshot;
mod tls;
mod validate;
mod version;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A service registry with Consul's interfaces: catalog, health checks, HTTP API and DNS.
#[derive(Debug, Parser)]
#[command(name = "tribune", disable_help_subcommand = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What `tribune` can be told to do.
#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Arguments),
    #[command(subcommand)]
    Catalog(catalog::Command),
    Completion(completion::Arguments),
    Debug(debug::Arguments),
    Demo(demo::Arguments),
    Event(event::Arguments),
    ForceLeave(force_leave::Arguments),
    Info(info::Arguments),
    Join(join::Arguments),
    Keygen(keygen::Arguments),
    Keyring(keyring::Arguments),
    #[command(subcommand)]
    Kv(kv::Command),
    Leave(leave::Arguments),
    Lock(lock::Arguments),
    Maint(maint::Arguments),
    Members(members::Arguments),
    Monitor(monitor::Arguments),
    #[command(subcommand)]
    Operator(operator::Command),
    Reload(reload::Arguments),
    Rtt(rtt::Arguments),
    #[command(subcommand)]
    Services(services::Command),
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    #[command(subcommand)]
    Tls(tls::Command),
    Validate(validate::Arguments),
    Version(version::Arguments),
    Watch(watch::Arguments),
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Agent(arguments) => agent::run(arguments),
            Self::Catalog(command) => catalog::run(&command),
            Self::Completion(arguments) => completion::run(&arguments, tree()),
            Self::Debug(arguments) => debug::run(&arguments),
            Self::Demo(arguments) => demo::run(&arguments),
            Self::Event(arguments) => event::run(&arguments),
            Self::ForceLeave(arguments) => force_leave::run(&arguments),
            Self::Info(arguments) => info::run(&arguments),
            Self::Join(arguments) => join::run(&arguments),
            Self::Keygen(arguments) => keygen::run(&arguments),
            Self::Keyring(arguments) => keyring::run(&arguments),
            Self::Kv(command) => kv::run(&command),
            Self::Leave(arguments) => leave::run(&arguments),
            Self::Lock(arguments) => lock::run(&arguments),
            Self::Maint(arguments) => maint::run(&arguments),
            Self::Members(arguments) => members::run(&arguments),
            Self::Monitor(arguments) => monitor::run(&arguments),
            Self::Operator(command) => operator::run(&command),
            Self::Reload(arguments) => reload::run(&arguments),
            Self::Rtt(arguments) => rtt::run(&arguments),
            Self::Services(command) => services::run(&command),
            Self::Snapshot(command) => snapshot::run(&command),
            Self::Tls(command) => tls::run(&command),
            Self::Validate(arguments) => validate::run(&arguments),
            Self::Version(arguments) => version::run(&arguments),
            Self::Watch(arguments) => watch::run(&arguments),
        }
    }
}

/// Runs the command that `argv` names (its first word is the program's own name) and says how it ended.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let tree = tree();
    let mut argv = dashes::doubled(&tree, argv.into_iter().collect());
    match argv.get(1).and_then(|word| word.to_str()) {
        Some("-v" | "--version") => argv[1] = "version".into(),
        Some(name) if unknown::is(&tree, name) => {
            eprint!("{}", unknown::message(&tree, name));
            return ExitCode::from(unknown::EXIT_CODE);
        }
        _ => {}
    }
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

/// All commands with their flags.
fn tree() -> clap::Command {
    flag::with_switch_values(Arguments::command())
}

/// Prints what is wrong with the arguments, or the help that was asked for. Consul's commands exit with 1 on bad
/// usage, where the parser's own habit is 2.
fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if printed.is_ok() && error.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
