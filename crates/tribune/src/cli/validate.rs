//! `tribune validate`: says what is wrong with configuration files, without starting anything.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::config::syntax::Format;
use crate::config::{Refused, Remark, Source, Sources};
use crate::settings::Settings;

/// Checks configuration files and folders as the agent would read them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Says nothing when all is well.
    #[arg(long)]
    quiet: bool,
    /// Format of all files, whatever their names.
    #[arg(long, value_enum)]
    config_format: Option<Spelling>,
    /// Files and folders in the order in which the agent would be given them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Spelling {
    Hcl,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sources = Sources {
        files: arguments.paths.iter().cloned().map(Source::Path).collect(),
        format: arguments.config_format.map(|spelling| match spelling {
            Spelling::Hcl => Format::Hcl,
            Spelling::Json => Format::Json,
        }),
        ..Sources::default()
    };
    match check(&sources) {
        Ok(warnings) => {
            for warning in &warnings {
                eprintln!("warning: {warning}");
            }
            if !arguments.quiet {
                println!("Configuration is valid!");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            eprintln!("Config validation failed: {refused}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn check(sources: &Sources) -> Result<Vec<Remark>, Refused> {
    let (config, mut warnings) = sources.read()?;
    let (_, more) = Settings::resolve(&config)?;
    warnings.extend(more);
    Ok(warnings)
}
