//! `tribune keygen`: a new key for the encryption of gossip.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::output::print;

/// Length of a key: AES-256.
const KEY_BYTES: usize = 32;

/// Prints a new random key of 32 bytes for the `encrypt` setting.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<ExitCode> {
    let key: [u8; KEY_BYTES] = rand::random();
    print(format!("{}\n", STANDARD.encode(key)))?;
    Ok(ExitCode::SUCCESS)
}
