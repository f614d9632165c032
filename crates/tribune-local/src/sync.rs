//! Brings the catalog in line with the agent's own list.
//!
//! A change goes out at once, built from the list alone. A comparison of the whole list with the catalog, at the
//! start and every minute or so, finds whatever else differs; it yields the same kind of keys, so there is one way
//! out: [`Ledger::push`]. It looks at the list again when a command is done: what was changed or removed
//! meanwhile goes out again, whichever of two commands the catalog took last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tribune_core::reconcile::{self, CHECKS_PER_COMMAND, Mine, MyCheck};
use tribune_core::{
    Authority, Check, CheckId, Command, Deregistration, Folded, InstanceId, Node, Outcome, Refusal, Target,
};

use crate::catalog::CatalogError;
use crate::ledger::Ledger;
use crate::registry::Key;
use crate::snapshot::Snapshot;

/// How many commands are under way at once: enough to fill the log's group commit, no more than a server can
/// take from each of a thousand agents.
const PROPOSALS_MAX: usize = 32;

/// How long the first retry waits, and the longest a later one does (times the scale of the datacenter).
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Datacenters up to this size compare once per interval; each doubling makes the interval longer by one.
const NODES_PER_SCALE: usize = 128;

/// One command, and what it tells the catalog of.
struct Item {
    keys: BTreeSet<Key>,
    command: Command,
}

/// Keys on their way out. Whatever is left in it when it is dropped, because the caller went away or the
/// catalog did not take it, is marked as still to be told.
struct Outgoing<'a> {
    ledger: &'a Ledger,
    keys: BTreeSet<Key>,
    wake: bool,
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if keys.is_empty() {
            return;
        }
        self.ledger.change(|registry, _| match self.wake {
            true => registry.mark(keys),
            false => registry.mark_for_later(keys),
        });
    }
}

