//! When a leader that hears from no majority keeps still.
//!
//! Where calls arrive but answers are lost, such a leader would keep the others from standing for election with
//! its appends for ever. openraft withholds heartbeats then, but not entries; this withholds those. It leaves
//! times in between in which the leader tries again.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics, ServerState};

use crate::config::Config;
use crate::types::TypeConfig;

/// What the leader's lines ask before they send.
pub(crate) struct Quorum {
    metrics: OnceLock<WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>>,
    lease: Duration,
    phase: Duration,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Quorum {
    pub(crate) fn new(config: &Config) -> Self {
        Self { metrics: OnceLock::new(), lease: config.election_timeout_max, phase: probe_interval(config) }
    }

    /// Must be called once consensus runs.
    pub(crate) fn watch(&self, metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>) {
        // Called once.
        let _ = self.metrics.set(metrics);
    }

    /// Whether entries may be sent now.
    pub(crate) fn may_append(&self) -> bool {
        let Some(metrics) = self.metrics.get() else { return true };
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return true;
        }
        // A leader that no majority has answered yet has just been elected by one.
        metrics.last_quorum_acked.as_ref().is_none_or(|at| allowed(at.elapsed(), self.lease, self.phase))
    }
}

/// Silence and trying take turns once the lease has run out, beginning with silence.
fn allowed(unanswered: Duration, lease: Duration, phase: Duration) -> bool {
    match unanswered.checked_sub(lease) {
        None => true,
        Some(beyond) => (beyond.as_millis() / phase.as_millis().max(1)) % 2 == 1,
    }
}

/// Length of each silence: long enough for a lease and an election, and a little more.
pub(crate) fn probe_interval(config: &Config) -> Duration {
    config.election_timeout_max * 2 + config.heartbeat_interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_trying_take_turns() {
        let (lease, phase) = (Duration::from_millis(400), Duration::from_millis(900));
        let at = |millis| allowed(Duration::from_millis(millis), lease, phase);
        assert!(at(0) && at(399));
        assert!(!at(400) && !at(1299));
        assert!(at(1300) && at(2199));
        assert!(!at(2200));
    }
}
