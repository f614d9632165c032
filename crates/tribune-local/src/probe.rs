//! One look at whatever a check is about. One file per kind; the limits that hold for all of them are here.

pub(crate) mod alias;
mod grpc;
mod h2ping;
mod host;
mod http;
mod os_service;
mod script;
mod tcp;
mod tls;
mod udp;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tribune_core::check::{Observation, captured};
use tribune_core::{CheckDefinition, CheckKind, CheckSpec, Status};

use crate::catalog::Catalog;
use crate::error::Error;
use crate::snapshot::LocalCheck;
use tls::Tls;

/// How many probes have a connection open at once: each takes a file descriptor, and even if all of them hang
/// for their ten seconds a hundred others a second are still made.
const CONNECTIONS_MAX: usize = 1024;

/// How many programs run at once for checks. Beyond it they would rather load the host than tell its state.
const PROGRAMS_MAX: usize = 64;

/// Time limit of a probe that names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Time limit of a program that names none.
const PROGRAM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Room for the probe's own words around the output it quotes.
const OWN_WORDS_BYTES: usize = 512;

/// What one look gave.
pub(crate) struct Finding {
    pub(crate) status: Status,
    pub(crate) output: String,
}

/// Makes probes, within limits.
pub(crate) struct Prober {
    http: http::Clients,
    tls: Tls,
    catalog: Arc<dyn Catalog>,
    output_bytes_max: usize,
    connections: Semaphore,
    programs: Semaphore,
}

impl Finding {
    fn passing(output: impl Into<String>) -> Self {
        Self { status: Status::Passing, output: output.into() }
    }

    fn warning(output: impl Into<String>) -> Self {
        Self { status: Status::Warning, output: output.into() }
    }

    fn critical(output: impl Into<String>) -> Self {
        Self { status: Status::Critical, output: output.into() }
    }
}

impl Prober {
    pub(crate) fn new(
        catalog: Arc<dyn Catalog>,
        output_bytes_max: usize,
        extra_roots: &[rustls::pki_types::CertificateDer<'static>],
    ) -> Result<Self, Error> {
        let tls = Tls::new(extra_roots).map_err(Error::Probes)?;
        Ok(Self {
            http: http::Clients::new(&tls)?,
            tls,
            catalog,
            output_bytes_max,
            connections: Semaphore::new(CONNECTIONS_MAX),
            programs: Semaphore::new(PROGRAMS_MAX),
        })
    }

    /// A client for calls to the webhook.
    pub(crate) fn webhook_client(&self) -> reqwest::Client {
        self.http.following().clone()
    }

    /// Probes once. Always comes back: within the time limit of the check, or a little over the limit of the
    /// watch for aliases of other nodes.
    pub(crate) async fn probe(&self, check: &LocalCheck) -> Observation {
        let spec = &*check.spec;
        if check.kind == CheckKind::Alias {
            let finding = alias::watch(&*self.catalog, check).await;
            return self.observed(spec, finding, Duration::ZERO);
        }
        let program = matches!(check.kind, CheckKind::Script | CheckKind::OsService);
        let limit = if program { &self.programs } else { &self.connections };
        let _place = limit.acquire().await;
        let default = if program { PROGRAM_TIMEOUT_DEFAULT } else { TIMEOUT_DEFAULT };
        let time = spec.definition.timeout.filter(|time| !time.is_zero()).unwrap_or(default);
        let start = Instant::now();
        let finding = match timeout(time, self.look(spec, check.kind, time)).await {
            Ok(finding) => finding,
            Err(_) if program => Finding::critical(format!("Timed out ({time:?}) running check")),
            Err(_) => Finding::critical(format!("no answer within {time:?}")),
        };
        self.observed(spec, finding, start.elapsed())
    }

    async fn look(&self, spec: &CheckSpec, kind: CheckKind, time: Duration) -> Finding {
        let definition: &CheckDefinition = &spec.definition;
        let bytes_max = spec.output_bytes_max(self.output_bytes_max);
        match kind {
            CheckKind::Http => self.http.probe(definition, bytes_max).await,
            CheckKind::Tcp => tcp::probe(definition, &self.tls).await,
            CheckKind::Udp => udp::probe(definition, time).await,
            CheckKind::Grpc => grpc::probe(definition, &self.tls).await,
            CheckKind::H2ping => h2ping::probe(definition, &self.tls).await,
            CheckKind::Script => script::probe(&definition.script_args, bytes_max).await,
            CheckKind::OsService => os_service::probe(&definition.os_service).await,
            CheckKind::Host => match &spec.host {
                Some(host) => host::probe(host).await,
                None => Finding::critical("the check names no resource of this host"),
            },
            CheckKind::Ttl | CheckKind::Alias | CheckKind::Docker | CheckKind::Maintenance => {
                Finding::critical(format!("a check of kind {} cannot be probed", kind.as_str()))
            }
        }
    }

    fn observed(&self, spec: &CheckSpec, finding: Finding, took: Duration) -> Observation {
        let bytes_max = spec.output_bytes_max(self.output_bytes_max) + OWN_WORDS_BYTES;
        let output = captured(&finding.output, bytes_max);
        Observation { status: finding.status, output: Arc::from(&*output), took }
    }
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
