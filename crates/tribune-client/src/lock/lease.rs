//! The session behind a lock, renewed in time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::error::Error;
use crate::session::NewSession;

/// Between two tries when a renewal failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A session that lives as long as it is kept.
#[derive(Debug)]
pub(super) struct Lease {
    id: String,
    ttl: Duration,
    /// When the last renewal that succeeded was sent: the servers' clock started later.
    renewed: Instant,
    next: Instant,
}

impl Lease {
    pub(super) async fn begin(client: &Client, session: &NewSession, ttl: Duration) -> Result<Self, Error> {
        let renewed = Instant::now();
        let id = client.create_session(session).await?;
        Ok(Self { id, ttl, renewed, next: renewed + ttl / 2 })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Renews at half its time, for as long as it is polled. Ends with the reason when the session has ended or
    /// may have ended without anybody knowing.
    pub(super) async fn keep(&mut self, client: &Client) -> String {
        loop {
            let end = self.renewed + self.ttl;
            sleep_until(self.next.min(end)).await;
            let begun = Instant::now();
            if begun >= end {
                return "the session could not be renewed within its time to live".to_owned();
            }
            let renewal = tokio::time::timeout_at(end, client.renew_session(&self.id)).await;
            match renewal {
                Ok(Ok(true)) => {
                    self.renewed = begun;
                    self.next = begun + self.ttl / 2;
                }
                Ok(Ok(false)) => return "the session has ended".to_owned(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a session could not be renewed, trying again");
                    self.next = Instant::now() + RETRY_PAUSE;
                }
                Err(_) => self.next = end,
            }
        }
    }
}
