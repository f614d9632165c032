//! The log's tables in redb.
//!
//! `entries` maps an index to an entry, `marks` holds the vote, how far the log was agreed upon, how far it was
//! purged, and a sign that the tables were made. All of it is in the envelope of [`crate::codec`].

use std::ops::Range;
use std::path::Path;

use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::writer::Job;
use crate::codec::{self, CodecError};
use crate::faults::Fault;
use crate::types::{Entry, LogId, Vote};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");

const FORM: &str = "form";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// The form of the tables.
const TABLES_FORM: u32 = 1;

/// Memory for pages of the log. It is written once and hardly ever read, and purged logs stay small.
const CACHE_BYTES: usize = 32 << 20;

/// Why the log on the disk could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Version(String),
    #[error("the file holds no log")]
    NoLog,
    #[error("another process has it open")]
    InUse,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DiskError {
    fn codec(what: &str, error: CodecError) -> Self {
        match error.is_newer() {
            true => Self::Version(format!("{what}: {error}")),
            false => Self::Damaged(format!("{what}: {error}")),
        }
    }
}

impl From<redb::Error> for DiskError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::UpgradeRequired(form) => {
                Self::Version(format!("the database has form {form}, which this version does not know"))
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for DiskError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError, SetDurabilityError);

/// What a log held when it was opened.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    /// The newest entries.
    pub(crate) newest: Vec<Entry>,
}

/// The log's database.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
}

impl Disk {
    /// Makes a new log in a file.
    pub(crate) fn create(path: &Path) -> Result<Self, DiskError> {
        Self::make(builder().create(path)?)
    }

    /// Opens a log that was made before.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        Self::found(builder().open(path)?)
    }

    /// Makes a new log in whatever is behind `backend`, or opens the one that is there.
    pub(crate) fn on(backend: impl StorageBackend) -> Result<Self, DiskError> {
        let database = builder().create_with_backend(backend)?;
        match Self::has_tables(&database)? {
            true => Self::found(database),
            false => Self::make(database),
        }
    }

    fn make(database: Database) -> Result<Self, DiskError> {
        let write = database.begin_write()?;
        write.open_table(ENTRIES)?;
        let form = codec::encode(&TABLES_FORM).map_err(|error| DiskError::codec(FORM, error))?;
        write.open_table(MARKS)?.insert(FORM, form.as_slice())?;
        write.commit()?;
        Ok(Self { database })
    }

    fn found(database: Database) -> Result<Self, DiskError> {
        if !Self::has_tables(&database)? {
            return Err(DiskError::NoLog);
        }
        Ok(Self { database })
    }

    fn has_tables(database: &Database) -> Result<bool, DiskError> {
        match database.begin_read()?.open_table(MARKS) {
            Ok(marks) => Ok(mark(&marks, FORM, codec::decode::<u32>)?.is_some()),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads and verifies the whole log; keeps up to `keep` of the newest entries.
    pub(crate) fn recover(&self, keep: usize) -> Result<Recovered, DiskError> {
        let read = self.database.begin_read()?;
        let marks = read.open_table(MARKS)?;
        let vote = mark(&marks, VOTE, codec::decode_vote)?;
        let committed = mark(&marks, COMMITTED, codec::decode_position)?;
        let purged = mark(&marks, PURGED, codec::decode_position)?;
        let mut last = purged;
        let mut newest = std::collections::VecDeque::new();
        for row in read.open_table(ENTRIES)?.iter()? {
            let (index, bytes) = row?;
            let entry = entry(index.value(), bytes.value())?;
            let expected = last.map_or(0, |last: LogId| last.index + 1);
            if entry.log_id.index != expected {
                return Err(DiskError::Damaged(format!("entry {expected} of the log is missing")));
            }
            last = Some(entry.log_id);
            if newest.len() == keep {
                newest.pop_front();
            }
            newest.push_back(entry);
        }
        Ok(Recovered { vote, committed, purged, last, newest: newest.into() })
    }

    /// The entries of a range, as far as they are there.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<Entry>, DiskError> {
        let entries = self.database.begin_read()?.open_table(ENTRIES)?;
        let rows = entries.range(range)?;
        rows.map(|row| {
            let (index, bytes) = row?;
            entry(index.value(), bytes.value())
        })
        .collect()
    }

    /// Removes all entries up to `last`, which is the last one, and notes that they are agreed upon.
    pub(crate) fn forget(&self, last: LogId) -> Result<(), DiskError> {
        let (done, _) = tokio::sync::oneshot::channel();
        self.commit(&[Job::Purge(last, done)], Some(last))
    }

    /// Writes all jobs, in order, with one sync. Nothing of them is written when this fails before the sync;
    /// when the sync fails, nobody knows.
    pub(super) fn commit(&self, jobs: &[Job], committed: Option<LogId>) -> Result<(), DiskError> {
        let mut write = self.database.begin_write()?;
        let durability =
            if Fault::SyncLeftOut.is_planted() { Durability::None } else { Durability::Immediate };
        write.set_durability(durability)?;
        write_jobs(&write, jobs, committed)?;
        write.commit()?;
        Ok(())
    }
}

fn write_jobs(write: &WriteTransaction, jobs: &[Job], committed: Option<LogId>) -> Result<(), DiskError> {
    let mut entries = write.open_table(ENTRIES)?;
    let mut marks = write.open_table(MARKS)?;
    for job in jobs {
        match job {
            Job::Append(appended, _) => {
                for entry in appended {
                    let bytes =
                        codec::encode_entry(entry).map_err(|error| DiskError::codec("entry", error))?;
                    entries.insert(entry.log_id.index, bytes.as_slice())?;
                }
            }
            Job::Vote(vote, _) => {
                let bytes = codec::encode_vote(vote).map_err(|error| DiskError::codec(VOTE, error))?;
                marks.insert(VOTE, bytes.as_slice())?;
            }
            Job::Truncate(first_removed, _) => entries.retain_in(*first_removed.., |_, _| false)?,
            Job::Purge(upto, _) => {
                entries.retain_in(..=upto.index, |_, _| false)?;
                let bytes = codec::encode_position(upto).map_err(|error| DiskError::codec(PURGED, error))?;
                marks.insert(PURGED, bytes.as_slice())?;
            }
            Job::Committed(_) | Job::Close => {}
        }
    }
    if let Some(committed) = committed {
        let bytes = codec::encode_position(&committed).map_err(|error| DiskError::codec(COMMITTED, error))?;
        marks.insert(COMMITTED, bytes.as_slice())?;
    }
    Ok(())
}

/// An open of a file that was changed behind our back must end in an error, so the whole file is verified. It is
/// small: the log is purged.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn mark<T>(
    marks: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
    decode: impl FnOnce(&[u8]) -> Result<T, CodecError>,
) -> Result<Option<T>, DiskError> {
    let Some(bytes) = marks.get(name)? else { return Ok(None) };
    decode(bytes.value()).map(Some).map_err(|error| DiskError::codec(name, error))
}

fn entry(index: u64, bytes: &[u8]) -> Result<Entry, DiskError> {
    let what = || format!("entry {index} of the log");
    let entry = codec::decode_entry(bytes).map_err(|error| DiskError::codec(&what(), error))?;
    if entry.log_id.index != index {
        return Err(DiskError::Damaged(format!("{} says it is entry {}", what(), entry.log_id.index)));
    }
    Ok(entry)
}
