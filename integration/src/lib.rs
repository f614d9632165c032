//! Harness for tests with real processes: the program itself, wire scenarios, probes and real clients.
//!
//! Nothing here knows how the program works inside. A test node is a child process with a temporary folder,
//! asked over its sockets, stopped by signals; the same tests can be pointed at a Consul to see whether what
//! they expect is true.

mod backend;
mod battery;
mod client;
mod cluster;
mod dns;
mod federation;
mod host;
mod http;
pub mod linear;
mod link;
mod namespace;
mod node;
mod pki;
mod program;
mod scenario;
mod wait;

pub use backend::Backend;
pub use battery::Door;
pub use client::{Client, skip};
pub use cluster::{ClusterSettings, Place, TestCluster, calm};
pub use dns::DnsProbe;
pub use federation::{Federation, FederationSettings, Member};
pub use host::{Host, Ports, free_port};
pub use http::{Answer, Request};
pub use link::{Condition, Forward, Link, Traffic};
pub use namespace::Network;
pub use node::{Ready, Settings, TestNode};
pub use pki::{Authority, Identity};
pub use program::Program;
pub use scenario::{Scenario, Verdict};
pub use wait::{Until, eventually};
