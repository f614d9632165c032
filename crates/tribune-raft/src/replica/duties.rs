//! What a replica does by itself now and then: the log lets go of what nobody needs, the leader compares the servers'
//! states, and snapshots that stopped arriving are let go.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Inner, Replica};
use crate::config::ServerInfo;
use crate::hashes::{self, FORM};
use crate::transport::Method;
use crate::types::TypeConfig;
use crate::wire::{AskHashes, Hashes};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two comparisons of the states.
const ROUNDS_PER_COMPARISON: u32 = 10;
/// For one answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// The owner of the task.
#[derive(Debug, Default)]
pub(super) struct Duties(Mutex<Option<JoinHandle<()>>>);

impl Duties {
    pub(super) fn begin(&self, replica: &Replica) {
        let inner = Arc::downgrade(&replica.0);
        *self.0.lock() = Some(tokio::spawn(run(inner)));
    }

    pub(super) async fn end(&self) {
        let task = self.0.lock().take();
        if let Some(task) = task {
            task.abort();
            // Either it was aborted or it panicked, which its own log line tells.
            let _ = task.await;
        }
    }
}

async fn run(inner: Weak<Inner>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    loop {
        rounds.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let replica = Replica(inner);
        replica.0.incoming.expire();
        replica.purge().await;
        round = round.wrapping_add(1);
        if round.is_multiple_of(ROUNDS_PER_COMPARISON) {
            replica.compare_states().await;
        }
    }
}

/// How far the log may go: entries that are in a snapshot, but for the newest of those, and but for what a server
/// still lacks. Consensus by itself removes what exceeds the limit for such servers.
fn purge_upto(metrics: &RaftMetrics<TypeConfig>, trailing: u64) -> Option<u64> {
    let upto = metrics.snapshot?.index.checked_sub(trailing)?;
    let matched = metrics.replication.iter().flatten().map(|(_, matched)| matched.map_or(0, |id| id.index));
    let upto = matched.fold(upto, u64::min);
    let purged = metrics.purged.map_or(0, |id| id.index);
    (upto >= purged + trailing.max(1)).then_some(upto)
}

/// Tells whoever runs the servers, at every comparison until they agree.
fn alarm(index: u64, decided: bool, odd: &[ServerInfo]) {
    metrics::counter!("raft.state.diverged").increment(odd.len() as u64);
    for server in odd {
        let (name, id) = (&server.name, &server.id);
        match decided {
            true => tracing::error!(
                %name, id, index,
                "the state of a server differs from that of the majority at the same index: stop that server, move its data directory away and let it join anew"
            ),
            false => tracing::error!(
                %name, id, index,
                "the states of servers differ at the same index and none has a majority: compare what each answers with ?stale, keep the right one, and let the others join anew with empty data directories"
            ),
        }
    }
}

impl Replica {
    /// Removes entries that nobody needs any more.
    async fn purge(&self) {
        let upto = purge_upto(&self.0.metrics.borrow_watched(), self.0.config.trailing_logs);
        if let Some(upto) = upto {
            // A replica that has stopped removes nothing.
            let _ = self.0.raft.trigger().purge_log(upto).await;
        }
    }

    /// Asks the other servers for the hashes of their states, when this one leads, and raises the alarm if any differ.
    async fn compare_states(&self) {
        let mut servers = vec![self.0.config.server.clone()];
        let mut hashes = vec![self.0.hashes.known()];
        for server in self.followers() {
            let until = Instant::now() + ANSWER_PATIENCE;
            let answer = self.0.caller.call::<_, Hashes>(&server, Method::Hashes, AskHashes, until).await;
            if let Some(answer) = answer.ok().filter(|answer| answer.form == FORM) {
                servers.push(server);
                hashes.push(answer.hashes);
            }
        }
        let divergence = hashes::compare(&hashes);
        let odd = divergence.iter().flat_map(|divergence| &divergence.odd);
        let odd: Vec<ServerInfo> = odd.map(|place| servers[*place].clone()).collect();
        if let Some(divergence) = divergence {
            alarm(divergence.index, divergence.decided, &odd);
        }
        self.0.diverged.store(Arc::new(odd));
    }

    /// The others, when this server leads.
    fn followers(&self) -> Vec<ServerInfo> {
        let metrics = self.0.metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return Vec::new();
        }
        let nodes = metrics.membership_config.membership().nodes();
        nodes.filter(|(id, _)| **id != self.0.id).filter_map(|(_, node)| node.info()).collect()
    }
}
