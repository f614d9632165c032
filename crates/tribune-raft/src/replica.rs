//! The handle to this datacenter's agreement.

mod ask;
mod duties;
mod propose;
mod read;
mod serve;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tribune_core::{Index, State, Topic};

use crate::admin::Admin;
use crate::cluster::{ClusterServer, ClusterView, Contact};
use crate::config::{Config, ServerInfo};
use crate::error::Error;
use crate::faults::Lapse;
use crate::forgetful::Forgetful;
use crate::hashes::StateHashes;
use crate::heard::Heard;
use crate::identity::Identity;
use crate::leadership::Leadership;
use crate::log::LogStore;
use crate::network::Caller;
use crate::offload::Offload;
use crate::published::{Published, Reader};
use crate::questions::Questions;
use crate::service::Service;
use crate::snapshot::incoming::Incoming;
use crate::space::Space;
use crate::types::{Raft, ServerNode, TypeConfig};
use crate::watches::Watches;

use duties::Duties;
use read::ReadIndexed;

pub(crate) use propose::unsure;

pub use read::Consistency;
pub use serve::ServeError;

/// One server's part in the agreement of its datacenter. Clones are cheap and stand for the same replica.
#[derive(Debug, Clone)]
pub struct Replica(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) id: u64,
    pub(crate) raft: Raft,
    pub(crate) identity: Arc<Identity>,
    pub(crate) caller: Caller,
    pub(crate) offload: Offload,
    /// What consensus tells of itself.
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    log: LogStore,
    published: Published,
    watches: Arc<Watches>,
    applied_term: watch::Receiver<u64>,
    /// The last entry in the published state.
    applied: watch::Receiver<u64>,
    /// Places for proposals that wait for their outcome, in this server's log and in the leader's.
    proposals: Semaphore,
    passed_on: Semaphore,
    /// Questions for the read index: by lease, by a majority, and by a majority for other servers.
    reads: Questions<ReadIndexed>,
    confirmed_reads: Questions<ReadIndexed>,
    confirmed_for_others: Questions<ReadIndexed>,
    heard: Heard,
    pub(crate) forgetful: Forgetful,
    incoming: Incoming,
    hashes: Arc<StateHashes>,
    /// The servers whose states differed when this one last compared them as the leader.
    diverged: ArcSwap<Vec<ServerInfo>>,
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "there are lapses in tests only"))]
    lapse: Lapse,
    service: Service,
    duties: Duties,
    /// The last term in which this server has begun to hand leading over: its lease says nothing any more then.
    yielded: AtomicU64,
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
        let leader = self.known_leader(&metrics);
        let is_leader = leader == Some(self.0.id);
        let leader = leader.and_then(|id| self.info(id, membership.get_node(&id)?));
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
            last_contact: self.last_contact(&metrics),
            diverged: if is_leader { self.0.diverged.load().to_vec() } else { Vec::new() },
            stopped: self.stopped(&metrics),
        }
    }

    /// How this server stands to its leader; cheap enough to be asked for each read.
    pub fn contact(&self) -> Contact {
        let metrics = self.0.metrics.borrow_watched();
        Contact {
            known_leader: self.known_leader(&metrics).is_some(),
            last_contact: self.last_contact(&metrics),
        }
    }

    /// Changes who takes part, saves and restores the state.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Follows whether this server leads.
    pub fn leadership(&self) -> Leadership {
        Leadership::new(self.0.raft.server_metrics(), self.0.applied_term.clone())
    }

    /// Asks for a snapshot now, unless one was built within the snapshot interval. Does not wait for it.
    pub async fn snapshot(&self) -> Result<(), Error> {
        self.0.raft.trigger().snapshot().await.map_err(|_| self.stopped_error())
    }

    /// Stops taking part, writes what is queued and lets go of all files. A leader hands leading over first. Other
    /// clones of the handle go on giving the last state, and refuse everything else.
    pub async fn shutdown(&self) {
        self.leave_the_lead(self.0.config.silence_max()).await;
        self.end().await;
    }

    /// Ends as if the process were killed, but for what it had queued to write.
    #[cfg(feature = "testing")]
    pub async fn kill(&self) {
        self.end().await;
    }

    /// Hashes of the states this server has had, with their indexes.
    #[cfg(feature = "testing")]
    pub fn state_hashes(&self) -> Vec<(u64, String)> {
        self.0.hashes.known()
    }

    /// Lets this server alone pass over the next command.
    #[cfg(feature = "testing")]
    pub fn lapse(&self) {
        self.0.lapse.prepare();
    }

    /// Ends without handing anything over.
    async fn end(&self) {
        self.0.duties.end().await;
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end cleanly");
        }
        self.0.hashes.end().await;
        self.0.log.close().await;
    }

    /// A server in the words of callers. This server's own entry may tell an address it no longer has.
    pub(crate) fn info(&self, id: u64, node: &ServerNode) -> Option<ServerInfo> {
        if id == self.0.id { Some(self.0.config.server.clone()) } else { node.info() }
    }

    /// Why this replica has stopped, if it has.
    fn stopped(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<String> {
        let fatal = metrics.running_state.as_ref().err()?;
        Some(self.0.log.failure().reason().map_or_else(|| fatal.to_string(), str::to_owned))
    }

    /// Whether consensus has ended here.
    fn has_stopped(&self) -> bool {
        self.0.metrics.borrow_watched().running_state.is_err()
    }

    pub(crate) fn stopped_error(&self) -> Error {
        let reason = self.stopped(&self.0.metrics.borrow_watched());
        Error::Stopped(reason.unwrap_or_else(|| "it was shut down".to_owned()))
    }

    /// Whether this server is the only voter of its datacenter.
    fn is_sole_voter(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        metrics.membership_config.membership().voter_ids().eq([self.0.id])
    }

    fn is_leader_now(&self) -> bool {
        self.0.metrics.borrow_watched().state == ServerState::Leader
    }

    /// The leader, if it is another server than this one.
    pub(crate) fn leader_elsewhere(&self) -> Option<ServerInfo> {
        let metrics = self.0.metrics.borrow_watched();
        let leader = metrics.current_leader.filter(|leader| *leader != self.0.id)?;
        metrics.membership_config.membership().get_node(&leader)?.info()
    }

    /// The leader, as long as there are signs of it: a leader that no majority answers can decide nothing, and one
    /// that was not heard of for longer than any election waits has gone.
    fn known_leader(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
        let leader = metrics.current_leader?;
        let alive = match leader == self.0.id {
            true => self.has_quorum(metrics),
            false => self.0.heard.ago().is_some_and(|ago| ago <= self.0.config.silence_max()),
        };
        alive.then_some(leader)
    }

    /// Whether a majority has answered this leader lately.
    pub(crate) fn has_quorum(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        metrics.state == ServerState::Leader
            && (self.is_sole_voter(metrics)
                || quorum_silence(metrics).is_none_or(|silence| silence <= self.0.config.silence_max()))
    }

    /// Zero on a leader that a majority answers.
    fn last_contact(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
        if metrics.state != ServerState::Leader {
            return self.0.heard.ago();
        }
        if self.is_sole_voter(metrics) {
            return Some(Duration::ZERO);
        }
        let silence = quorum_silence(metrics).unwrap_or_default();
        Some(if silence <= self.0.config.election_timeout_max { Duration::ZERO } else { silence })
    }

    /// From now on the lease of the present term proves nothing: another server may be elected at any moment.
    pub(crate) fn yield_lease(&self) {
        let term = self.0.metrics.borrow_watched().current_term;
        self.0.yielded.fetch_max(term, Ordering::SeqCst);
    }
}

/// How long ago a majority last answered this leader; `None` when none has yet.
fn quorum_silence(metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    metrics.last_quorum_acked.as_ref().map(|at| at.elapsed())
}
