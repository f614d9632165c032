//! How a datacenter agrees and remembers: openraft on redb; offers [`Replica`].
//!
//! A replica holds the whole state of its datacenter. Writes are proposed to the log, which the servers agree on;
//! what is agreed upon is applied to the state, which is published as an immutable snapshot. Reads look at such
//! snapshots and take no lock. Nothing outside this crate knows openraft or redb.

mod config;
mod error;
mod transport;

mod admin;
mod cluster;
mod leadership;
mod published;
mod replica;
mod service;
mod watches;

mod forgetful;
mod hashes;
mod heard;
mod identity;
mod questions;
mod quorum;
mod restore;
mod wire;

mod recovery;

mod chance;
mod codec;
mod directory;
mod log;
mod machine;
mod network;
mod offload;
mod snapshot;
mod space;
mod types;

#[cfg(feature = "testing")]
pub mod fabric;
pub mod faults;
#[cfg(feature = "testing")]
pub mod simulation;

pub use admin::{Admin, AdminError, Progress, Saved};
pub use cluster::{ClusterServer, ClusterView, Contact, Role};
pub use config::{Config, RAFT_MULTIPLIER, ServerInfo, Storage};
pub use error::{Error, StartError};
pub use leadership::Leadership;
pub use published::Reader;
pub use recovery::{Recovery, recover};
pub use replica::{Consistency, Replica, ServeError};
pub use service::LeaderService;
pub use transport::{BODY_BYTES_MAX, Method, Transport, TransportError};

#[cfg(test)]
#[path = "../tests/store_battery.rs"]
mod store_battery;

#[cfg(test)]
#[path = "../tests/crash.rs"]
mod crash;
