//! Which cluster a server belongs to, and keeping servers of different clusters apart.
//!
//! A cluster's id follows from its datacenter and its first servers, so that servers which found it together come
//! to the same one. A server that belongs to none takes the id of the first that makes it part of a log; from then
//! on it refuses all others.

use std::sync::OnceLock;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::directory::Directory;
use crate::wire::Envelope;

/// Bytes of the hash that make up an id.
const ID_BYTES: usize = 16;

/// Who this server is to others.
#[derive(Debug)]
pub(crate) struct Identity {
    datacenter: String,
    server: String,
    cluster: OnceLock<String>,
    notes: Notes,
}

/// Where the cluster is noted.
#[derive(Debug)]
pub(crate) enum Notes {
    /// All is in memory.
    Nowhere,
    /// One note is written at a time.
    Directory(Mutex<Directory>),
    #[cfg(feature = "testing")]
    Simulated(crate::simulation::Opened),
}

impl Notes {
    fn read(&self) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Directory(directory) => directory.lock().cluster().map(str::to_owned),
            #[cfg(feature = "testing")]
            Self::Simulated(disk) => disk.cluster(),
        }
    }

    fn write(&self, cluster: &str) -> Result<(), std::io::Error> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Directory(directory) => directory.lock().mark_used(cluster).map_err(std::io::Error::other),
            #[cfg(feature = "testing")]
            Self::Simulated(disk) => disk.keep_cluster(cluster),
        }
    }
}

/// A call that is not for this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Stranger(String);

impl Identity {
    pub(crate) fn new(config: &Config, notes: Notes) -> Self {
        Self {
            datacenter: config.datacenter.as_str().to_owned(),
            server: config.server.id.clone(),
            cluster: notes.read().map_or_else(OnceLock::new, OnceLock::from),
            notes,
        }
    }

    /// The cluster; empty when this server belongs to none yet.
    pub(crate) fn cluster(&self) -> &str {
        self.cluster.get().map_or("", String::as_str)
    }

    /// The id of the cluster that these servers of this datacenter found.
    pub(crate) fn founded_by(&self, servers: &[String]) -> String {
        cluster_id(&self.datacenter, servers)
    }

    /// Whether joining that cluster would write something.
    pub(crate) fn is_noted(&self, cluster: &str) -> bool {
        self.cluster() == cluster
    }

    /// Notes, durably, that this server belongs to `cluster` and has a log from now on. Blocks.
    pub(crate) fn join(&self, cluster: &str) -> Result<(), std::io::Error> {
        self.notes.write(cluster)?;
        match self.cluster.get_or_init(|| cluster.to_owned()) == cluster {
            true => Ok(()),
            false => Err(std::io::Error::other("the server joined another cluster meanwhile")),
        }
    }

    /// A call of this server to another.
    pub(crate) fn envelope<T>(&self, to: &str, payload: T) -> Envelope<T> {
        Envelope {
            cluster: self.cluster().to_owned(),
            datacenter: self.datacenter.clone(),
            from: self.server.clone(),
            to: to.to_owned(),
            payload,
        }
    }

    /// Refuses calls from strangers and calls for others.
    pub(crate) fn check<T>(&self, envelope: &Envelope<T>) -> Result<(), Stranger> {
        let Envelope { cluster, datacenter, from, to, .. } = envelope;
        if *datacenter != self.datacenter {
            return Err(Stranger(format!(
                "server {from} belongs to datacenter {datacenter:?}, this one to {:?}; servers of different datacenters meet over the WAN port only",
                self.datacenter
            )));
        }
        if *to != self.server {
            return Err(Stranger(format!(
                "the call is for server {to}, this is server {}: an address has changed hands",
                self.server
            )));
        }
        if cluster.is_empty() {
            return Err(Stranger(format!("server {from} belongs to no cluster yet")));
        }
        match self.cluster() {
            "" => Ok(()),
            own if own == cluster => Ok(()),
            own => Err(Stranger(format!(
                "server {from} belongs to cluster {cluster}, this one to {own}; a server that shall change over needs an empty data directory"
            ))),
        }
    }
}

/// The id of the cluster that these servers of a datacenter found.
pub(crate) fn cluster_id(datacenter: &str, servers: &[String]) -> String {
    let mut servers: Vec<_> = servers.iter().map(String::as_str).collect();
    servers.sort_unstable();
    let text = format!("cluster\n{datacenter}\n{}\n", servers.join("\n"));
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The id of what a cluster becomes when its membership is rewritten by hand to these servers. Another one than
/// before, so that servers left behind can no longer take part.
pub(crate) fn recovered_id(cluster: &str, servers: &[String]) -> String {
    cluster_id(&format!("recovered from {cluster}"), servers)
}
