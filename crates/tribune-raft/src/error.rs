//! What can go wrong, sorted by what a caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

/// Why a read or a proposal failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No leader was found in time. Nothing was written: asking again later is safe.
    #[error("no leader was found within {0:?}: nothing was written, try again")]
    NoLeader(Duration),
    /// The proposal may or may not come into effect. Look at the state again before repeating it.
    #[error("the outcome of the write is unknown, it may still come into effect: {0}")]
    Unknown(String),
    /// The caller may not do this. Nothing was written.
    #[error("permission denied")]
    Denied,
    /// More proposals are waiting than this server takes. Nothing was written: try again later.
    #[error("too many writes are waiting: nothing was written, try again later")]
    Busy,
    /// The change is longer than what servers send to one another as a whole. Nothing was written.
    #[error("the change is longer than {0} bytes: nothing was written, make it in several steps")]
    TooLong(usize),
    /// The disk is nearly full. Nothing was written: free space, then try again.
    #[error(
        "only {available} bytes are free on the disk of {directory} and {needed} are kept in reserve: nothing was written, free some space"
    )]
    DiskFull {
        /// Where the data is kept.
        directory: PathBuf,
        /// Bytes that are free.
        available: u64,
        /// Bytes that must be free before anything is written.
        needed: u64,
    },
    /// This replica has stopped, for the reason given. Nothing was written; restart the server when the cause is
    /// removed.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why a replica did not start. None of these changes what is on the disk.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("the settings of the replica do not fit together: {0}")]
    Config(String),
    /// A file or directory could not be used.
    #[error(
        "cannot {doing} {path}: {source}; check that it exists, that the user may write there and that the disk has space"
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the data directory open.
    #[error("{path} is in use by another process: stop that one first or choose another data directory")]
    InUse {
        /// The log file.
        path: PathBuf,
    },
    /// A file is damaged.
    #[error(
        "{path} is damaged: {detail}; restore the data directory from a backup, or move it away and let this server join the others anew"
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Something that must be there is not. Starting empty would forget acknowledged writes.
    #[error(
        "{path} is missing or empty although this server has kept data in {directory} before: {detail}; restore the data directory from a backup, or move it away and let this server join the others anew"
    )]
    Missing {
        /// What is not there.
        path: PathBuf,
        /// The data directory.
        directory: PathBuf,
        /// How it is known that there was data.
        detail: String,
    },
    /// The data belongs to another server.
    #[error(
        "{directory} belongs to server {found}, but this server is {expected}: give the server its id back (file node-id) or choose another data directory"
    )]
    OtherServer {
        /// The data directory.
        directory: PathBuf,
        /// Whose data it is.
        found: String,
        /// Who wanted to open it.
        expected: String,
    },
    /// The data was written by a version whose form this one does not know.
    #[error("{path} cannot be read by this version: {detail}; run the version that wrote it, or a newer one")]
    Version {
        /// The file.
        path: PathBuf,
        /// What is not understood.
        detail: String,
    },
    /// The consensus library refused to start.
    #[error("consensus could not start: {0}")]
    Consensus(String),
}
