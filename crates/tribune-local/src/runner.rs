//! Drives the checks: one loop over one heap of deadlines. Probes run beside it and bring their results back.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tribune_core::check::Observation;
use tribune_core::{Folded, InstanceId, Status};

use crate::ledger::Ledger;
use crate::probe::Prober;
use crate::registry::Due;

/// How often renewals are written down. They are only for a restart: what a crash loses of them is a second of
/// what was good for at least half a TTL.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the counts of checks are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How long to sleep when there is no check at all; a new one wakes the loop.
const IDLE: Duration = Duration::from_secs(3600);

/// What comes back from work beside the loop.
enum Done {
    Probed { key: Folded, generation: u64, seen: Observation },
    Removed,
}

/// Runs the checks until it is stopped; ends whatever runs then.
pub(crate) async fn run(ledger: Arc<Ledger>, prober: Arc<Prober>, stop: CancellationToken) {
    let mut work: JoinSet<Done> = JoinSet::new();
    let mut saving = interval(SAVE_INTERVAL);
    saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reporting = interval(REPORT_INTERVAL);
    reporting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (due, next) = ledger.change(|registry, now| (registry.due(now), registry.next_deadline()));
        for due in due {
            begin(&ledger, &prober, &mut work, due);
        }
        let next = next.map_or_else(|| Instant::now() + IDLE, |next| ledger.clock.instant(next));
        tokio::select! {
            () = stop.cancelled() => break,
            () = ledger.timers_changed.notified() => {}
            () = sleep_until(next) => {}
            Some(done) = work.join_next() => match done {
                Ok(Done::Probed { key, generation, seen }) => {
                    ledger.change(|registry, now| registry.result(&key, generation, seen, now));
                }
                Ok(Done::Removed) => {}
                Err(ended) if ended.is_cancelled() => {}
                Err(ended) => error!(%ended, "a probe broke off"),
            },
            _ = saving.tick() => save_states(&ledger).await,
            _ = reporting.tick() => {
                report(&ledger);
                ledger.save_again().await;
            }
        }
    }
    work.shutdown().await;
    save_states(&ledger).await;
}

fn begin(ledger: &Arc<Ledger>, prober: &Arc<Prober>, work: &mut JoinSet<Done>, due: Due) {
    match due {
        Due::Probe { key, generation, check } => {
            let prober = prober.clone();
            let name = key.clone();
            let task = work.spawn(async move {
                let seen = prober.probe(&check).await;
                Done::Probed { key: name, generation, seen }
            });
            ledger.change(|registry, _| registry.probing(&key, generation, task));
        }
        Due::Remove { service, check } => {
            let ledger = ledger.clone();
            work.spawn(async move {
                remove(&ledger, &service, &check).await;
                Done::Removed
            });
        }
    }
}

async fn remove(ledger: &Ledger, service: &Folded, check: &Folded) {
    let Ok(id) = InstanceId::new(service.as_str()) else { return };
    match ledger.remove_service(&id).await {
        Ok(()) => info!(%service, %check, "Deregistered service that was critical for too long"),
        Err(error) => warn!(%service, %check, %error, "a critical service was not removed"),
    }
}

async fn save_states(ledger: &Ledger) {
    let ops = ledger.change(|registry, _| registry.save_states(None));
    if ops.is_empty() {
        return;
    }
    let Ok(slot) = ledger.store.reserve().await else { return };
    // Written in its own time: the writer reports what goes wrong.
    drop(slot.submit(ops));
}

fn report(ledger: &Ledger) {
    let snapshot = ledger.snapshot();
    metrics::gauge!("agent.services").set(snapshot.services().len() as f64);
    for status in [Status::Passing, Status::Warning, Status::Critical] {
        let count = snapshot.checks().filter(|check| check.status == status).count();
        metrics::gauge!("agent.checks", "status" => status.to_string()).set(count as f64);
    }
}
