//! The handle to this datacenter's agreement.

mod propose;
mod read;
mod start;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tribune_core::{Index, State, Topic};

use crate::cluster::{ClusterServer, ClusterView, Contact};
use crate::config::{Config, ServerInfo};
use crate::error::Error;
use crate::leadership::Leadership;
use crate::log::LogStore;
use crate::published::{Published, Reader};
use crate::space::Space;
use crate::types::{Raft, ServerNode, TypeConfig};
use crate::watches::Watches;

pub use read::Consistency;

/// One server's part in the agreement of its datacenter. Clones are cheap and stand for the same replica.
#[derive(Debug, Clone)]
pub struct Replica(Arc<Inner>);

struct Inner {
    config: Config,
    id: u64,
    raft: Raft,
    /// What consensus tells of itself.
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    log: LogStore,
    published: Published,
    watches: Arc<Watches>,
    applied_term: watch::Receiver<u64>,
    /// Places for proposals that wait for their outcome.
    proposals: Semaphore,
    /// `None` when everything is in memory.
    space: Option<Space>,
    /// Whether this server's state has caught up with all that was acknowledged before its start.
    recovered: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("server", &self.config.server.id).finish_non_exhaustive()
    }
}

impl Replica {
    /// The newest state this server has, however old that is.
    pub fn state(&self) -> Arc<State> {
        self.0.published.load()
    }

    /// A look at the newest state for those who look very often.
    pub fn reader(&self) -> Reader {
        self.0.published.reader()
    }

    /// Waits until the answer to `topic` has changed after `after`, but no longer than `until`. Gives the newest
    /// state either way. A waiter is a parked future and is woken only when its own topic changes.
    pub async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        let state = self.state();
        if state.index_of(topic) > after {
            return state;
        }
        drop(state);
        let mut subscription = self.0.watches.subscribe(topic);
        loop {
            let state = self.state();
            if state.index_of(topic) > after {
                return state;
            }
            drop(state);
            if tokio::time::timeout_at(until, subscription.announced()).await.is_err() {
                return self.state();
            }
        }
    }

    /// The servers of the datacenter as this one knows them.
    pub fn cluster(&self) -> ClusterView {
        let metrics = self.0.metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let mut servers: Vec<ClusterServer> = membership
            .nodes()
            .filter_map(|(id, node)| {
                Some(ClusterServer { server: self.info(*id, node)?, voter: voters.contains(id) })
            })
            .collect();
        servers.sort_by(|a, b| a.server.id.cmp(&b.server.id));
        let is_leader = metrics.state == ServerState::Leader;
        let leader = metrics.current_leader.and_then(|id| self.info(id, membership.get_node(&id)?));
        let position = |id: Option<u64>| Index(id.unwrap_or_default());
        ClusterView {
            leader,
            is_leader,
            servers,
            term: metrics.current_term,
            first_log: position(metrics.purged.map(|id| id.index + 1)),
            last_log: position(metrics.last_log_index),
            commit: position(metrics.local_committed.map(|id| id.index)),
            applied: position(metrics.last_applied.map(|id| id.index)),
            snapshot: position(metrics.snapshot.map(|id| id.index)),
            last_contact: last_contact(&metrics),
            stopped: self.stopped(&metrics),
        }
    }

    /// How this server stands to its leader; cheap enough to be asked for each read.
    pub fn contact(&self) -> Contact {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        Contact { known_leader: metrics.current_leader.is_some(), last_contact: last_contact(&metrics) }
    }

    /// Follows whether this server leads.
    pub fn leadership(&self) -> Leadership {
        Leadership::new(self.0.raft.server_metrics(), self.0.applied_term.clone())
    }

    /// Waits until a leader is known, but no longer than `until`.
    pub async fn wait_for_leader(&self, until: Instant) -> Result<ServerInfo, Error> {
        let begun = Instant::now();
        let mut servers = self.0.raft.server_metrics();
        loop {
            if let Some(leader) = self.cluster().leader {
                return Ok(leader);
            }
            match tokio::time::timeout_at(until, servers.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.stopped_error()),
                Err(_) => return Err(Error::NoLeader(begun.elapsed())),
            }
        }
    }

    /// Asks for a snapshot now, unless one was built within the snapshot interval. Does not wait for it.
    pub async fn snapshot(&self) -> Result<(), Error> {
        self.0.raft.trigger().snapshot().await.map_err(|_| self.stopped_error())
    }

    /// Stops taking part, writes what is queued and lets go of all files. Other clones of the handle go on
    /// giving the last state, and refuse everything else.
    pub async fn shutdown(&self) {
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end cleanly");
        }
        let log = self.0.log.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    }

    /// A server in the words of callers. This server's own entry may tell an address it no longer has.
    fn info(&self, id: u64, node: &ServerNode) -> Option<ServerInfo> {
        if id == self.0.id { Some(self.0.config.server.clone()) } else { node.info() }
    }

    /// Why this replica has stopped, if it has.
    fn stopped(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<String> {
        let fatal = metrics.running_state.as_ref().err()?;
        Some(self.0.log.failure().reason().map_or_else(|| fatal.to_string(), str::to_owned))
    }

    fn stopped_error(&self) -> Error {
        let reason = self.stopped(&self.0.metrics.borrow_watched());
        Error::Stopped(reason.unwrap_or_else(|| "it was shut down".to_owned()))
    }

    /// Whether this server is the only voter of its datacenter.
    fn is_sole_voter(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        metrics.membership_config.membership().voter_ids().eq([self.0.id])
    }
}

/// Zero on the leader itself; the other servers do not measure it.
fn last_contact(metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    (metrics.state == ServerState::Leader).then_some(Duration::ZERO)
}