impl Ledger {
    /// Tells the catalog how these stand now.
    pub(crate) async fn push(&self, keys: BTreeSet<Key>) -> Result<(), CatalogError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut outgoing = Outgoing { ledger: self, keys, wake: true };
        if self.paused() {
            return Ok(());
        }
        let node = self.node.load_full();
        let items = items(&self.snapshot(), &node, &outgoing.keys);
        let mut answers = stream::iter(items)
            .map(|item| async {
                let answer = self.catalog.propose(item.command.clone()).await;
                (item, answer)
            })
            .buffer_unordered(PROPOSALS_MAX);
        let mut failed = None;
        while let Some((item, answer)) = answers.next().await {
            match answer {
                Ok(outcome) => {
                    outgoing.keys.retain(|key| !item.keys.contains(key));
                    self.answered(&item, &node, outcome);
                }
                Err(error) => failed = Some(error),
            }
        }
        drop(answers);
        // What failed is tried again after a pause, not at once.
        outgoing.wake = failed.is_none();
        match failed {
            Some(error) => {
                self.counters.syncs_failed.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("agent.ae.sync_failed").increment(1);
                drop(outgoing);
                self.sync_failed.store(true, Ordering::Release);
                self.sync_wanted.notify_one();
                Err(error)
            }
            None => Ok(()),
        }
    }

    fn answered(&self, item: &Item, node: &Node, outcome: Outcome) {
        if let Outcome::Refused(refusal) = outcome {
            return self.refused(item, &refusal);
        }
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("agent.ae.sync").increment(1);
        log(&item.command);
        if let Command::Register(registration) = &item.command {
            self.change(|registry, _| registry.told(&registration.checks));
        }
        let now = items(&self.snapshot(), node, &item.keys);
        let same = matches!(now.as_slice(), [now] if same_but_outputs(&now.command, &item.command));
        if !same {
            self.change(|registry, _| registry.mark(item.keys.iter().cloned()));
        }
    }

    fn refused(&self, item: &Item, refusal: &Refusal) {
        // The catalog lost a service whose check changed. Services bring their checks along, so these cannot be
        // refused for the same reason; nothing else that is refused is cured by telling it again.
        if let Refusal::MissingInstance { .. } = refusal {
            let owners = match &item.command {
                Command::Register(put) if put.service.is_none() => put.checks.iter(),
                _ => [].iter(),
            };
            let owners = owners.map(|check| match &check.service_id {
                Some(service) => Key::Service(service.folded()),
                None => Key::Check(check.id.folded()),
            });
            self.change(|registry, _| registry.mark(owners));
        }
        warn!(?refusal, "the catalog refused what this node says of itself");
    }

    /// Compares the whole list with the catalog and tells it what differs.
    pub(crate) async fn sync_all(&self) -> Result<(), CatalogError> {
        // The catalog first, then the list: what was registered in between is on the list, whether the catalog
        // shows it or not, and so is never mistaken for something superfluous.
        let state = self.catalog.state().await?;
        let node = self.node.load_full();
        let snapshot = self.snapshot();
        let authority = Authority::unrestricted();
        let plan = {
            let mine = self.mine(&snapshot, &node);
            reconcile::local(&mine, state.view(&authority))
        };
        if plan.commands.is_empty() {
            debug!("Node info in sync");
        }
        self.change(|registry, _| plan.adopted.into_iter().for_each(|instance| registry.adopt(instance)));
        let mut keys = BTreeSet::new();
        for command in plan.commands {
            let node_record =
                matches!(&command, Command::Register(put) if put.service.is_none() && put.checks.is_empty());
            if node_record {
                if let Outcome::Refused(refusal) = self.catalog.propose(command).await? {
                    warn!(?refusal, "the catalog refused this node's own record");
                }
            } else {
                keys.extend(keys_of(&command));
            }
        }
        self.push(keys).await
    }

    fn mine<'a>(&self, snapshot: &'a Snapshot, node: &'a Node) -> Mine<'a> {
        let held = self.change(|registry, _| registry.held_outputs());
        let services = snapshot.services().map(|service| &service.instance).collect();
        let checks = snapshot
            .checks
            .iter()
            .map(|(key, check)| MyCheck { check: check.to_check(), send_output: !held.contains(key) });
        Mine { node, services, checks: checks.collect() }
    }

    /// How much longer than usual this datacenter waits between comparisons, and how long that is.
    async fn scaled(&self, span: Duration) -> Duration {
        let nodes = match self.catalog.state().await {
            Ok(state) => state.view(&Authority::unrestricted()).nodes().count(),
            Err(_) => 0,
        };
        let doublings = nodes.div_ceil(NODES_PER_SCALE).max(1).next_power_of_two().ilog2();
        span * (1 + doublings)
    }
}

/// Keeps the catalog in line until it is stopped.
pub(crate) async fn run(ledger: &Ledger, stop: CancellationToken) {
    let mut full_at = Instant::now();
    let mut retry = RETRY_MIN;
    loop {
        let next = if ledger.paused() { Instant::now() + RETRY_MIN } else { next_round(ledger, full_at) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = ledger.sync_wanted.notified() => {}
            () = sleep_until(next) => {}
        }
        if ledger.sync_failed.swap(false, Ordering::AcqRel) {
            // Somebody was turned away just now: all of it is looked at again, but not at once.
            full_at = full_at.min(Instant::now() + staggered(retry));
            retry = (retry * 2).min(ledger.scaled(RETRY_MAX).await);
            continue;
        }
        if ledger.paused() {
            continue;
        }
        let synced = tokio::select! {
            () = stop.cancelled() => return,
            synced = step(ledger, full_at <= Instant::now()) => synced,
        };
        match synced {
            Ok(false) => {}
            Ok(true) => {
                retry = RETRY_MIN;
                full_at = Instant::now() + staggered(ledger.scaled(ledger.config.ae_interval).await);
            }
            Err(error) => {
                warn!(%error, "failed to sync remote state");
                full_at = Instant::now() + staggered(retry);
            }
        }
    }
}

/// When there is something to do without being called: a comparison, or an output that was held back.
fn next_round(ledger: &Ledger, full_at: Instant) -> Instant {
    let output_due = ledger.change(|registry, _| registry.next_output_due());
    output_due.map_or(full_at, |due| ledger.clock.instant(due).min(full_at))
}

