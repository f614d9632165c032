//! The figures that can be measured, by the names that `--only` takes.

mod dns;
mod http;
mod memory;
mod register;
mod restart;
mod watch;

use std::time::Duration;

use anyhow::Result;

pub(crate) use memory::{Baseline, PER_INSTANCE, RAW};
pub(crate) use register::{LOAD_BYTES, LOAD_RATE};
pub(crate) use restart::{LIMIT as RESTART_LIMIT, SERVING, once as restart};

use crate::record::Measure;
use crate::server::Server;

/// One figure of the table; each is a few measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Figure {
    /// SRV questions with ten answers over UDP.
    Dns,
    /// Health of ten instances over HTTP, default and stale.
    Http,
    /// Durable registrations with one client and with 64.
    Register,
    /// The time until the last of many blocked watchers has the new answer.
    Watch,
    /// Resident memory per instance.
    Memory,
    /// From `kill -9` and start to the first correct answer.
    Restart,
}

/// What the command line says about how long and how hard to measure.
#[derive(Debug, Clone)]
pub(crate) struct Effort {
    pub(crate) duration: Duration,
    /// DNS questions per second when latency is looked at.
    pub(crate) dns_rate: u32,
    /// HTTP requests per second when latency is looked at.
    pub(crate) http_rate: u32,
    /// Numbers of blocked watchers.
    pub(crate) watchers: Vec<usize>,
}

/// Readings of one round.
pub(crate) type Readings = Vec<(Measure, f64)>;

impl Figure {
    /// The figures that are taken round by round while the servers run.
    pub(crate) const ROUNDS: [Self; 4] = [Self::Dns, Self::Http, Self::Register, Self::Watch];

    /// Measures one round of this figure on a server that holds `instances`.
    pub(crate) async fn round(self, server: &Server, instances: usize, effort: &Effort) -> Result<Readings> {
        match self {
            Self::Dns => dns::round(server, instances, effort).await,
            Self::Http => http::round(server, instances, effort).await,
            Self::Register => register::round(server, effort).await,
            Self::Watch => watch::round(server, effort).await,
            // These two change the server's life and are taken between the rounds.
            Self::Memory | Self::Restart => Ok(Readings::new()),
        }
    }
}
