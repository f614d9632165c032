//! Tests of the real program from outside: one binary, one module per subject.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::time::Duration;

mod battery;
mod blocking;
mod certificates;
mod chaos;
mod clients;
mod cluster;
mod comeback;
mod crash;
mod disk;
mod failover;
mod federation;
mod flood;
mod leases;
mod partitions;
mod scenarios;
mod tidy;

/// How long a test waits for something that takes a second or two on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
