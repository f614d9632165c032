//! The data directory of a replica, and opening it without ever taking damage for emptiness.
//!
//! ```text
//! identity      whose directory this is, and whether the log has ever held anything
//! log.redb      log and vote
//! snapshots/    see [`crate::snapshot::file`]
//! ```
//!
//! The identity is written last when a directory is made, and says `used yes` before the first vote counts. So a
//! log that is missing or empty afterwards was lost, and the replica does not start.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::log::{Disk, DiskError, LogStore};
use crate::offload::Offload;
use crate::snapshot::file::{self, ReadError};
use crate::types::{LogId, SnapshotMeta};
use tribune_core::State;

const IDENTITY: &str = "identity";
const LOG: &str = "log.redb";
const UNFINISHED_LOG: &str = "log.unfinished";
const SNAPSHOTS: &str = "snapshots";
const TITLE: &str = "tribune raft directory";
const FORM: &str = "1";

/// A data directory that has been opened.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    identity: Identity,
}

/// What a directory held.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) directory: Directory,
    pub(crate) log: LogStore,
    pub(crate) snapshot: Option<(SnapshotMeta, State)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    server: String,
    used: bool,
    /// The cluster it belongs to. Directories of the first form of this file do not say.
    cluster: Option<String>,
}

impl Directory {
    /// Opens the directory of this server, or makes it. Blocks.
    pub(crate) fn open(path: &Path, server: &str) -> Result<Opened, StartError> {
        let snapshots = path.join(SNAPSHOTS);
        std::fs::create_dir_all(&snapshots).map_err(|error| failed("create", &snapshots, error))?;
        let (identity, disk) = match Identity::read(&path.join(IDENTITY))? {
            Some(identity) => {
                let disk = open_log(path, &identity, server)?;
                (identity, disk)
            }
            None => create(path, server)?,
        };
        let log_path = path.join(LOG);
        let log = LogStore::open(disk, Offload::Threads).map_err(|error| explain(error, &log_path, path))?;
        let directory = Self { path: path.to_owned(), identity };
        let snapshot = directory.check_use(&log).and_then(|()| directory.read_snapshot(log.purged()));
        match snapshot {
            Ok(snapshot) => Ok(Opened { directory, log, snapshot }),
            Err(error) => {
                log.close_blocking();
                Err(error)
            }
        }
    }

    /// Where the snapshots are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }

    /// Where everything is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster this directory belongs to, if it does.
    pub(crate) fn cluster(&self) -> Option<&str> {
        self.identity.cluster.as_deref()
    }

    /// Notes that the log holds something of this cluster from now on. Blocks.
    pub(crate) fn mark_used(&mut self, cluster: &str) -> Result<(), StartError> {
        let identity =
            Identity { used: true, cluster: Some(cluster.to_owned()), server: self.identity.server.clone() };
        if identity != self.identity {
            identity.write(&self.path).map_err(|error| failed("write", &self.path, error))?;
            self.identity = identity;
        }
        Ok(())
    }

    fn check_use(&self, log: &LogStore) -> Result<(), StartError> {
        if self.identity.used && log.is_pristine() {
            return Err(self.missing(LOG, "the log is empty, yet the file identity says it was used"));
        }
        Ok(())
    }

    /// The newest snapshot that is whole, as long as the log continues from it.
    fn read_snapshot(&self, purged: Option<LogId>) -> Result<Option<(SnapshotMeta, State)>, StartError> {
        let directory = self.snapshots();
        let files = file::list(&directory).map_err(|error| failed("read", &directory, error))?;
        let mut damaged = None;
        for path in files {
            match file::read(&path) {
                Ok((meta, state)) if meta.last_log_id >= purged => {
                    set_aside(damaged)?;
                    return Ok(Some((meta, state)));
                }
                Ok(_) => break,
                Err(ReadError::Io(error)) => return Err(failed("read", &path, error)),
                Err(ReadError::Version(detail)) => return Err(StartError::Version { path, detail }),
                Err(ReadError::Damaged(detail)) => damaged = damaged.or(Some((path, detail))),
            }
        }
        match (damaged, purged) {
            (Some((path, detail)), _) => Err(StartError::Damaged { path, detail }),
            (None, None) => Ok(None),
            (None, Some(purged)) => {
                let detail =
                    format!("the log begins after entry {} and no snapshot reaches it", purged.index);
                Err(self.missing(SNAPSHOTS, &detail))
            }
        }
    }

    fn missing(&self, name: &str, detail: &str) -> StartError {
        missing(&self.path, name, detail)
    }
}

fn missing(directory: &Path, name: &str, detail: &str) -> StartError {
    StartError::Missing {
        path: directory.join(name),
        directory: directory.to_owned(),
        detail: detail.to_owned(),
    }
}

/// Renames a damaged snapshot for which an older one stands in, so that it is neither read nor counted again.
fn set_aside(damaged: Option<(PathBuf, String)>) -> Result<(), StartError> {
    let Some((path, detail)) = damaged else { return Ok(()) };
    let aside = path.with_extension("damaged");
    tracing::warn!(
        path = %aside.display(),
        %detail,
        "the newest snapshot is damaged; started from the one before and the log, which lack nothing"
    );
    std::fs::rename(&path, &aside).map_err(|error| failed("rename", &path, error))
}

