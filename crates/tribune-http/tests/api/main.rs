//! The API in process: a replica in memory, an agent, and a service that is asked as clients ask it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod coordinate;
mod datacenter;
mod event;

mod kv;
mod node;
mod operator;
mod query;
mod session;
mod snapshot;
mod transport;
mod txn;
