//! Tells people once when a check turns critical and once when it recovers. Off unless configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tribune_core::{Status, Timestamp};

use crate::snapshot::LocalCheck;

/// How many alerts wait for the receiver. A host that dies takes all its checks with it: enough for a thousand
/// of them; beyond that a receiver that does not keep up loses alerts rather than memory being lost.
const QUEUE_MAX: usize = 1024;

/// How long a receiver may take. Alerts are sent one at a time and never again, so a dead receiver costs one
/// connection attempt per this time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Who is told of a check that turns critical, or back.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AlertConfig {
    /// Gets one POST with a JSON object per transition. A secret: whoever knows it may write there.
    pub webhook: Option<String>,
    /// Writes one line to the log per transition.
    pub log: bool,
}

impl fmt::Debug for AlertConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let webhook = self.webhook.as_ref().map(|_| "(hidden)");
        f.debug_struct("AlertConfig").field("webhook", &webhook).field("log", &self.log).finish()
    }
}

/// One transition, as the webhook gets it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alert {
    node: String,
    check_id: String,
    check_name: String,
    service_id: Option<String>,
    from: String,
    to: String,
    output: Arc<str>,
    at_ms: u64,
}

/// Where transitions are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    log: bool,
    queue: Option<mpsc::Sender<Alert>>,
}

/// The task that calls the webhook.
pub(crate) struct Courier {
    url: String,
    client: reqwest::Client,
    queue: mpsc::Receiver<Alert>,
}

impl Alerts {
    pub(crate) fn new(config: &AlertConfig, client: reqwest::Client) -> (Self, Option<Courier>) {
        let (queue, courier) = match config.webhook.clone() {
            Some(url) => {
                let (sender, receiver) = mpsc::channel(QUEUE_MAX);
                (Some(sender), Some(Courier { url, client, queue: receiver }))
            }
            None => (None, None),
        };
        (Self { log: config.log, queue }, courier)
    }

    /// Takes note of a transition; only those to critical and back are told.
    pub(crate) fn transition(&self, node: &str, check: &LocalCheck, from: Status, now: Timestamp) {
        if (from == Status::Critical) == (check.status == Status::Critical) {
            return;
        }
        let service_id = check.spec.service_id.as_ref().map(|id| id.as_str().to_owned());
        if self.log {
            let (check_id, status, output) = (&check.spec.id, check.status, &check.output);
            info!(check = %check_id, service = ?service_id, %from, to = %status, %output, "check alert");
        }
        let Some(queue) = &self.queue else { return };
        let alert = Alert {
            node: node.to_owned(),
            check_id: check.spec.id.as_str().to_owned(),
            check_name: check.spec.name.to_string(),
            service_id,
            from: from.to_string(),
            to: check.status.to_string(),
            output: check.output.clone(),
            at_ms: now.0,
        };
        if queue.try_send(alert).is_err() {
            metrics::counter!("agent.alerts.dropped").increment(1);
            warn!(check = %check.spec.id, "the webhook does not keep up, an alert is lost");
        }
    }
}

impl Courier {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let alert = tokio::select! {
                () = stop.cancelled() => return,
                alert = self.queue.recv() => alert,
            };
            let Some(alert) = alert else { return };
            self.deliver(&alert).await;
        }
    }

    async fn deliver(&self, alert: &Alert) {
        let sent = self.client.post(&self.url).timeout(TIMEOUT).json(alert).send().await;
        if let Err(error) = sent.and_then(reqwest::Response::error_for_status) {
            metrics::counter!("agent.alerts.failed").increment(1);
            let error = error.without_url();
            warn!(check = alert.check_id, %error, "the webhook did not take an alert");
        }
    }
}
