//! The client against real servers on loopback: agents that are away, slow, broken or lying.

#![allow(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod answers;
mod fallback;
mod repetition;
mod secure;
mod server;
mod watches;
