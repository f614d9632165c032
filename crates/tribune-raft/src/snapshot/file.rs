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

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tribune_core::state::Record;
use tribune_core::{Index, State};

use crate::codec::{self, CodecError, PositionRecord, StoredMembersRecord};
use crate::faults::Fault;
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
/// Length of a piece of a snapshot on its way.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

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

impl From<&SnapshotMeta> for MetaRecord {
    fn from(meta: &SnapshotMeta) -> Self {
        let position = meta.last_log_id.as_ref().map(Into::into);
        Self { position, members: (&meta.last_membership).into() }
    }
}

/// Writes a snapshot safely and removes those that are no longer kept. Blocks.
pub(crate) fn write(directory: &Path, meta: &SnapshotMeta, state: &State) -> Result<(), io::Error> {
    let unfinished = directory.join(UNFINISHED);
    if let Err(error) = fill(&unfinished, meta, state) {
        // What was written of it would only take space, which may be what is missing.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, path_of(directory, meta))?;
    File::open(directory)?.sync_all()?;
    remove_old(directory)
}

/// Where the snapshot that stands there is kept.
pub(crate) fn path_of(directory: &Path, meta: &SnapshotMeta) -> PathBuf {
    let position = meta.last_log_id.as_ref().map(PositionRecord::from);
    let (term, index) = position.map_or((0, 0), |position| (position.term, position.index));
    directory.join(format!("{index:020}-{term:020}.{EXTENSION}"))
}

fn fill(path: &Path, meta: &SnapshotMeta, state: &State) -> Result<(), io::Error> {
    let out = encode(BufWriter::new(File::create(path)?), meta, state.records())?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Writes records in the form of a snapshot.
fn encode<W: Write>(
    out: W,
    meta: &SnapshotMeta,
    records: impl Iterator<Item = Record>,
) -> Result<W, io::Error> {
    let mut out = HashWriter { inner: out, hasher: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&[FORM])?;
    write_record(&mut out, &MetaRecord::from(meta))?;
    for record in records {
        write_record(&mut out, &record)?;
    }
    out.write_all(&0u32.to_le_bytes())?;
    let HashWriter { mut inner, hasher } = out;
    inner.write_all(&hasher.finalize())?;
    Ok(inner)
}

/// Records in the form of a snapshot, in pieces of bounded length for the way to another server. Blocks for as long as
/// that takes.
pub(crate) fn pieces(
    meta: &SnapshotMeta,
    records: impl Iterator<Item = Record>,
) -> Result<Vec<Bytes>, io::Error> {
    Ok(encode(Pieces::default(), meta, records)?.finish())
}

/// Cuts what is written into pieces.
#[derive(Debug, Default)]
struct Pieces {
    full: Vec<Bytes>,
    filling: Vec<u8>,
}

impl Pieces {
    fn finish(mut self) -> Vec<Bytes> {
        if !self.filling.is_empty() {
            self.full.push(self.filling.into());
        }
        self.full
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.filling.len());
        self.filling.extend_from_slice(&bytes[..taken]);
        if self.filling.len() == PIECE_BYTES {
            self.full.push(std::mem::take(&mut self.filling).into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads pieces one after the other.
#[derive(Debug)]
struct Chain(VecDeque<Bytes>);

impl Read for Chain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(front) = self.0.front_mut() {
            if front.is_empty() {
                self.0.pop_front();
                continue;
            }
            let taken = buffer.len().min(front.len());
            buffer[..taken].copy_from_slice(&front.split_to(taken));
            return Ok(taken);
        }
        Ok(0)
    }
}

/// Reads and verifies a snapshot that came in pieces. Blocks.
pub(crate) fn assemble(pieces: Vec<Bytes>) -> Result<(SnapshotMeta, State), ReadError> {
    decode(Chain(pieces.into()), |record| record)
}

/// Reads and verifies records that came in pieces, to take the place of the state at `index`. Blocks.
pub(crate) fn assemble_rebased(pieces: Vec<Bytes>, index: Index) -> Result<State, ReadError> {
    let rebase = |record: Record| match Fault::RestoredUnchanged.is_planted() {
        true => record,
        false => record.rebased(index),
    };
    decode(Chain(pieces.into()), rebase).map(|(_, state)| state)
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
    decode(BufReader::new(File::open(path)?), |record| record)
}

fn decode(input: impl Read, change: impl Fn(Record) -> Record) -> Result<(SnapshotMeta, State), ReadError> {
    let mut input = HashReader { inner: input, hasher: Sha256::new() };
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
    let records = std::iter::from_fn(|| next_record(&mut input, &mut failed)).map(change);
    let state = State::from_records(records);
    if let Some(error) = failed {
        return Err(error);
    }
    let state = state.map_err(|error| ReadError::Damaged(error.to_string()))?;
    verify_end(input)?;
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
