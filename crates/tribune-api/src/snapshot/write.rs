//! Writing an archive.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tribune_core::state::Record;

use super::{MARK, META, Meta, RECORD_BYTES_MAX, STATE, STATE_BYTES_MAX, SUMS, SnapshotError};

/// An archive of a state. `seconds` is the time that its files bear.
pub fn write(
    mut meta: Meta,
    seconds: u64,
    records: impl IntoIterator<Item = Record>,
) -> Result<Vec<u8>, SnapshotError> {
    let state = state(records)?;
    meta.size = state.len() as u64;
    let mut text = serde_json::to_vec(&meta).map_err(failed)?;
    text.push(b'\n');
    let sums = format!("{}  {META}\n{}  {STATE}\n", sum(&text), sum(&state));
    let gzip = GzEncoder::new(Vec::with_capacity(state.len() / 8), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    for (name, bytes) in [(META, text.as_slice()), (STATE, &state), (SUMS, sums.as_bytes())] {
        file(&mut tar, name, bytes, seconds).map_err(failed)?;
    }
    tar.into_inner().and_then(GzEncoder::finish).map_err(failed)
}

fn state(records: impl IntoIterator<Item = Record>) -> Result<Vec<u8>, SnapshotError> {
    let mut state = MARK.to_vec();
    for record in records {
        let start = state.len();
        state.extend([0; 4]);
        rmp_serde::encode::write_named(&mut state, &record).map_err(failed)?;
        let length = state.len() - start - 4;
        if length > RECORD_BYTES_MAX || state.len() as u64 > STATE_BYTES_MAX {
            return Err(SnapshotError(format!(
                "the state is larger than a snapshot may be: {STATE_BYTES_MAX} bytes, and {RECORD_BYTES_MAX} for \
                 one object"
            )));
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        state[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
    Ok(state)
}

fn file<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8], seconds: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(seconds);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, bytes)
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(error: impl std::fmt::Display) -> SnapshotError {
    SnapshotError(format!("the snapshot could not be written: {error}"))
}
