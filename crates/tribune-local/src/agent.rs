//! The handle through which others register, renew, look and wait; and the owner of what runs behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tribune_core::check::{NODE_MAINTENANCE, SERVICE_MAINTENANCE_PREFIX, captured};
use tribune_core::{
    CheckDefinition, CheckId, CheckKind, CheckSpec, InstanceId, Node, ServiceInstance, Status,
};

use crate::alert::{Alerts, Courier};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, Definitions};
use crate::error::Error;
use crate::ledger::{Ledger, Stats};
use crate::probe::Prober;
use crate::registry::Others;
use crate::snapshot::{LocalService, Snapshot};
use crate::store::{Store, Writer};
use crate::{runner, sync};

/// This node's agent. Cheap to clone; all clones are the same agent.
#[derive(Clone)]
pub struct LocalAgent {
    ledger: Arc<Ledger>,
}

/// Owns the tasks of an agent. Dropping it ends them at once; [`Running::stop`] ends them in order.
#[must_use = "the agent runs for as long as this is kept"]
pub struct Running {
    ledger: Arc<Ledger>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    writer: Option<Writer>,
}

/// Holds back the sync with the catalog for as long as it is kept, so that several changes go out as one.
#[must_use = "the sync goes on as soon as this is dropped"]
pub struct Pause {
    ledger: Arc<Ledger>,
}

