//! The data directory: taken by one process at a time, marked with whose it is, home of the node's id.
//!
//! ```text
//!   tribune.json   the mark: format and datacenter
//!   lock           locked while an agent runs
//!   node-id        the node's UUID
//!   raft/          log, vote, snapshots        (tribune-raft)
//!   local/         the agent's own services    (tribune-local)
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tribune_core::Datacenter;

/// The form of data directories that this version reads and writes.
const FORMAT: u32 = 1;

/// The folder of the log.
pub(crate) const RAFT: &str = "raft";

const MARK: &str = "tribune.json";
const LOCK: &str = "lock";
const NODE_ID: &str = "node-id";

/// Files and folders that Consul keeps in its data directory.
const OF_CONSUL: [&str; 3] = ["raft/raft.db", "serf", "checkpoint-signature"];

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("data_dir {path}: cannot {doing}: {source}; {advice}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// Another process works in it.
    #[error("data_dir {0}: another agent is running in it; stop that one, or give this one its own data_dir")]
    InUse(PathBuf),
    /// It was written by another version.
    #[error(
        "data_dir {path}: is of format {found}, this version knows {FORMAT}; run the version that wrote it"
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its mark says.
        found: u32,
    },
    /// It belongs to another datacenter.
    #[error(
        "data_dir {path}: belongs to datacenter {found:?}, but this agent is of {expected:?}; set datacenter = \
         {found:?}, or give this one its own data_dir"
    )]
    Datacenter {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who came.
        expected: String,
    },
    /// It holds data of Consul.
    #[error(
        "data_dir {0}: holds data of Consul, which cannot be read; give an empty directory and register the services \
         there"
    )]
    Consul(PathBuf),
    /// A file in it cannot be understood.
    #[error(
        "data_dir: {path} is damaged: {detail}; restore it from a backup, or move the whole directory away"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The configuration gives another id than the directory.
    #[error(
        "data_dir {path}: belongs to node {found}, but node_id is {expected}; remove node_id, or give this node its \
         own data_dir"
    )]
    NodeId {
        /// The directory.
        path: PathBuf,
        /// The id in it.
        found: String,
        /// The id of the configuration.
        expected: String,
    },
}

/// The mark of a directory.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    datacenter: String,
}

/// A data directory that this process has to itself as long as the value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    node_id: String,
    _lock: Flock<File>,
}

impl DataDir {
    /// Takes the directory, which is made when it is not there. `wanted_id` is the id that the configuration gives
    /// the node; `drawn_id` becomes its id when there is neither that nor one in the directory.
    pub(crate) fn open(
        path: &Path,
        datacenter: &Datacenter,
        wanted_id: Option<&str>,
        drawn_id: &str,
    ) -> Result<Self, Error> {
        let usable = "check that the path is right and the user may write there";
        private(path).map_err(|source| failed("create it", path, source, usable))?;
        let lock = lock(path)?;
        check_mark(path, datacenter)?;
        let node_id = node_id(path, wanted_id, drawn_id)?;
        Ok(Self { path: path.to_owned(), node_id, _lock: lock })
    }

    /// Takes a directory that an agent has used before, and tells its datacenter.
    pub(crate) fn existing(path: &Path) -> Result<(Self, String), Error> {
        let readable = "name the data_dir of a server that has run, as a user who may read it";
        let file = path.join(MARK);
        let text = fs::read_to_string(&file).map_err(|source| failed("read", &file, source, readable))?;
        let mark: Mark = serde_json::from_str(&text)
            .map_err(|error| Error::Damaged { path: file.clone(), detail: error.to_string() })?;
        let datacenter = Datacenter::new(mark.datacenter.as_str())
            .map_err(|error| Error::Damaged { path: file, detail: error.to_string() })?;
        let id = path.join(NODE_ID);
        let kept = fs::read_to_string(&id).map_err(|source| failed("read", &id, source, readable))?;
        Ok((Self::open(path, &datacenter, None, kept.trim())?, mark.datacenter))
    }

    /// The node's UUID.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// A folder in it, made when it is not there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.path.join(name);
        let usable = "check that the user may write there";
        fs::create_dir_all(&folder).map_err(|source| failed("create it", &folder, source, usable))?;
        Ok(folder)
    }
}

/// Makes the directory, and those above it, for this user only; one that is there keeps its rights.
fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file = path.join(LOCK);
    let usable = "check that the user may write there and the file system is not read-only";
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let open = open.map_err(|source| failed("write", &file, source, usable))?;
    Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Error::InUse(path.to_owned()),
        other => failed("lock", &file, other.into(), "use a file system with locks, such as a local disk"),
    })
}

