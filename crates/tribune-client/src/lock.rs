//! Locks among programs: one holder, or a few. The same keys, flags and contents as Consul's own tools use, so
//! that both keep each other out.
//!
//! A lock stands on a session with a time to live that is renewed while the lock is waited for and held. Nothing
//! runs in the background: [`Lock::acquire`] and [`Lock::lost`] renew while they are polled, so a holder polls
//! [`Lock::lost`] beside its work, and a holder that hangs loses the lock.
//!
//! ```no_run
//! # async fn run(client: tribune_client::Client) -> Result<(), tribune_client::lock::LockError> {
//! use tribune_client::lock::{Lock, LockSettings};
//!
//! let mut lock = Lock::prepare(client, LockSettings::new("service/backup")).await?;
//! lock.acquire().await?;
//! tokio::select! {
//!     () = do_the_work() => lock.release().await?,
//!     why = lock.lost() => eprintln!("stop at once: {why}"),
//! }
//! # Ok(())
//! # }
//! # async fn do_the_work() {}
//! ```

mod lease;
mod mutex;
mod semaphore;

use std::time::Duration;

use futures::StreamExt;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;
use crate::session::NewSession;
use crate::watch::Watch;

use lease::Lease;
use mutex::Mutex;
use semaphore::Semaphore;

/// Marks the key of a lock.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// Marks the keys of a semaphore.
pub const SEMAPHORE_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// Name of the key below the prefix.
const KEY: &str = ".lock";

/// Time before it is tried again to look after a lock, or to have a key that nobody holds and that cannot be had: its
/// last holder failed lately, and the delay after that is seen by nobody.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a lock is to be.
#[derive(Debug, Clone)]
pub struct LockSettings {
    /// Below this the lock keeps its keys.
    pub prefix: String,
    /// How many may hold it at once; with 1 it is a lock, with more a semaphore.
    pub holders_max: usize,
    /// Name of the session, for people.
    pub name: String,
    /// Time to live of the session: for so long a holder that vanishes keeps the others waiting.
    pub ttl: Duration,
    /// How often in a row, a second apart, looking after a held lock may fail before it counts as lost.
    pub monitor_retries: u32,
}

impl LockSettings {
    /// A lock for one holder.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            holders_max: 1,
            name: "Consul API Lock".to_owned(),
            ttl: Duration::from_secs(15),
            monitor_retries: 3,
        }
    }
}

/// What can go wrong with a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The agent could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] Error),
    /// Somebody uses the key for something else. Choose another prefix.
    #[error("existing key does not match lock use: {0}")]
    Conflict(String),
    /// Others use the semaphore with another number of holders.
    #[error("semaphore limit conflict (lock: {found}, local: {wanted})")]
    Limit {
        /// The number that is agreed upon.
        found: usize,
        /// The number that was asked for.
        wanted: usize,
    },
    /// The session has ended while the lock was waited for, or could not be renewed. Begin again.
    #[error("{0}; begin again")]
    SessionEnded(String),
    /// The lock was no longer held when it was to be let go.
    #[error("lock not held")]
    NotHeld,
}

/// Follows what shows the holder until the lock is not held any more, or that cannot be seen any longer. Gives the reason,
/// which is `gone` in the first case.
async fn lost<T>(mut changes: Watch<T>, retries: u32, holds: impl Fn(&T) -> bool, gone: &str) -> String
where
    T: DeserializeOwned + Send + 'static,
{
    let mut failures = 0;
    while let Some(change) = changes.next().await {
        match change {
            Ok(answer) if holds(&answer.value) => failures = 0,
            Ok(_) => return gone.to_owned(),
            Err(error) if failures >= retries => return format!("the lock cannot be watched: {error}"),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
    "the lock cannot be watched".to_owned()
}

/// A lock: waited for, held, or let go.
#[derive(Debug)]
pub struct Lock {
    client: Client,
    lease: Lease,
    kind: Kind,
    monitor_retries: u32,
}

#[derive(Debug)]
enum Kind {
    One(Mutex),
    Several(Semaphore),
}

impl Lock {
    /// Begins the session that the lock will be held by. Ends with [`Lock::release`] or [`Lock::abandon`]; a lock
    /// that is only dropped lets its session run out.
    pub async fn prepare(client: Client, settings: LockSettings) -> Result<Self, LockError> {
        let session = NewSession {
            name: settings.name,
            ttl: Some(settings.ttl),
            // Those who wait for a semaphore have a key each, of which nothing is to stay.
            deletes_keys: settings.holders_max > 1,
            ..NewSession::default()
        };
        let lease = Lease::begin(&client, &session, settings.ttl).await?;
        let prefix = settings.prefix.trim_end_matches('/');
        let kind = match settings.holders_max {
            0 | 1 => Kind::One(Mutex::new(format!("{prefix}/{KEY}"))),
            several => Kind::Several(Semaphore::new(prefix, several)),
        };
        Ok(Self { client, lease, kind, monitor_retries: settings.monitor_retries })
    }

    /// The session that holds the lock.
    pub fn session(&self) -> &str {
        self.lease.id()
    }

    /// Waits until the lock is held.
    pub async fn acquire(&mut self) -> Result<(), LockError> {
        let session = self.lease.id().to_owned();
        let acquired = async {
            match &self.kind {
                Kind::One(mutex) => mutex.acquire(&self.client, &session).await,
                Kind::Several(semaphore) => semaphore.acquire(&self.client, &session).await,
            }
        };
        tokio::select! {
            acquired = acquired => acquired,
            why = self.lease.keep(&self.client) => Err(LockError::SessionEnded(why)),
        }
    }

    /// Keeps the lock, and says why as soon as it is lost. May be dropped and called again.
    pub async fn lost(&mut self) -> String {
        let session = self.lease.id().to_owned();
        let lost = async {
            match &self.kind {
                Kind::One(mutex) => mutex.lost(&self.client, &session, self.monitor_retries).await,
                Kind::Several(semaphore) => {
                    semaphore.lost(&self.client, &session, self.monitor_retries).await
                }
            }
        };
        tokio::select! {
            why = lost => why,
            why = self.lease.keep(&self.client) => why,
        }
    }

    /// Lets go of the lock, so that others can have it at once, and ends the session. Keys that nobody needs any
    /// more are removed.
    pub async fn release(self) -> Result<(), LockError> {
        let session = self.lease.id();
        let released = match &self.kind {
            Kind::One(mutex) => mutex.release(&self.client, session).await,
            Kind::Several(semaphore) => semaphore.release(&self.client, session).await,
        };
        let ended = self.client.destroy_session(session).await;
        released?;
        ended?;
        match &self.kind {
            Kind::One(mutex) => mutex.clean_up(&self.client).await,
            Kind::Several(semaphore) => semaphore.clean_up(&self.client).await,
        }
    }

    /// Gives up waiting.
    pub async fn abandon(self) -> Result<(), LockError> {
        if let Kind::Several(semaphore) = &self.kind {
            semaphore.withdraw(&self.client, self.lease.id()).await?;
        }
        Ok(self.client.destroy_session(self.lease.id()).await?)
    }
}
