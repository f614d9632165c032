//! Harness for tests with real processes: the program itself, wire scenarios, probes and real clients.
//!
//! Nothing here knows how the program works inside. A test node is a child process with a temporary folder,
//! asked over its sockets, stopped by signals; the same tests can be pointed at a Consul to see whether what
//! they expect is true.

mod backend;
mod client;
mod dns;
mod http;
mod node;
mod scenario;
mod wait;

pub use backend::Backend;
pub use client::{Client, free_port, skip};
pub use dns::DnsProbe;
pub use http::{Answer, Request};
pub use node::{Program, Settings, TestNode};
pub use scenario::{Scenario, Verdict};
pub use wait::eventually;
