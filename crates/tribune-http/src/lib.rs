//! The Consul-compatible HTTP API over a datacenter's [`Replica`] and a node's
//! [`LocalAgent`].
//!
//! [`node_router`] answers for the node (`/v1/agent/…`), [`event_router`] for the events it sends and has received,
//! [`datacenter_router`] for the datacenter (catalog, health, status, keys, sessions, transactions). A server merges
//! all three into one [`HttpService`]; a client agent has the first two. Handlers know one datacenter, their own.
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
mod kv;
mod session;
mod status;
mod txn;

mod host;

mod agent;

mod operator;

mod coordinate;
mod event;
mod query;
mod snapshot;

mod absent;

use std::sync::Arc;

use tribune_local::LocalAgent;
use tribune_raft::Replica;

pub use agent::NodeConfig;
pub use body::Body;
pub use datacenter::DatacenterConfig;
pub use event::{Events, Inbox};
pub use host::{Host, HostError, LogLevel};
pub use limits::{RENDERED_BYTES_MAX, REQUEST_BODY_TIMEOUT, REQUEST_BYTES_MAX};
pub use operator::{
    Answered, Distance, Errand, KeyringOperation, KeyringOptions, Operator, PoolKeys, RaftConfiguration,
    RaftServer, ServerLocated,
};
pub use router::{HttpService, Presentation, Router};

/// The API of this node: everything below `/v1/agent/`.
pub fn node_router(agent: LocalAgent, host: Arc<dyn Host>, config: NodeConfig) -> Router {
    let node = agent::Node { agent, host, jitter: reading::Jitter::new(config.seed), config };
    agent::routes(&Arc::new(node)).merge(absent::of_node())
}

/// User events, which every agent sends and receives.
pub fn event_router(events: Arc<dyn Events>) -> Router {
    event::routes(&Arc::new(event::Door(events)))
}

/// The API of the datacenter: catalog, health, status, keys, sessions, transactions, operators, and a clear word
/// about what is not there.
pub fn datacenter_router(replica: Replica, operator: Arc<dyn Operator>, config: DatacenterConfig) -> Router {
    let dc = Arc::new(datacenter::Datacenter::new(replica, config));
    let office = Arc::new(operator::Office { dc: Arc::clone(&dc), operator });
    let leasing = kv::routes(&dc).merge(session::routes(&dc)).merge(txn::routes(&dc));
    let discovery = catalog::routes(&dc, &office).merge(health::routes(&dc)).merge(status::routes(&dc));
    let operation = operator::routes(&office).merge(coordinate::routes(&office)).merge(snapshot::routes(&dc));
    let operation = operation.merge(query::routes(&office));
    discovery.merge(leasing).merge(operation).merge(absent::of_datacenter())
}
