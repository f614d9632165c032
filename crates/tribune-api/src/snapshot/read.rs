//! Reading an archive. Errors begin as Consul's do, because scripts look for them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tribune_core::state::Record;

use super::write::hex;
use super::{MARK, META, Meta, RECORD_BYTES_MAX, STATE, STATE_BYTES_MAX, SUMS, SnapshotError, VERSION};

/// Most bytes of `meta.json` and of `SHA256SUMS`.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// What an archive unfolds to at most: its files, and what tar puts between them.
const UNFOLDED_BYTES_MAX: u64 = STATE_BYTES_MAX + 4 * TEXT_BYTES_MAX;

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Where it comes from.
    pub meta: Meta,
    /// What is in the state, by kind.
    pub kinds: BTreeMap<String, Kind>,
}

/// How much of one kind there is in a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kind {
    /// Records.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// The records of an archive, once all of it is known to be whole.
pub fn read(archive: impl Read) -> Result<(Meta, Vec<Record>), SnapshotError> {
    let mut records = Vec::new();
    let meta = walk(archive, &mut |record, _| records.push(record))?;
    Ok((meta, records))
}

/// What an archive holds, once all of it is known to be whole.
pub fn inspect(archive: impl Read) -> Result<Inspection, SnapshotError> {
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let meta = walk(archive, &mut |record, bytes| {
        let kind = kinds.entry(name(&record).to_owned()).or_default();
        kind.count += 1;
        kind.bytes += bytes as u64;
    })?;
    Ok(Inspection { meta, kinds })
}

/// The kind of a record as its form names it.
fn name(record: &Record) -> &'static str {
    match record {
        Record::Header { .. } => "Header",
        Record::Node(_) => "Node",
        Record::Instance(_) => "Instance",
        Record::Check(_) => "Check",
        Record::Autopilot(_) => "Autopilot",
        Record::Coordinate(_) => "Coordinate",
        Record::Query(_) => "Query",
        Record::Topic(..) => "Topic",
        Record::Leasing { .. } => "Leasing",
        Record::Kv(_) => "Kv",
        Record::Session(_) => "Session",
        Record::LockDelay(..) => "LockDelay",
    }
}

fn walk(archive: impl Read, take: &mut dyn FnMut(Record, usize)) -> Result<Meta, SnapshotError> {
    let mut files = Files::default();
    let unfolded = GzDecoder::new(archive).take(UNFOLDED_BYTES_MAX);
    let mut tar = tar::Archive::new(unfolded);
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        if entry.size() > STATE_BYTES_MAX {
            return Err(broken(format!("{name:?} is larger than {STATE_BYTES_MAX} bytes")));
        }
        files.take(&name, &mut entry, take)?;
    }
    // The sum of gzip itself stands at the very end.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(unreadable)?;
    files.finish()
}

/// What has been read of an archive.
#[derive(Debug, Default)]
struct Files {
    meta: Option<Meta>,
    sums: Option<String>,
    found: BTreeMap<&'static str, String>,
}

impl Files {
    fn take(
        &mut self,
        name: &str,
        file: &mut dyn Read,
        take: &mut dyn FnMut(Record, usize),
    ) -> Result<(), SnapshotError> {
        let known = [META, STATE, SUMS].into_iter().find(|known| *known == name);
        let Some(known) = known else { return Err(broken(format!("unexpected file {name:?} in snapshot"))) };
        if self.found.contains_key(known) {
            return Err(broken(format!("{name:?} is in the snapshot twice")));
        }
        let mut file = Hashing { file, hasher: Sha256::new() };
        match known {
            STATE => records(&mut file, take)?,
            META => {
                self.meta = Some(
                    serde_json::from_slice(&text(&mut file)?)
                        .map_err(|error| broken(format!("failed to decode snapshot metadata: {error}")))?,
                )
            }
            _ => self.sums = Some(String::from_utf8_lossy(&text(&mut file)?).into_owned()),
        }
        self.found.insert(known, hex(&file.hasher.finalize()));
        Ok(())
    }

    fn finish(self) -> Result<Meta, SnapshotError> {
        let unsound = |what: String| broken(format!("failed checking integrity of snapshot: {what}"));
        let Some(sums) = self.sums else { return Err(unsound(format!("{SUMS} is missing"))) };
        for name in [META, STATE] {
            let Some(sum) = self.found.get(name) else {
                return Err(unsound(format!("file missing for {name:?}")));
            };
            let listed = sums.lines().filter_map(|line| line.split_once("  "));
            let Some((listed, _)) = listed.into_iter().find(|(_, of)| *of == name) else {
                return Err(unsound(format!("list missing hash for {name:?}")));
            };
            if !listed.eq_ignore_ascii_case(sum) {
                return Err(unsound(format!("hash check failed for {name:?}")));
            }
        }
        let meta = self.meta.unwrap_or_default();
        if meta.version != VERSION {
            return Err(broken(format!(
                "the snapshot has version {}, this program reads version {VERSION}",
                meta.version
            )));
        }
        Ok(meta)
    }
}

fn text(file: &mut dyn Read) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Reads the state record by record, to the last byte.
fn records(file: &mut dyn Read, take: &mut dyn FnMut(Record, usize)) -> Result<(), SnapshotError> {
    let mut mark = vec![0; MARK.len()];
    fill(file, &mut mark)?;
    if mark != MARK {
        let (name, version) = MARK.split_at(MARK.len() - 1);
        return Err(broken(match mark.strip_prefix(name) {
            Some(other) if other != version => {
                "the state is of another version of Tribune: use that version to restore it".to_owned()
            }
            _ => "this is a snapshot of Consul or of another program: what it holds cannot be read by Tribune; \
                  move the services by registering them here"
                .to_owned(),
        }));
    }
    let mut bytes = Vec::new();
    while let Some(length) = length_of_next(file)? {
        if length > RECORD_BYTES_MAX {
            return Err(broken(format!(
                "an object of {length} bytes is larger than {RECORD_BYTES_MAX} bytes"
            )));
        }
        bytes.clear();
        file.take(length as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() < length {
            return Err(unreadable(ErrorKind::UnexpectedEof.into()));
        }
        let record = rmp_serde::from_slice(&bytes).map_err(|error| {
            broken(format!("an object is damaged, or of a newer version of Tribune: {error}"))
        })?;
        take(record, length);
    }
    Ok(())
}

fn length_of_next(file: &mut dyn Read) -> Result<Option<usize>, SnapshotError> {
    let mut bytes = [0; 4];
    match fill(file, &mut bytes)? {
        0 => Ok(None),
        4 => Ok(Some(u32::from_le_bytes(bytes) as usize)),
        _ => Err(unreadable(ErrorKind::UnexpectedEof.into())),
    }
}

/// Reads as many bytes as there is room for, or all there are; says how many.
fn fill(file: &mut dyn Read, room: &mut [u8]) -> Result<usize, SnapshotError> {
    let mut length = 0;
    while length < room.len() {
        match file.read(&mut room[length..]).map_err(unreadable)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// A file whose bytes are summed as they are read.
struct Hashing<'a> {
    file: &'a mut dyn Read,
    hasher: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn broken(what: String) -> SnapshotError {
    SnapshotError(format!("failed to read snapshot file: {what}"))
}

fn unreadable(error: io::Error) -> SnapshotError {
    match error.kind() {
        ErrorKind::InvalidInput => {
            SnapshotError("failed to decompress snapshot: gzip: invalid header".to_owned())
        }
        ErrorKind::UnexpectedEof => broken("unexpected EOF".to_owned()),
        _ => broken(error.to_string()),
    }
}