impl LocalAgent {
    /// Reads the agent's list, adds what the configuration files define, and starts probing and syncing.
    pub async fn start(
        config: Config,
        catalog: Arc<dyn Catalog>,
        definitions: Definitions,
    ) -> Result<(Self, Running), Error> {
        let prober = Prober::new(catalog.clone(), config.output_bytes_max, &config.extra_roots)?;
        let prober = Arc::new(prober);
        let at = config.store.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&at)).await;
        let (store, writer, list) = opened.map_err(|error| Error::Store(error.to_string()))??;
        let (alerts, courier) = Alerts::new(&config.alerts, prober.webhook_client());
        let ledger = Arc::new(Ledger::new(config, catalog, store, alerts));
        ledger.restore(list, definitions).await?;
        let running = Running::start(ledger.clone(), prober, courier, writer);
        Ok((Self { ledger }, running))
    }

    /// Registers a service with its checks, or replaces the one of the same id. Returns when it is on disk and
    /// the catalog was asked to take it; a catalog that does not is told again later. The same registration
    /// again does nothing. Checks that exist keep their status; those that are not named stay unless
    /// `replace_existing_checks`.
    pub async fn register_service(
        &self,
        instance: ServiceInstance,
        checks: Vec<CheckSpec>,
        replace_existing_checks: bool,
    ) -> Result<(), Error> {
        let others = if replace_existing_checks { Others::Remove } else { Others::Keep };
        self.ledger.put_service(instance, checks, others).await
    }

    /// Removes a service with all its checks.
    pub async fn deregister_service(&self, id: &InstanceId) -> Result<(), Error> {
        self.ledger.remove_service(id).await
    }

    /// Registers a check of the node, or of one of its services.
    pub async fn register_check(&self, spec: CheckSpec) -> Result<(), Error> {
        self.ledger.put_check(spec).await
    }

    /// Removes a check.
    pub async fn deregister_check(&self, id: &CheckId) -> Result<(), Error> {
        self.ledger.remove_check(id).await
    }

    /// Renews a TTL check. A new status is on disk when this returns; a mere renewal is written down in time.
    pub async fn update_ttl(&self, id: &CheckId, status: Status, output: &str) -> Result<(), Error> {
        let key = id.folded();
        let changed = self.ledger.change(|registry, now| {
            let Some(check) = registry.view().check(id.as_str()) else {
                return Err(Error::UnknownCheck(id.clone()));
            };
            if check.kind != CheckKind::Ttl {
                return Err(Error::NotTtl(id.clone()));
            }
            let bytes_max = check.spec.output_bytes_max(self.ledger.config.output_bytes_max);
            Ok(registry.renew(&key, status, Arc::from(&*captured(output, bytes_max)), now))
        })?;
        if !changed {
            return Ok(());
        }
        let slot = self.ledger.store.reserve().await?;
        let saving = self.ledger.change(|registry, _| slot.submit(registry.save_states(Some(&key))));
        saving.wait().await
    }

    /// Puts a service into maintenance, which keeps clients away from it, or ends that.
    pub async fn service_maintenance(
        &self,
        id: &InstanceId,
        enable: bool,
        reason: &str,
    ) -> Result<(), Error> {
        if self.services().service(id.as_str()).is_none() {
            return Err(Error::UnknownService(id.clone()));
        }
        let check = CheckId::new(format!("{SERVICE_MAINTENANCE_PREFIX}{id}"))
            .map_err(|_| Error::UnknownService(id.clone()))?;
        self.maintenance(check, Some(id), enable, reason).await
    }

    /// Puts the whole node into maintenance, or ends that.
    pub async fn node_maintenance(&self, enable: bool, reason: &str) -> Result<(), Error> {
        let Ok(check) = CheckId::new(NODE_MAINTENANCE) else { return Ok(()) };
        self.maintenance(check, None, enable, reason).await
    }

    async fn maintenance(
        &self,
        id: CheckId,
        service: Option<&InstanceId>,
        enable: bool,
        reason: &str,
    ) -> Result<(), Error> {
        let on = self.checks().check(id.as_str()).is_some();
        if on == enable {
            return Ok(());
        }
        if !enable {
            return self.ledger.remove_check(&id).await;
        }
        let (name, what) = match service {
            Some(_) => ("Service Maintenance Mode", "service"),
            None => ("Node Maintenance Mode", "node"),
        };
        let mut spec = CheckSpec::new(id, name, CheckDefinition::default());
        spec.service_id = service.cloned();
        spec.notes = match reason {
            "" => smol_str::format_smolstr!(
                "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
            ),
            reason => reason.into(),
        };
        self.ledger.put_check(spec).await
    }

    /// What runs here now. Services and checks of one snapshot belong together.
    pub fn services(&self) -> Arc<Snapshot> {
        self.ledger.snapshot()
    }

    /// The same snapshot as [`Self::services`], for those who look at checks.
    pub fn checks(&self) -> Arc<Snapshot> {
        self.ledger.snapshot()
    }

    /// Waits until a service is another one than `seen` (or appears, or goes), at most until `until`. Gives it as
    /// it stands then. Changes of its checks do not count.
    pub async fn service_changed(
        &self,
        id: &InstanceId,
        seen: Option<&Arc<LocalService>>,
        until: Instant,
    ) -> Option<Arc<LocalService>> {
        let mut changes = self.ledger.watch_services();
        loop {
            changes.mark_unchanged();
            let current = self.services().service(id.as_str()).cloned();
            if current.as_ref() != seen {
                return current;
            }
            let waited = timeout_at(until, changes.changed()).await;
            if !matches!(waited, Ok(Ok(()))) {
                return self.services().service(id.as_str()).cloned();
            }
        }
    }

    /// Takes over what the configuration files say now. Checks keep their status; what the files no longer name
    /// goes, what others registered stays.
    pub async fn reload(&self, definitions: Definitions) -> Result<(), Error> {
        let _pause = self.pause();
        self.ledger.reload(definitions).await
    }

    /// Replaces the node's own record, for instance when its metadata was changed.
    pub async fn update_node(&self, node: Node) -> Result<(), CatalogError> {
        self.ledger.node.store(Arc::new(node));
        self.sync_now().await
    }

    /// Compares the whole list with the catalog now.
    pub async fn sync_now(&self) -> Result<(), CatalogError> {
        self.ledger.sync_all().await
    }

    /// Holds back the sync with the catalog.
    pub fn pause(&self) -> Pause {
        self.ledger.pauses.fetch_add(1, Ordering::AcqRel);
        Pause { ledger: self.ledger.clone() }
    }

    /// Figures for operators.
    pub fn stats(&self) -> Stats {
        self.ledger.stats()
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if self.ledger.pauses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ledger.sync_wanted.notify_one();
        }
    }
}

impl Running {
    fn start(ledger: Arc<Ledger>, prober: Arc<Prober>, courier: Option<Courier>, writer: Writer) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(runner::run(ledger.clone(), prober, stop.clone()));
        let (synced, stopping) = (ledger.clone(), stop.clone());
        tasks.spawn(async move { sync::run(&synced, stopping).await });
        if let Some(courier) = courier {
            tasks.spawn(courier.run(stop.clone()));
        }
        Self { ledger, tasks, stop, writer: Some(writer) }
    }

    /// Becomes ready when a task of the agent ends by itself, which none does unless it is broken.
    pub async fn broken(&mut self) -> Option<String> {
        let ended: Option<Result<(), tokio::task::JoinError>> = self.tasks.join_next().await;
        ended.map(|ended| ended.err().map_or_else(|| "a task of the agent ended".into(), |e| e.to_string()))
    }

    /// Stops probing and syncing, writes down what is left, and closes the list.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        if let Some(writer) = self.writer.take() {
            self.ledger.store.close(writer).await;
        }
    }
}

impl std::fmt::Debug for LocalAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAgent").field("stats", &self.stats()).finish()
    }
}
