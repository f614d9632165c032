//! `tribune keygen`: a new key for the encryption of gossip.

use std::process::ExitCode;

use super::output::print;

/// Prints a new random key of 32 bytes for the `encrypt` setting.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<ExitCode> {
    print(format!("{}\n", tribune_gossip::generate_key()))?;
    Ok(ExitCode::SUCCESS)
}
