//! `tribune version`: which build this is.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

/// Prints the version of the program.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Pretty,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match arguments.format {
        Format::Pretty => println!("Tribune v{version}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&json!({ "Version": version }))?),
    }
    Ok(ExitCode::SUCCESS)
}
