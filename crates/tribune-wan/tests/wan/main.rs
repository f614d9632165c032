//! Whole ways between datacenters over roads made of code, on a clock that jumps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cached;
mod gateway;
mod roads;
mod seeker;
mod slices;
mod sockets;
mod summary;
mod uplink;
mod world;