/// One round: everything when its time has come, otherwise what changed. `true` when it was everything.
async fn step(ledger: &Ledger, everything: bool) -> Result<bool, CatalogError> {
    let dirty = ledger.change(|registry, now| {
        registry.release_outputs(now);
        registry.take_dirty()
    });
    if !everything {
        ledger.push(dirty).await?;
        return Ok(false);
    }
    let mut outgoing = Outgoing { ledger, keys: dirty, wake: false };
    ledger.sync_all().await?;
    let dirty = std::mem::take(&mut outgoing.keys);
    ledger.push(dirty).await?;
    Ok(true)
}

/// The span and up to as much again, so that the agents of a datacenter do not all come at once.
fn staggered(span: Duration) -> Duration {
    span + span.mul_f64(rand::random::<f64>())
}

/// The commands that tell how these keys stand.
fn items(snapshot: &Snapshot, node: &Node, keys: &BTreeSet<Key>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut checks: BTreeMap<Folded, _> = BTreeMap::new();
    for key in keys {
        match key {
            Key::Service(id) => items.extend(
                service_command(snapshot, node, id)
                    .map(|command| Item { keys: BTreeSet::from([key.clone()]), command }),
            ),
            Key::Check(id) => match snapshot.checks.get(id) {
                Some(check) => {
                    checks.insert(id.clone(), check.to_check());
                }
                None => items.extend(CheckId::new(id.as_str()).ok().map(|id| Item {
                    keys: BTreeSet::from([key.clone()]),
                    command: remove(node, Target::Check(id)),
                })),
            },
        }
    }
    let checks: Vec<_> = checks.into_iter().collect();
    items.extend(checks.chunks(CHECKS_PER_COMMAND).map(|chunk| Item {
        keys: chunk.iter().map(|(id, _)| Key::Check(id.clone())).collect(),
        command: reconcile::register(
            node,
            true,
            None,
            chunk.iter().map(|(_, check)| check.clone()).collect(),
        ),
    }));
    items
}

/// Whether two commands differ in the outputs of checks at most: those have their own time.
fn same_but_outputs(now: &Command, then: &Command) -> bool {
    match (now, then) {
        (Command::Register(now), Command::Register(then)) => {
            let quiet = |check: &Check| Check { output: "".into(), ..check.clone() };
            now.service == then.service
                && now.node == then.node
                && now.checks.iter().map(quiet).eq(then.checks.iter().map(quiet))
        }
        _ => now == then,
    }
}

fn service_command(snapshot: &Snapshot, node: &Node, id: &Folded) -> Option<Command> {
    let Some(service) = snapshot.services.get(id) else {
        let id = InstanceId::new(id.as_str()).ok()?;
        return Some(remove(node, Target::Instance(id)));
    };
    let checks = snapshot.checks_of(id.as_str()).map(|check| check.to_check()).collect();
    Some(reconcile::register(node, true, Some(service.instance.clone()), checks))
}

fn remove(node: &Node, target: Target) -> Command {
    Command::Deregister(Deregistration { node: node.name.clone(), target })
}

/// What a command of the comparison is about.
fn keys_of(command: &Command) -> Vec<Key> {
    match command {
        Command::Register(put) => match &put.service {
            Some(service) => vec![Key::Service(service.id.folded())],
            None => put.checks.iter().map(|check| Key::Check(check.id.folded())).collect(),
        },
        Command::Deregister(take) => match &take.target {
            Target::Node => Vec::new(),
            Target::Instance(id) => vec![Key::Service(id.folded())],
            Target::Check(id) => vec![Key::Check(id.folded())],
        },
        // A comparison with the catalog gives nothing else.
        _ => Vec::new(),
    }
}

/// The lines that operators look for.
fn log(command: &Command) {
    match command {
        Command::Register(put) => match &put.service {
            Some(service) => info!(service = %service.id, "Synced service"),
            None => put.checks.iter().for_each(|check| info!(check = %check.id, "Synced check")),
        },
        Command::Deregister(take) => match &take.target {
            Target::Node => {}
            Target::Instance(id) => info!(service = %id, "Deregistered service"),
            Target::Check(id) => info!(check = %id, "Deregistered check"),
        },
        _ => {}
    }
}