fn open_log(path: &Path, identity: &Identity, server: &str) -> Result<Disk, StartError> {
    if identity.server != server {
        return Err(StartError::OtherServer {
            directory: path.to_owned(),
            found: identity.server.clone(),
            expected: server.to_owned(),
        });
    }
    let log = path.join(LOG);
    match std::fs::metadata(&log) {
        Ok(metadata) if metadata.len() > 0 => Disk::open(&log).map_err(|error| explain(error, &log, path)),
        Ok(_) => Err(missing(path, LOG, "the file identity is there, but the log is an empty file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(missing(path, LOG, "the file identity is there, but not the log"))
        }
        Err(error) => Err(failed("read", &log, error)),
    }
}

/// Makes a directory, or finishes making one whose making was interrupted.
fn create(path: &Path, server: &str) -> Result<(Identity, Disk), StartError> {
    let log = path.join(LOG);
    let snapshots = path.join(SNAPSHOTS);
    if !log.exists() {
        create_log(path, &log)?;
    }
    let disk = Disk::open(&log).map_err(|error| explain(error, &log, path))?;
    let held = disk.recover(0).map_err(|error| explain(error, &log, path))?;
    let has_snapshots =
        !file::list(&snapshots).map_err(|error| failed("read", &snapshots, error))?.is_empty();
    if held.last.is_some() || held.vote.is_some() || has_snapshots {
        return Err(missing(
            path,
            IDENTITY,
            "a log or snapshots are there, but not the file that says whose",
        ));
    }
    let identity = Identity { server: server.to_owned(), used: false, cluster: None };
    identity.write(path).map_err(|error| failed("write", &path.join(IDENTITY), error))?;
    Ok((identity, disk))
}

/// Makes the log under another name first: under its own it is never half made.
fn create_log(directory: &Path, log: &Path) -> Result<(), StartError> {
    let unfinished = directory.join(UNFINISHED_LOG);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished, error));
        }
        _ => {}
    }
    drop(Disk::create(&unfinished).map_err(|error| explain(error, &unfinished, directory))?);
    let renamed = std::fs::rename(&unfinished, log).and_then(|()| File::open(directory)?.sync_all());
    renamed.map_err(|error| failed("write", log, error))
}

impl Identity {
    fn read(path: &Path) -> Result<Option<Self>, StartError> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path, error)),
        };
        Self::parse(&text).map(Some).map_err(|problem| match problem {
            Problem::Damaged => StartError::Damaged {
                path: path.to_owned(),
                detail: "its text does not fit its checksum".to_owned(),
            },
            Problem::Form(form) => StartError::Version {
                path: path.to_owned(),
                detail: format!("the directory has form {form}, this version knows form {FORM}"),
            },
        })
    }

    fn text(&self) -> String {
        let used = if self.used { "yes" } else { "no" };
        let cluster = self.cluster.as_ref().map(|cluster| format!("cluster {cluster}\n")).unwrap_or_default();
        let text = format!("{TITLE}\nform {FORM}\nserver {}\nused {used}\n{cluster}", self.server);
        format!("{text}checksum {:08x}\n", crc32fast::hash(text.as_bytes()))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let (body, checksum) = text.rsplit_once("checksum ").ok_or(Problem::Damaged)?;
        if checksum != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
            return Err(Problem::Damaged);
        }
        let mut lines = body.lines();
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
        if value("tribune").as_deref() != TITLE.strip_prefix("tribune ") {
            return Err(Problem::Damaged);
        }
        let form = value("form").ok_or(Problem::Damaged)?;
        if form != FORM {
            return Err(Problem::Form(form));
        }
        let server = value("server").ok_or(Problem::Damaged)?;
        let used = value("used").ok_or(Problem::Damaged)? == "yes";
        let cluster = value("cluster");
        Ok(Self { server, used, cluster })
    }

    fn write(&self, directory: &Path) -> Result<(), io::Error> {
        let unfinished = directory.join("identity.unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, directory.join(IDENTITY))?;
        File::open(directory)?.sync_all()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Damaged,
    Form(String),
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> StartError {
    StartError::Io { doing, path: path.to_owned(), source }
}

fn explain(error: DiskError, log: &Path, directory: &Path) -> StartError {
    let path = log.to_owned();
    match error {
        DiskError::Damaged(detail) => StartError::Damaged { path, detail },
        DiskError::Version(detail) => StartError::Version { path, detail },
        DiskError::NoLog => missing(directory, LOG, "the file holds no log"),
        DiskError::InUse => StartError::InUse { path },
        DiskError::Io(source) => StartError::Io { doing: "open", path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_damage_to_it_is_seen() {
        let identity = Identity { server: "6f4b".into(), used: true, cluster: None };
        assert_eq!(Identity::parse(&identity.text()), Ok(identity.clone()));
        let identity = Identity { cluster: Some("77aa".into()), ..identity };
        let text = identity.text();
        assert_eq!(Identity::parse(&text), Ok(identity));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8_lossy(&damaged).into_owned();
            assert_eq!(Identity::parse(&damaged), Err(Problem::Damaged), "byte {at}");
            assert_eq!(Identity::parse(&text[..at]), Err(Problem::Damaged), "cut at {at}");
        }
    }
}
