//! The redb file behind the list: its tables, its first bytes, and what counts as damage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Op, SavedList};
use crate::error::Error;
use tribune_core::Folded;

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const META: Table = TableDefinition::new("meta");
const SERVICES: Table = TableDefinition::new("services");
const CHECKS: Table = TableDefinition::new("checks");
const STATES: Table = TableDefinition::new("check_states");

/// The row that tells a list from any other redb file.
const FORMAT: &str = "format";

const FILE_NAME: &str = "local.redb";

/// First byte of each value. A file of a later version is refused rather than half read.
const VERSION: u8 = 1;

/// How much of the file redb keeps in memory. The list itself is held in memory by the agent, so this is only
/// for the pages that the next write touches; redb's own default is a gigabyte.
const CACHE_BYTES: usize = 8 << 20;

/// The list's file. After a failed write it is opened anew, because redb gives up on a file that failed once.
pub(super) struct ListFile {
    path: PathBuf,
    database: Option<Database>,
}

impl ListFile {
    pub(super) fn open(directory: &Path) -> Result<(Self, SavedList), Error> {
        let path = directory.join(FILE_NAME);
        if !path.exists() {
            create(&path).map_err(|reason| Error::UnusableStore { path: path.clone(), reason })?;
        }
        let damaged = |reason: String| Error::DamagedStore { path: path.clone(), reason };
        // An empty file would be taken for a new list.
        if path.metadata().is_ok_and(|file| file.len() == 0) {
            return Err(damaged("it is empty".into()));
        }
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut database = builder().open(&path).map_err(|error| opening(&path, &error))?;
            // All pages are looked at: a list with a hole in it would take services out of the catalog.
            database.check_integrity().map_err(|error| opening(&path, &error))?;
            let list = load(&database).map_err(&damaged)?;
            Ok((database, list))
        }));
        let (database, list) = match read {
            Ok(result) => result?,
            Err(_) => return Err(damaged("its pages contradict one another".into())),
        };
        Ok((Self { path, database: Some(database) }, list))
    }

    /// Writes all changes or none, and returns when they are on disk.
    pub(super) fn write(&mut self, ops: &[Op]) -> Result<(), String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => builder().open(&self.path).map_err(|error| error.to_string())?,
        };
        store(&database, ops)?;
        self.database = Some(database);
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes the file under another name first, so that a crash on the way leaves no half of it behind.
fn create(path: &Path) -> Result<(), String> {
    let new = path.with_extension("redb.new");
    if new.exists() {
        std::fs::remove_file(&new).map_err(|error| error.to_string())?;
    }
    let database = builder().create(&new).map_err(|error| error.to_string())?;
    let write = database.begin_write().map_err(|error| error.to_string())?;
    for table in [META, SERVICES, CHECKS, STATES] {
        write.open_table(table).map_err(|error| error.to_string())?;
    }
    let mark = encode(FORMAT, &"tribune local list");
    write
        .open_table(META)
        .and_then(|mut meta| Ok(meta.insert(FORMAT, mark.as_slice()).map(|_| ())?))
        .map_err(|error| error.to_string())?;
    write.commit().map_err(|error| error.to_string())?;
    drop(database);
    std::fs::rename(&new, path).map_err(|error| error.to_string())?;
    let directory = path.parent().ok_or("the file has no directory")?;
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| error.to_string())
}

fn opening(path: &Path, error: &redb::DatabaseError) -> Error {
    use redb::{DatabaseError, StorageError};
    let (path, reason) = (path.to_owned(), error.to_string());
    match error {
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() != std::io::ErrorKind::InvalidData => {
            Error::UnusableStore { path, reason }
        }
        DatabaseError::DatabaseAlreadyOpen => Error::UnusableStore { path, reason },
        _ => Error::DamagedStore { path, reason },
    }
}

fn load(database: &Database) -> Result<SavedList, String> {
    let format: Vec<(Folded, String)> = rows(database, META)?;
    if format.is_empty() {
        return Err("it was not made by this program".into());
    }
    Ok(SavedList {
        services: rows(database, SERVICES)?.into_iter().map(|(_, service)| service).collect(),
        checks: rows(database, CHECKS)?.into_iter().map(|(_, check)| check).collect(),
        states: rows(database, STATES)?,
    })
}

fn rows<T: DeserializeOwned>(database: &Database, table: Table) -> Result<Vec<(Folded, T)>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let rows = read.open_table(table).map_err(|error: TableError| error.to_string())?;
    let mut found = Vec::new();
    for row in rows.iter().map_err(|error| error.to_string())? {
        let (key, value) = row.map_err(|error| error.to_string())?;
        let value = decode(key.value(), value.value())
            .map_err(|reason| format!("{} of {table}: {reason}", key.value()))?;
        found.push((Folded::new(key.value()), value));
    }
    Ok(found)
}

fn store(database: &Database, ops: &[Op]) -> Result<(), String> {
    let write = database.begin_write().map_err(|error| error.to_string())?;
    {
        let mut services = write.open_table(SERVICES).map_err(|error| error.to_string())?;
        let mut checks = write.open_table(CHECKS).map_err(|error| error.to_string())?;
        let mut states = write.open_table(STATES).map_err(|error| error.to_string())?;
        for op in ops {
            let done = match op {
                Op::PutService(service) => put(&mut services, &service.id.folded(), service),
                Op::RemoveService(key) => services.remove(key.as_str()).map(|_| ()),
                Op::PutCheck(check) => put(&mut checks, &check.id.folded(), check),
                Op::RemoveCheck(key) => {
                    checks.remove(key.as_str()).and_then(|_| states.remove(key.as_str())).map(|_| ())
                }
                Op::PutState(key, state) => put(&mut states, key, state),
            };
            done.map_err(|error| error.to_string())?;
        }
    }
    write.commit().map_err(|error| error.to_string())
}

fn put<T: Serialize>(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &Folded,
    value: &T,
) -> Result<(), redb::StorageError> {
    table.insert(key.as_str(), encode(key.as_str(), value).as_slice()).map(|_| ())
}

fn checksum(key: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Version, checksum of key and value, then the value with its field names.
fn encode<T: Serialize>(key: &str, value: &T) -> Vec<u8> {
    // Plain data into memory: there is nothing in it that cannot be written.
    let body = rmp_serde::to_vec_named(value).unwrap_or_default();
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(VERSION);
    bytes.extend(checksum(key, &body).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, String> {
    let Some((head, body)) = bytes.split_first_chunk::<5>() else { return Err("it is cut short".into()) };
    let [version, sum @ ..] = head;
    if *version != VERSION {
        return Err(format!("it has version {version}, this program reads version {VERSION}"));
    }
    if u32::from_be_bytes(*sum) != checksum(key, body) {
        return Err("its checksum is wrong".into());
    }
    rmp_serde::from_slice(body).map_err(|error| error.to_string())
}