/// Refuses a directory that is not ours; marks one that is empty.
fn check_mark(path: &Path, datacenter: &Datacenter) -> Result<(), Error> {
    let file = path.join(MARK);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if OF_CONSUL.iter().any(|name| path.join(name).exists()) {
                return Err(Error::Consul(path.to_owned()));
            }
            let mark = Mark { format: FORMAT, datacenter: datacenter.as_str().to_owned() };
            let text = serde_json::json!(mark).to_string();
            return put(&file, &text);
        }
        Err(error) => return Err(failed("read", &file, error, "check that the user may read it")),
    };
    let mark: Mark = serde_json::from_str(&text)
        .map_err(|error| Error::Damaged { path: file, detail: error.to_string() })?;
    if mark.format != FORMAT {
        return Err(Error::Format { path: path.to_owned(), found: mark.format });
    }
    if mark.datacenter != datacenter.as_str() {
        let (found, expected) = (mark.datacenter, datacenter.as_str().to_owned());
        return Err(Error::Datacenter { path: path.to_owned(), found, expected });
    }
    Ok(())
}

fn node_id(path: &Path, wanted: Option<&str>, drawn: &str) -> Result<String, Error> {
    let file = path.join(NODE_ID);
    let kept = match fs::read_to_string(&file) {
        Ok(text) => text.trim().to_lowercase(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = wanted.unwrap_or(drawn).to_owned();
            put(&file, &id)?;
            return Ok(id);
        }
        Err(error) => return Err(failed("read", &file, error, "check that the user may read it")),
    };
    if uuid::Uuid::parse_str(&kept).is_err() {
        return Err(Error::Damaged { path: file, detail: format!("{kept:?} is not a UUID") });
    }
    match wanted {
        Some(wanted) if wanted != kept => {
            Err(Error::NodeId { path: path.to_owned(), found: kept, expected: wanted.to_owned() })
        }
        _ => Ok(kept),
    }
}

/// Writes a whole small file or leaves the old one: through a temporary file that is renamed.
fn put(file: &Path, text: &str) -> Result<(), Error> {
    let advice = "check that the disk has space and is not read-only";
    let draft = file.with_extension("new");
    let write = || -> io::Result<()> {
        let mut open = File::create(&draft)?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&draft, file)?;
        File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| failed("write", file, source, advice))
}

fn failed(doing: &'static str, path: &Path, source: io::Error, advice: &'static str) -> Error {
    Error::Io { doing, path: path.to_owned(), source, advice }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ID: &str = "6d4a2f3c-0b1e-4c5d-8f7a-9e0b1c2d3e4f";
    const OTHER: &str = "00000000-0b1e-4c5d-8f7a-9e0b1c2d3e4f";

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    #[test]
    fn the_node_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path(), &dc("dc1"), None, ID).unwrap();
        assert_eq!(first.node_id(), ID);
        drop(first);
        let second = DataDir::open(folder.path(), &dc("dc1"), None, OTHER).unwrap();
        assert_eq!(second.node_id(), ID);
        drop(second);
        let error = DataDir::open(folder.path(), &dc("dc1"), Some(OTHER), OTHER).unwrap_err();
        assert!(error.to_string().contains("remove node_id"), "{error}");
    }

    #[test]
    fn a_new_directory_is_for_this_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let _taken = DataDir::open(&path, &dc("dc1"), None, ID).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let _first = DataDir::open(folder.path(), &dc("dc1"), None, ID).unwrap();
        let error = DataDir::open(folder.path(), &dc("dc1"), None, ID).unwrap_err();
        assert!(error.to_string().contains("another agent is running in it"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let check = |name: &str, text: &str, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            let error = DataDir::open(folder.path(), &dc("dc1"), None, ID).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        };
        check("tribune.json", "{\"format\":1,\"datacenter\":\"dc2\"}", "belongs to datacenter \"dc2\"");
        check("tribune.json", "{\"format\":9,\"datacenter\":\"dc1\"}", "is of format 9");
        check("tribune.json", "{\"form", "is damaged");
        check("raft/raft.db", "bolt", "holds data of Consul");
        check("node-id", "not an id", "is not a UUID");
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_an_error() {
        let error = DataDir::open(Path::new("/proc/none"), &dc("dc1"), None, ID).unwrap_err().to_string();
        assert!(error.contains("/proc/none") && error.contains("check that the path is right"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(DataDir::open(file.path(), &dc("dc1"), None, ID).is_err());
    }
}
