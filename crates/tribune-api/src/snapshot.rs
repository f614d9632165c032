//! Snapshot archives: bytes in, records out, and back. A gzip around a tar of three files, as Consul's:
//!
//! ```text
//!   meta.json    where in the log the state stood, and which servers there were
//!   state.bin    a mark, then each record of the state with its length before it (MessagePack)
//!   SHA256SUMS   the sums of the other two
//! ```
//!
//! What `state.bin` holds is each program's own: an archive of Consul is recognised and refused. Nothing of an
//! archive is handed out before all of it has been read and its sums are right. Reading is bounded at every step,
//! so that a small archive cannot unfold into more than [`STATE_BYTES_MAX`].

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{Inspection, Kind, inspect, read};
pub use write::write;

/// Most bytes of a state that are read or written: a state of a million instances is smaller.
pub const STATE_BYTES_MAX: u64 = 1 << 30;

/// The version of archives, which is Consul's.
pub const VERSION: u64 = 1;

/// How a state of this program begins; the last byte is the version of its form.
const MARK: &[u8] = b"tribune state\x01";

/// Most bytes of one record. The largest honest one, a key with its value, stays far below.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The names of the files.
const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// Why an archive cannot be used. The text says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SnapshotError(pub String);

/// What `meta.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    /// The version of the archive.
    pub version: u64,
    /// `term-index-milliseconds`.
    #[serde(rename = "ID")]
    pub id: String,
    /// The last entry in the state.
    pub index: u64,
    /// The election in which it was taken.
    pub term: u64,
    /// Of older versions of Consul; always null.
    pub peers: Option<String>,
    /// The servers at that time.
    pub configuration: Configuration,
    /// Where in the log they were agreed upon; zero when that is not known.
    pub configuration_index: u64,
    /// Bytes of `state.bin`.
    pub size: u64,
}

/// The servers of a datacenter as `meta.json` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Configuration {
    /// All of them.
    pub servers: Vec<Server>,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Server {
    /// 0 for one that votes, 1 for one that does not.
    pub suffrage: u8,
    /// Its stable id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where other servers reach it.
    pub address: String,
}

impl Meta {
    /// What is known before the state is written. `millis` is the present time.
    pub fn new(term: u64, index: u64, millis: u64, servers: Vec<Server>) -> Self {
        Self {
            version: VERSION,
            id: format!("{term}-{index}-{millis}"),
            index,
            term,
            configuration: Configuration { servers },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
