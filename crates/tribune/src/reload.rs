//! Reading the configuration again while the node runs: what changes at once, and what needs a restart.

use std::sync::Arc;

use tracing::{info, warn};

use crate::config::Refused;
use crate::daemon::{StartError, dns_config};
use crate::host::Node;
use crate::membership;
use crate::settings::Settings;

/// Why the configuration was not taken over. The node goes on with the old one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has mistakes.
    #[error("the configuration was not taken over, the old one stays in force:\n{0}")]
    Refused(#[from] Refused),
    /// It cannot work.
    #[error("the configuration was not taken over, the old one stays in force: {0}")]
    Unusable(#[from] StartError),
    /// Its services and checks were not accepted.
    #[error("the services and checks of the configuration were not taken over: {0}")]
    Definitions(#[from] tribune_local::Error),
    /// Its certificates cannot be used.
    #[error("the certificates were not taken over, the old ones stay in force: {0}")]
    Tls(#[from] tribune_net::TlsError),
    /// The node ends.
    #[error("the agent is stopping")]
    Stopping,
}

impl Node {
    /// Reads all sources again and applies what can be applied.
    pub(crate) async fn reload(&self) -> Result<(), Error> {
        let _one_at_a_time = self.reloading.acquire().await.map_err(|_| Error::Stopping)?;
        let Some(sources) = &self.controls.sources else { return Ok(()) };
        let sources = sources.clone();
        // Folders of files may be on a slow disk, and hold much.
        let reading = tokio::task::spawn_blocking(move || {
            let (config, warnings) = sources.read()?;
            let (read, more) = Settings::resolve(&config)?;
            Ok::<_, Error>((read, warnings, more))
        });
        let (read, warnings, more) = reading.await.map_err(|_| Error::Stopping)??;
        for remark in warnings.iter().chain(&more) {
            warn!(place = %remark.place, "{}", remark.text);
        }
        let old = self.settings.load_full();
        let dns = dns_config(&read)?;
        for key in unchanging(&old, &read) {
            warn!(key, "this key was changed; restart the agent to apply it");
        }
        // First what can fail: otherwise a second attempt would find the rest taken over and half of it not applied.
        self.controls.security.reload(&read.tls)?;
        let new = Arc::new(merged(&old, read));
        self.local.reload(new.definitions.clone()).await?;
        self.settings.store(new.clone());
        self.controls.dns.replace(dns);
        self.controls.log.set_level(new.logging.level);
        if old.http != new.http || old.leasing != new.leasing {
            self.open_door();
        }
        if old.identity.meta != new.identity.meta {
            let record = membership::node(&new, self.id());
            if let Err(error) = self.local.update_node(record).await {
                warn!(%error, "the node's metadata could not be written to the catalog yet");
            }
        }
        info!(
            services = new.definitions.services.len(),
            checks = new.definitions.checks.len(),
            "configuration reloaded: log level, services, checks, node_meta, DNS and HTTP answers, metrics filter"
        );
        Ok(())
    }
}

/// The new settings as far as they can change at run time, the old ones in everything else.
fn merged(old: &Settings, new: Settings) -> Settings {
    let mut merged = old.clone();
    merged.identity.meta = new.identity.meta;
    merged.http = new.http;
    merged.dns = new.dns;
    merged.leasing = new.leasing;
    if old.tls.changes_files_only(&new.tls) {
        merged.tls = new.tls;
    }
    merged.telemetry = new.telemetry;
    merged.logging.level = new.logging.level;
    merged.definitions = new.definitions;
    merged.leaving = new.leaving;
    merged
}

/// Keys that were changed although only a start applies them.
fn unchanging(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let pairs = [
        ("node_name", old.identity.name != new.identity.name),
        ("node_id", old.identity.id != new.identity.id),
        ("datacenter", old.datacenter != new.datacenter),
        ("data_dir", old.data_dir != new.data_dir),
        ("addresses and ports", old.network != new.network),
        (
            "limits.http_max_conns_per_client",
            old.http.connections_per_client_max != new.http.connections_per_client_max,
        ),
        ("how it takes part: server, joining, bootstrap, encrypt", old.cluster != new.cluster),
        ("what becomes encrypted and who must show a certificate", !old.tls.changes_files_only(&new.tls)),
        ("autopilot", old.autopilot != new.autopilot),
        ("primary_datacenter", old.primary_datacenter != new.primary_datacenter),
        ("check settings", old.checks != new.checks),
        ("alerts", old.alerts != new.alerts),
        ("raft settings", old.raft != new.raft),
        (
            "log_json and log_file",
            old.logging.form != new.logging.form || old.logging.file != new.logging.file,
        ),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
