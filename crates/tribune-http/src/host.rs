//! What only the process can say or do: its configuration, members, logs, metrics, and its own end.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tribune_api::agent::{AgentSelf, Member, Metrics, Version};

/// The process behind the API; the program implements it.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// What `/v1/agent/self` says.
    fn about(&self) -> AgentSelf;

    /// The members of the LAN pool, or of the WAN pool.
    fn members(&self, wan: bool) -> Vec<Member>;

    /// What `/v1/agent/version` says.
    fn version(&self) -> Version;

    /// What `/v1/agent/host` says about the machine.
    fn machine(&self) -> BTreeMap<String, Value>;

    /// The metrics of the last whole interval.
    fn metrics(&self) -> Metrics;

    /// The metrics in Prometheus' text format; `None` when that is switched off.
    fn prometheus(&self) -> Option<String>;

    /// Log lines from now on, each ending in a line feed, as long as the receiver lives. Lines that it does not
    /// take in time are dropped and counted, never waited for.
    fn monitor(&self, level: LogLevel, json: bool) -> mpsc::Receiver<Bytes>;

    /// Reads the configuration files again and applies what can change at run time.
    async fn reload(&self) -> Result<(), HostError>;

    /// Joins the pool that the member at `address` is in.
    async fn join(&self, address: &str, wan: bool) -> Result<(), HostError>;

    /// Begins the graceful end of this agent. Returns before it is reached.
    async fn leave(&self) -> Result<(), HostError>;

    /// Declares a failed member to have left; with `prune` it is forgotten altogether.
    async fn force_leave(&self, node: &str, prune: bool, wan: bool) -> Result<(), HostError>;
}

/// From which level on log lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find faults.
    Debug,
    /// What happens in normal operation.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// A level by Consul's name for it, in any letter case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "err" | "error" => Self::Error,
            _ => return None,
        })
    }
}

/// Why the process did not do as asked. The text is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The request cannot be meant so (400).
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing (404).
    #[error("{0}")]
    NotFound(String),
    /// It was tried and failed, or is not possible here (500).
    #[error("{0}")]
    Failed(String),
}
