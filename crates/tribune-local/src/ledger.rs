//! The registry behind its lock, with all that its changes entail: published, written, told and synced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tribune_core::{CheckId, CheckKind, CheckSpec, Folded, InstanceId, Node, ServiceInstance, Timestamp};

use crate::alert::Alerts;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{Config, Definitions, ScriptPolicy};
use crate::error::Error;
use crate::registry::{Key, Others, OutputRules, Put, Registry};
use crate::snapshot::{Origin, Snapshot};
use crate::store::{Op, SavedList, Saving, Store};

/// What all handles and tasks of one agent share.
pub(crate) struct Ledger {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) node: ArcSwap<Node>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) store: Store,
    pub(crate) timers_changed: Notify,
    pub(crate) sync_wanted: Notify,
    pub(crate) pauses: AtomicUsize,
    /// Set by whoever was turned away by the catalog, for the sync to come back to it.
    pub(crate) sync_failed: AtomicBool,
    pub(crate) counters: Counters,
    services_changed: watch::Sender<u64>,
    alerts: Alerts,
    registry: Mutex<Registry>,
    published: ArcSwap<Snapshot>,
}

/// How often the catalog was told something.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) syncs_failed: AtomicU64,
}

/// Figures for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Services of this node.
    pub services: usize,
    /// Checks of this node.
    pub checks: usize,
    /// Those of them that are renewed.
    pub check_ttls: usize,
    /// Those of them that are probed.
    pub check_monitors: usize,
    /// Changes that the catalog took.
    pub syncs: u64,
    /// Changes that it did not take at the first attempt.
    pub syncs_failed: u64,
}

/// Services with checks that are known to be usable.
type Admitted = (ServiceInstance, Vec<(CheckSpec, CheckKind)>);

