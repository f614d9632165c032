//! `tribune completion`: a script that teaches a shell to complete commands and flags.

use std::process::ExitCode;

use clap::ValueEnum;

use super::output::print;

/// Prints a completion script for a shell: source it from the shell's start-up file.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell it is for.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments, mut tree: clap::Command) -> anyhow::Result<ExitCode> {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree, "tribune", &mut script);
    print(String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
