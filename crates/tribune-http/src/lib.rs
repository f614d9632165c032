//! The Consul-compatible HTTP API over a datacenter's [`Replica`] and a node's
//! [`LocalAgent`].
//!
//! [`node_router`] answers for the node (`/v1/agent/…`), [`datacenter_router`] for the datacenter (catalog, health,
//! status). A server merges both into one [`HttpService`]; a client agent uses the first alone. Handlers know one
//! datacenter, their own.
//!
//! ```text
//!   router ─ path, method, body within limits ─▶ handler ─▶ read ─▶ datacenter ─▶ answers ─▶ reply
//!                                                           │        consistency,  rendered
//!                                                           │        blocking      once, shared
//!                                                           └─▶ agent ─▶ LocalAgent, Host
//! ```

mod limits;
mod path;

mod body;
mod call;
mod error;
mod reply;

mod router;

mod answers;
mod question;
mod reading;

mod datacenter;
mod read;
mod selection;

mod catalog;
mod health;
mod status;

mod host;

mod agent;

mod absent;

use std::sync::Arc;

use tribune_local::LocalAgent;
use tribune_raft::Replica;

pub use agent::NodeConfig;
pub use body::Body;
pub use datacenter::DatacenterConfig;
pub use host::{Host, HostError, LogLevel};
pub use limits::{RENDERED_BYTES_MAX, REQUEST_BODY_TIMEOUT, REQUEST_BYTES_MAX};
pub use router::{HttpService, Presentation, Router};

/// The API of this node: everything below `/v1/agent/`.
pub fn node_router(agent: LocalAgent, host: Arc<dyn Host>, config: NodeConfig) -> Router {
    let node = agent::Node { agent, host, jitter: reading::Jitter::new(config.seed), config };
    agent::routes(&Arc::new(node)).merge(absent::of_node())
}

/// The API of the datacenter: catalog, health, status, and a clear word about what is not there.
pub fn datacenter_router(replica: Replica, config: DatacenterConfig) -> Router {
    let dc = Arc::new(datacenter::Datacenter::new(replica, config));
    catalog::routes(&dc).merge(health::routes(&dc)).merge(status::routes(&dc)).merge(absent::of_datacenter())
}
