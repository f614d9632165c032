//! A lock for several holders: each waits with a key of its own, held by its session, and one more key lists who
//! is in. That list is changed by compare-and-set, and whoever changes it strikes out those whose session is gone.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::{KEY, LockError, SEMAPHORE_FLAGS, lost};
use crate::client::Client;
use crate::kv::{self, Delete, KvPair, Put};

/// The keys of a semaphore.
#[derive(Debug)]
pub(super) struct Semaphore {
    /// With its slash.
    prefix: String,
    holders_max: usize,
}

/// What the list of holders looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Holders {
    limit: usize,
    holders: BTreeMap<String, bool>,
}

/// The list as it stands, and the index for changing it.
#[derive(Debug, Default)]
struct Listed {
    holders: Holders,
    modify_index: u64,
}

impl Semaphore {
    pub(super) fn new(prefix: &str, holders_max: usize) -> Self {
        Self { prefix: format!("{prefix}/"), holders_max }
    }

    fn list_key(&self) -> String {
        format!("{}{KEY}", self.prefix)
    }

    /// Queues up, then follows all keys and tries to get on the list whenever there is room.
    pub(super) async fn acquire(&self, client: &Client, session: &str) -> Result<(), LockError> {
        let contender = format!("{}{session}", self.prefix);
        let put = Put::new(&contender, Vec::new()).flags(SEMAPHORE_FLAGS).acquire(session);
        if !client.put(&put).await? {
            return Err(LockError::Conflict(contender));
        }
        let mut changes = client.watch(kv::tree(&self.prefix).consistent());
        while let Some(change) = changes.next().await {
            let mut listed = self.read(&change?.value)?;
            if listed.holders.holders.contains_key(session) {
                return Ok(());
            }
            if listed.holders.holders.len() < self.holders_max {
                listed.holders.holders.insert(session.to_owned(), true);
                if self.write(client, &listed).await? {
                    return Ok(());
                }
            }
        }
        Err(LockError::NotHeld)
    }

    /// The list without those whose session has ended.
    fn read(&self, pairs: &[KvPair]) -> Result<Listed, LockError> {
        let key = self.list_key();
        let Some(pair) = pairs.iter().find(|pair| pair.key == key) else {
            let holders = Holders { limit: self.holders_max, ..Holders::default() };
            return Ok(Listed { holders, modify_index: 0 });
        };
        if pair.flags != SEMAPHORE_FLAGS {
            return Err(LockError::Conflict(key));
        }
        let mut holders: Holders =
            serde_json::from_slice(&pair.value).map_err(|_| LockError::Conflict(key.clone()))?;
        if holders.limit != self.holders_max {
            return Err(LockError::Limit { found: holders.limit, wanted: self.holders_max });
        }
        let lives = |session: &str| pairs.iter().any(|pair| pair.session == session && pair.key != key);
        holders.holders.retain(|session, _| lives(session));
        Ok(Listed { holders, modify_index: pair.modify_index })
    }

    async fn write(&self, client: &Client, listed: &Listed) -> Result<bool, LockError> {
        let json = serde_json::to_vec(&listed.holders).unwrap_or_default();
        let put = Put::new(&self.list_key(), json).flags(SEMAPHORE_FLAGS).cas(listed.modify_index);
        Ok(client.put(&put).await?)
    }

    /// Follows all keys until the session is on the list no more, or it cannot be seen any longer.
    pub(super) async fn lost(&self, client: &Client, session: &str, retries: u32) -> String {
        let changes = client.watch(kv::tree(&self.prefix).consistent());
        let holds = |pairs: &Vec<KvPair>| {
            self.read(pairs).is_ok_and(|listed| listed.holders.holders.contains_key(session))
        };
        lost(changes, retries, holds, "this holder is no longer on the list of holders").await
    }

    /// Leaves the list, then the queue.
    pub(super) async fn release(&self, client: &Client, session: &str) -> Result<(), LockError> {
        loop {
            let pairs = client.ask(&kv::tree(&self.prefix).consistent()).await?.value;
            let mut listed = self.read(&pairs)?;
            if listed.holders.holders.remove(session).is_none() {
                self.withdraw(client, session).await?;
                return Err(LockError::NotHeld);
            }
            if self.write(client, &listed).await? {
                return self.withdraw(client, session).await;
            }
        }
    }

    /// Leaves the queue.
    pub(super) async fn withdraw(&self, client: &Client, session: &str) -> Result<(), LockError> {
        client.delete(&Delete::key(&format!("{}{session}", self.prefix))).await?;
        Ok(())
    }

    /// Removes the list when nobody is on it.
    pub(super) async fn clean_up(&self, client: &Client) -> Result<(), LockError> {
        let pairs = client.ask(&kv::tree(&self.prefix).consistent()).await?.value;
        let listed = self.read(&pairs)?;
        if listed.modify_index > 0 && listed.holders.holders.is_empty() {
            // Whoever was faster needs the list.
            client.delete(&Delete::key(&self.list_key()).cas(listed.modify_index)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, session: &str, value: &str) -> KvPair {
        let (key, session, value) = (key.to_owned(), session.to_owned(), value.as_bytes().to_vec());
        KvPair { key, session, value, flags: SEMAPHORE_FLAGS, modify_index: 7, ..KvPair::default() }
    }

    #[test]
    fn holders_whose_session_has_ended_are_struck_out() {
        let semaphore = Semaphore::new("s", 2);
        let list = pair("s/.lock", "", r#"{"Limit":2,"Holders":{"one":true,"two":true}}"#);
        let pairs = [list, pair("s/one", "one", ""), pair("s/two", "", "")];
        let listed = semaphore.read(&pairs).unwrap();
        assert_eq!(listed.holders.holders.keys().collect::<Vec<_>>(), ["one"]);
        assert_eq!(listed.modify_index, 7);
        assert_eq!(semaphore.read(&[]).unwrap().modify_index, 0);
    }

    #[test]
    fn others_use_of_the_key_is_not_touched() {
        let semaphore = Semaphore::new("s", 2);
        let read = |pair: KvPair| semaphore.read(&[pair]).unwrap_err();
        let foreign = KvPair { flags: 0, ..pair("s/.lock", "", "{}") };
        assert_eq!(read(foreign), LockError::Conflict("s/.lock".into()));
        assert_eq!(read(pair("s/.lock", "", "text")), LockError::Conflict("s/.lock".into()));
        let three = pair("s/.lock", "", r#"{"Limit":3,"Holders":{}}"#);
        assert_eq!(read(three), LockError::Limit { found: 3, wanted: 2 });
    }
}
