//! The figures that can be measured, by the names that `--only` takes.

mod cluster;
mod dns;
mod failover;
mod http;
mod memory;
mod register;
mod renew;
mod restart;
mod wan;
mod watch;

use std::time::Duration;

use anyhow::Result;
use tribune_integration::TestCluster;

pub(crate) use memory::{Baseline, PER_INSTANCE, RAW};
pub(crate) use register::{LOAD_BYTES, LOAD_RATE};
pub(crate) use restart::{LIMIT as RESTART_LIMIT, SERVING, once as restart};
pub(crate) use wan::{Distance, INSTANCES as WAN_INSTANCES, round as wan};

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
    /// Three servers: registrations, KV puts, consistent reads at the leader and at a follower.
    Cluster,
    /// Three servers: from `kill -9` of the leader to the next acknowledged write.
    Failover,
    /// Three servers: renewals of checks and sessions, and what they write to disk.
    Renew,
    /// Two datacenters: `?dc=` plain and cached, DNS of the other one, watching it, living without it.
    Wan,
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
            // These have servers of their own.
            Self::Cluster | Self::Failover | Self::Renew | Self::Wan => Ok(Readings::new()),
        }
    }

    /// The figures that are taken on three servers, in this order: the last one kills some.
    pub(crate) const CLUSTERED: [Self; 3] = [Self::Cluster, Self::Renew, Self::Failover];

    /// Whether it is taken on the single servers.
    pub(crate) fn is_single(self) -> bool {
        self != Self::Wan && !Self::CLUSTERED.contains(&self)
    }

    /// Measures one round of this figure on three servers.
    pub(crate) async fn clustered(self, cluster: &mut TestCluster, effort: &Effort) -> Result<Readings> {
        match self {
            Self::Cluster => cluster::round(cluster, effort).await,
            Self::Renew => renew::round(cluster, effort).await,
            Self::Failover => failover::round(cluster).await,
            _ => Ok(Readings::new()),
        }
    }
}
