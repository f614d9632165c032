//! How a datacenter agrees and remembers: openraft on redb; offers [`Replica`].
//!
//! A replica holds the whole state of its datacenter. Writes are proposed to the log, which the servers agree on;
//! what is agreed upon is applied to the state, which is published as an immutable snapshot. Reads look at such
//! snapshots and take no lock. Nothing outside this crate knows openraft or redb.

mod config;
mod error;

mod cluster;
mod leadership;
mod published;
mod replica;
mod watches;

mod codec;
mod directory;
mod log;
mod machine;
mod network;
mod snapshot;
mod space;
mod types;

pub use cluster::{ClusterServer, ClusterView, Contact, Role};
pub use config::{Config, ServerInfo, Storage};
pub use error::{Error, StartError};
pub use leadership::Leadership;
pub use published::Reader;
pub use replica::{Consistency, Replica};

#[cfg(test)]
#[path = "../tests/store_battery.rs"]
mod store_battery;

#[cfg(test)]
#[path = "../tests/crash.rs"]
mod crash;
