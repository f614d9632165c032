//! What can go wrong for somebody who asks something of the agent.

use std::path::PathBuf;

use tribune_core::{CheckId, InstanceId, InvalidCheck};

/// Why the agent did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such service on this node.
    #[error("unknown service id {0}; use the id, not the name, of a service registered with this agent")]
    UnknownService(InstanceId),
    /// No such check on this node.
    #[error("unknown check id {0}; use the id of a check registered with this agent")]
    UnknownCheck(CheckId),
    /// The check is not one that is renewed.
    #[error("check {0} has no ttl and cannot be updated by hand; register it with a ttl")]
    NotTtl(CheckId),
    /// The check cannot be run as defined.
    #[error("check {id} is not usable: {reason}")]
    InvalidCheck {
        /// Which check.
        id: CheckId,
        /// What is wrong with it.
        reason: InvalidCheck,
    },
    /// Checks that run programs may not be defined through the API.
    #[error("checks that run programs are off for the api; set enable_script_checks to allow them")]
    RemoteScriptsDisabled,
    /// Checks that run programs may not be defined at all.
    #[error("checks that run programs are off; set enable_local_script_checks to allow them in files")]
    ScriptsDisabled,
    /// Probes inside containers do not exist here.
    #[error("check {0} asks for a container probe, which this agent does not have; use http, tcp or args")]
    DockerUnsupported(CheckId),
    /// The list was changed in memory but could not be written to disk.
    #[error(
        "could not write the agent's own list to disk: {0}; free space or repair the disk, then register again"
    )]
    Store(String),
    /// The file with the agent's own list cannot be read.
    #[error(
        "the agent's own list {} is damaged: {reason}; restore it from a backup, or move it away and register the services again",
        .path.display()
    )]
    DamagedStore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with the agent's own list cannot be opened.
    #[error(
        "cannot open the agent's own list {}: {reason}; check that the directory is writable and no other agent uses it",
        .path.display()
    )]
    UnusableStore {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The HTTP client of the probes could not be made.
    #[error("cannot set up the probes: {0}; check the configured certificates")]
    Probes(String),
    /// The agent is stopping.
    #[error("the agent is stopping; ask again when it is back")]
    Stopped,
}