impl Ledger {
    pub(crate) fn new(config: Config, catalog: Arc<dyn Catalog>, store: Store, alerts: Alerts) -> Self {
        let outputs =
            OutputRules { held_back: config.check_update_interval, discarded: config.discard_check_output };
        Self {
            clock: Clock::start(),
            node: ArcSwap::from_pointee(config.node.clone()),
            config,
            catalog,
            store,
            timers_changed: Notify::new(),
            sync_wanted: Notify::new(),
            pauses: AtomicUsize::new(0),
            sync_failed: AtomicBool::new(false),
            counters: Counters::default(),
            services_changed: watch::Sender::new(0),
            alerts,
            registry: Mutex::new(Registry::new(outputs)),
            published: ArcSwap::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    pub(crate) fn watch_services(&self) -> watch::Receiver<u64> {
        self.services_changed.subscribe()
    }

    pub(crate) fn paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Makes one change, and does what it entails.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut Registry, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut registry = self.registry.lock();
        let result = act(&mut registry, now);
        let settled = registry.settle();
        if let Some(snapshot) = settled.snapshot {
            // Still under the lock, so that a later list is never replaced by an earlier one.
            self.published.store(snapshot);
        }
        drop(registry);
        if settled.services {
            self.services_changed.send_modify(|changes| *changes += 1);
        }
        if settled.timers {
            self.timers_changed.notify_one();
        }
        if settled.sync {
            self.sync_wanted.notify_one();
        }
        let node = self.node.load();
        for transition in settled.transitions {
            self.alerts.transition(node.name.as_str(), &transition.check, transition.from, now);
        }
        result
    }

    /// Takes over the list as it was read from disk, then what the configuration files say.
    pub(crate) async fn restore(&self, list: SavedList, definitions: Definitions) -> Result<(), Error> {
        self.change(|registry, now| {
            for service in &list.services {
                registry.put_service(service, &[], (Origin::Api, Others::Keep), now);
            }
        });
        self.load(definitions, list.checks).await?;
        self.change(|registry, now| {
            for (key, state) in list.states {
                registry.restore(&key, state, now);
            }
            // The first comparison with the catalog finds whatever differs.
            registry.take_dirty();
        });
        Ok(())
    }

    /// Puts what the files define and removes what they no longer do.
    pub(crate) async fn reload(&self, definitions: Definitions) -> Result<(), Error> {
        self.load(definitions, Vec::new()).await
    }

    async fn load(&self, definitions: Definitions, saved: Vec<CheckSpec>) -> Result<(), Error> {
        let services: Vec<Admitted> = definitions
            .services
            .into_iter()
            .map(|(instance, checks)| Ok((instance, self.admit(checks, Origin::File)?)))
            .collect::<Result<_, Error>>()?;
        let checks = self.admit(definitions.checks, Origin::File)?;
        self.owners_exist(&checks, &services)?;
        let slot = self.store.reserve().await?;
        let saving = self.change(|registry, now| {
            let mut put = Put::default();
            forget_files(registry, &services, &checks, &mut put.ops, now);
            for (instance, checks) in &services {
                let more =
                    registry.put_service(instance, checks, (Origin::File, Others::RemoveFromFiles), now);
                put.ops.extend(more.ops);
                registry.mark([Key::Service(instance.id.folded())]);
            }
            self.put_saved(registry, saved, &mut put, now);
            for (spec, kind) in checks {
                let key = spec.id.folded();
                registry.put_check(spec, kind, Origin::File, now, &mut put);
                registry.mark([Key::Check(key)]);
            }
            slot.submit(put.ops)
        });
        saving.wait().await
    }

    /// Takes over saved checks, unless a file defines the same; those whose service is gone, or which may no
    /// longer be run, go as well.
    fn put_saved(&self, registry: &mut Registry, saved: Vec<CheckSpec>, put: &mut Put, now: Timestamp) {
        for spec in saved {
            let (id, key) = (spec.id.clone(), spec.id.folded());
            let owned =
                spec.service_id.as_ref().is_none_or(|id| registry.view().service(id.as_str()).is_some());
            let redefined = registry.view().check(id.as_str()).is_some();
            match self.admit(vec![spec], Origin::Api) {
                Ok(admitted) if owned && !redefined => {
                    let mut known = Put::default();
                    for (spec, kind) in admitted {
                        registry.put_check(spec, kind, Origin::Api, now, &mut known);
                    }
                }
                Ok(_) => put.ops.push(Op::RemoveCheck(key)),
                Err(error) => tracing::warn!(check = %id, %error, "a saved check is not run"),
            }
        }
    }

    fn owners_exist(&self, checks: &[(CheckSpec, CheckKind)], services: &[Admitted]) -> Result<(), Error> {
        let snapshot = self.snapshot();
        for id in checks.iter().filter_map(|(spec, _)| spec.service_id.as_ref()) {
            let defined = services.iter().any(|(service, _)| service.id.folded() == id.folded());
            if !defined && snapshot.service(id.as_str()).is_none() {
                return Err(Error::UnknownService(id.clone()));
            }
        }
        Ok(())
    }

    /// What kinds of checks these are, if all of them can be run here.
    fn admit(&self, checks: Vec<CheckSpec>, origin: Origin) -> Result<Vec<(CheckSpec, CheckKind)>, Error> {
        checks.into_iter().map(|spec| self.admit_one(&spec, origin).map(|kind| (spec, kind))).collect()
    }

    fn admit_one(&self, spec: &CheckSpec, origin: Origin) -> Result<CheckKind, Error> {
        let id = spec.id.clone();
        let kind = spec.kind().map_err(|reason| Error::InvalidCheck { id: id.clone(), reason })?;
        match (kind, origin, self.config.scripts) {
            (CheckKind::Docker, ..) => Err(Error::DockerUnsupported(id)),
            (CheckKind::Script, _, ScriptPolicy::Anyone) => Ok(kind),
            (CheckKind::Script, Origin::File, ScriptPolicy::Files) => Ok(kind),
            (CheckKind::Script, Origin::File, _) => Err(Error::ScriptsDisabled),
            (CheckKind::Script, Origin::Api, _) => Err(Error::RemoteScriptsDisabled),
            _ => Ok(kind),
        }
    }

    /// Puts a service for somebody who waits for it: durable, and offered to the catalog, when this returns.
    pub(crate) async fn put_service(
        &self,
        instance: ServiceInstance,
        checks: Vec<CheckSpec>,
        others: Others,
    ) -> Result<(), Error> {
        let checks = self.admit(checks, Origin::Api)?;
        let slot = self.store.reserve().await?;
        let key = Key::Service(instance.id.folded());
        let (changed, saving) = self.change(|registry, now| {
            let put = registry.put_service(&instance, &checks, (Origin::Api, others), now);
            (put.changed, slot.submit(put.ops))
        });
        self.finish(key, changed, saving).await
    }

    pub(crate) async fn put_check(&self, spec: CheckSpec) -> Result<(), Error> {
        let kind = self.admit_one(&spec, Origin::Api)?;
        let slot = self.store.reserve().await?;
        let key = Key::Check(spec.id.folded());
        let owner = spec.service_id.clone();
        let (changed, saving) = self.change(|registry, now| {
            if let Some(owner) = owner.filter(|owner| registry.view().service(owner.as_str()).is_none()) {
                return Err(Error::UnknownService(owner));
            }
            let mut put = Put::default();
            registry.put_check(spec, kind, Origin::Api, now, &mut put);
            Ok((put.changed, slot.submit(put.ops)))
        })?;
        self.finish(key, changed, saving).await
    }

    pub(crate) async fn remove_service(&self, id: &InstanceId) -> Result<(), Error> {
        let slot = self.store.reserve().await?;
        let key = id.folded();
        let saving = self.change(|registry, now| {
            let mut ops = Vec::new();
            registry.remove_service(&key, &mut ops, now).then(|| slot.submit(ops))
        });
        let saving = saving.ok_or_else(|| Error::UnknownService(id.clone()))?;
        self.finish(Key::Service(key), true, saving).await
    }

    pub(crate) async fn remove_check(&self, id: &CheckId) -> Result<(), Error> {
        let slot = self.store.reserve().await?;
        let key = id.folded();
        let saving = self.change(|registry, now| {
            let mut ops = Vec::new();
            registry.remove_check(&key, &mut ops, now).then(|| slot.submit(ops))
        });
        let saving = saving.ok_or_else(|| Error::UnknownCheck(id.clone()))?;
        self.finish(Key::Check(key), true, saving).await
    }

    /// Waits for the disk and for the catalog together. Only the disk can fail it; what it did not take is
    /// written again later, or when the same is asked for again.
    async fn finish(&self, key: Key, changed: bool, saving: Saving) -> Result<(), Error> {
        let told = async {
            let keys = if changed { BTreeSet::from([key.clone()]) } else { BTreeSet::new() };
            if let Err(error) = self.push(keys).await {
                tracing::warn!(%error, "failed to sync remote state");
            }
        };
        let (saved, ()) = tokio::join!(saving.wait(), told);
        if saved.is_err() {
            self.change(|registry, _| registry.mark_unsaved([key]));
        }
        saved
    }

    /// Writes again what the disk did not take.
    pub(crate) async fn save_again(&self) {
        let Ok(slot) = self.store.reserve().await else { return };
        let (keys, saving) = self.change(|registry, _| {
            let keys = registry.take_unsaved();
            let ops = keys.iter().flat_map(|key| registry.saved_form(key)).collect();
            (keys, slot.submit(ops))
        });
        if !keys.is_empty() && saving.wait().await.is_err() {
            self.change(|registry, _| registry.mark_unsaved(keys));
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let snapshot = self.snapshot();
        let count =
            |wanted: &dyn Fn(CheckKind) -> bool| snapshot.checks().filter(|check| wanted(check.kind)).count();
        Stats {
            services: snapshot.services().len(),
            checks: snapshot.checks().len(),
            check_ttls: count(&|kind| kind == CheckKind::Ttl),
            check_monitors: count(&CheckKind::probes),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            syncs_failed: self.counters.syncs_failed.load(Ordering::Relaxed),
        }
    }
}

/// Removes what came from files and is in them no longer.
fn forget_files(
    registry: &mut Registry,
    services: &[Admitted],
    checks: &[(CheckSpec, CheckKind)],
    ops: &mut Vec<Op>,
    now: Timestamp,
) {
    let kept: BTreeSet<Folded> = services.iter().map(|(service, _)| service.id.folded()).collect();
    let old = registry.view().services().filter(|service| service.origin == Origin::File);
    let gone: Vec<Folded> =
        old.map(|old| old.instance.id.folded()).filter(|key| !kept.contains(key)).collect();
    for key in gone {
        registry.remove_service(&key, ops, now);
        registry.mark([Key::Service(key)]);
    }
    let of_services = services.iter().flat_map(|(_, checks)| checks);
    let kept: BTreeSet<Folded> = of_services.chain(checks).map(|(spec, _)| spec.id.folded()).collect();
    let old = registry.view().checks().filter(|check| check.origin == Origin::File);
    let gone: Vec<Folded> = old.map(|old| old.spec.id.folded()).filter(|key| !kept.contains(key)).collect();
    for key in gone {
        registry.remove_check(&key, ops, now);
        registry.mark([Key::Check(key)]);
    }
}
