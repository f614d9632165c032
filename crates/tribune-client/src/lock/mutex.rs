//! A lock for one holder: one key, held by the holder's session.

use futures::StreamExt;

use super::{LOCK_FLAGS, LockError, RETRY_PAUSE, lost};
use crate::client::Client;
use crate::kv::{self, Delete, Found, KvPair, Put};

/// The key of a lock.
#[derive(Debug)]
pub(super) struct Mutex {
    key: String,
}

impl Mutex {
    pub(super) fn new(key: String) -> Self {
        Self { key }
    }

    /// Follows the key and tries to have it whenever nobody holds it.
    pub(super) async fn acquire(&self, client: &Client, session: &str) -> Result<(), LockError> {
        let mut changes = client.watch(kv::get(&self.key).consistent());
        let mut is_free = false;
        loop {
            let change = if is_free {
                // Free, and still not to be had: nothing will tell when that changes.
                match tokio::time::timeout(RETRY_PAUSE, changes.next()).await {
                    Ok(change) => change,
                    Err(_) => {
                        if self.try_acquire(client, session).await? {
                            return Ok(());
                        }
                        continue;
                    }
                }
            } else {
                changes.next().await
            };
            let Some(change) = change else { return Err(LockError::NotHeld) };
            let found = change?.value.0;
            self.refuse_foreign(found.as_ref())?;
            let held = found.as_ref().map_or("", |pair| &pair.session);
            if held == session {
                return Ok(());
            }
            is_free = held.is_empty();
            if is_free && self.try_acquire(client, session).await? {
                return Ok(());
            }
        }
    }

    async fn try_acquire(&self, client: &Client, session: &str) -> Result<bool, LockError> {
        let put = Put::new(&self.key, Vec::new()).flags(LOCK_FLAGS).acquire(session);
        Ok(client.put(&put).await?)
    }

    fn refuse_foreign(&self, found: Option<&KvPair>) -> Result<(), LockError> {
        match found {
            Some(pair) if pair.flags != LOCK_FLAGS => Err(LockError::Conflict(self.key.clone())),
            _ => Ok(()),
        }
    }

    /// Follows the key until the session holds it no more, or it cannot be seen any longer.
    pub(super) async fn lost(&self, client: &Client, session: &str, retries: u32) -> String {
        let changes = client.watch(kv::get(&self.key).consistent());
        let holds = |found: &Found| found.0.as_ref().is_some_and(|pair| pair.session == session);
        lost(changes, retries, holds, "another holds the lock, or nobody").await
    }

    pub(super) async fn release(&self, client: &Client, session: &str) -> Result<(), LockError> {
        let put = Put::new(&self.key, Vec::new()).flags(LOCK_FLAGS).release(session);
        if client.put(&put).await? { Ok(()) } else { Err(LockError::NotHeld) }
    }

    /// Removes the key unless somebody holds it by now.
    pub(super) async fn clean_up(&self, client: &Client) -> Result<(), LockError> {
        let found = client.ask(&kv::get(&self.key).consistent()).await?.value.0;
        if let Some(pair) = found.filter(|pair| pair.session.is_empty() && pair.flags == LOCK_FLAGS) {
            // Whoever was faster needs the key.
            client.delete(&Delete::key(&self.key).cas(pair.modify_index)).await?;
        }
        Ok(())
    }
}
