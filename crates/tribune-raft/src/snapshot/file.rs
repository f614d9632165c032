//! A snapshot as a file.
//!
//! ```text
//! "TRIBUNES"  form (1 byte)  { length (u32)  record } …  length 0  SHA-256 of everything before
//! ```
//!
//! The first record says where in the log the snapshot stands and who the servers were; the others are those of
//! [`State::records`]. Each record is in the envelope of [`crate::codec`], with its own checksum; the hash at the
//! end also finds a file that was cut. A file is written under another name and renamed when it is safe on the
//! disk: under its own name it is whole, or it was damaged later.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tribune_core::State;
use tribune_core::state::Record;

use crate::codec::{self, CodecError, PositionRecord, StoredMembersRecord};
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"TRIBUNES";
const FORM: u8 = 1;
/// Snapshots that are kept: the newest, and one more in case that one turns out to be damaged.
const KEPT: usize = 2;
const EXTENSION: &str = "snapshot";
/// The one that is being written; always the same name, so that an interrupted one is overwritten.
const UNFINISHED: &str = "unfinished";
/// No record comes near this; a length beyond it is damage.
const RECORD_BYTES_MAX: u32 = 64 << 20;

/// Why a snapshot file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Version(String),
}

impl From<CodecError> for ReadError {
    fn from(error: CodecError) -> Self {
        match error.is_newer() {
            true => Self::Version(error.to_string()),
            false => Self::Damaged(error.to_string()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct MetaRecord {
    position: Option<PositionRecord>,
    members: StoredMembersRecord,
}

/// Writes a snapshot safely and removes those that are no longer kept. Blocks.
pub(crate) fn write(directory: &Path, meta: &SnapshotMeta, state: &State) -> Result<PathBuf, io::Error> {
    let position = meta.last_log_id.as_ref().map(PositionRecord::from);
    let (term, index) = position.map_or((0, 0), |position| (position.term, position.index));
    let path = directory.join(format!("{index:020}-{term:020}.{EXTENSION}"));
    let unfinished = directory.join(UNFINISHED);
    if let Err(error) = fill(&unfinished, position, meta, state) {
        // What was written of it would only take space, which may be what is missing.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, &path)?;
    File::open(directory)?.sync_all()?;
    remove_old(directory)?;
    Ok(path)
}

fn fill(
    path: &Path,
    position: Option<PositionRecord>,
    meta: &SnapshotMeta,
    state: &State,
) -> Result<(), io::Error> {
    let mut out = HashWriter { inner: BufWriter::new(File::create(path)?), hasher: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&[FORM])?;
    write_record(&mut out, &MetaRecord { position, members: (&meta.last_membership).into() })?;
    for record in state.records() {
        write_record(&mut out, &record)?;
    }
    out.write_all(&0u32.to_le_bytes())?;
    let HashWriter { mut inner, hasher } = out;
    inner.write_all(&hasher.finalize())?;
    inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn write_record<T: Serialize>(out: &mut impl Write, record: &T) -> Result<(), io::Error> {
    let bytes = codec::encode(record).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a snapshot record is too long"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)
}

fn remove_old(directory: &Path) -> Result<(), io::Error> {
    for path in list(directory)?.into_iter().skip(KEPT) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The snapshot files of a directory, the newest first.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, io::Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

/// Reads and verifies a snapshot. Blocks.
pub(crate) fn read(path: &Path) -> Result<(SnapshotMeta, State), ReadError> {
    let file = File::open(path)?;
    let mut input = HashReader { inner: BufReader::new(file), hasher: Sha256::new() };
    let mut start = [0; MAGIC.len() + 1];
    read_exact(&mut input, &mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(ReadError::Damaged("it does not begin like a snapshot".into()));
    }
    if start[MAGIC.len()] != FORM {
        let form = start[MAGIC.len()];
        return Err(ReadError::Version(format!("it has form {form}, this version knows form {FORM}")));
    }
    let meta: MetaRecord = read_record(&mut input)?
        .ok_or_else(|| ReadError::Damaged("it holds nothing".into()))
        .and_then(|bytes| Ok(codec::decode(&bytes)?))?;
    let mut failed = None;
    let records = std::iter::from_fn(|| next_record(&mut input, &mut failed));
    let state = State::from_records(records);
    if let Some(error) = failed {
        return Err(error);
    }
    verify_end(input)?;
    let state = state.map_err(|error| ReadError::Damaged(error.to_string()))?;
    let last_log_id = meta.position.map(Into::into);
    Ok((SnapshotMeta { last_log_id, last_membership: meta.members.try_into()? }, state))
}

fn next_record<R: Read>(input: &mut HashReader<R>, failed: &mut Option<ReadError>) -> Option<Record> {
    let record = read_record(input).and_then(|bytes| match bytes {
        Some(bytes) => Ok(Some(codec::decode(&bytes)?)),
        None => Ok(None),
    });
    record.unwrap_or_else(|error| {
        *failed = Some(error);
        None
    })
}

/// The next record's envelope; `None` at the mark after the last.
fn read_record(input: &mut impl Read) -> Result<Option<Vec<u8>>, ReadError> {
    let mut length = [0; 4];
    read_exact(input, &mut length)?;
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > RECORD_BYTES_MAX {
        return Err(ReadError::Damaged(format!("a record claims to be {length} bytes long")));
    }
    let mut bytes = vec![0; length as usize];
    read_exact(input, &mut bytes)?;
    Ok(Some(bytes))
}

fn verify_end<R: Read>(input: HashReader<R>) -> Result<(), ReadError> {
    let HashReader { mut inner, hasher } = input;
    let mut stored = [0; 32];
    read_exact(&mut inner, &mut stored)?;
    if stored != *hasher.finalize() {
        return Err(ReadError::Damaged("its hash does not fit its content".into()));
    }
    if inner.read(&mut [0])? != 0 {
        return Err(ReadError::Damaged("something follows its end".into()));
    }
    Ok(())
}

fn read_exact(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), ReadError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Damaged("it is cut off".into()),
        _ => error.into(),
    })
}

struct HashWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for HashWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
