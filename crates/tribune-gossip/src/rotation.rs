//! Rotation of the keys over all members: install everywhere, use everywhere, remove everywhere, each step only
//! when the one before is complete.
//!
//! A member that is away during a rotation is given the new keys when it comes back, as long as its old key is
//! still in the keyrings. An operation needs a challenge from the member that carries it out, which is good once
//! and for a short time: a copy of an old packet changes no keyring.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::carrier::Address;
use crate::keyring::{KeyError, Keyring, fingerprint};
use crate::member::{Member, Status};
use crate::pool::{Pool, Shared};
use crate::wire::{Answer, KeyringOperation, KeyringState, Request};

/// Challenges that are open at a time.
const CHALLENGES_MAX: usize = 64;

/// How long a challenge is good.
const CHALLENGE_TIME: Duration = Duration::from_secs(30);

/// Members asked at a time.
const MEMBERS_AT_ONCE: usize = 32;

/// Longest text of a member that is passed on.
const MESSAGE_CHARS_MAX: usize = 256;

/// What came of an operation on all members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyringReport {
    /// How many members were asked, this one included.
    pub nodes: usize,
    /// How many carried it out.
    pub answered: usize,
    /// How many members have each key (base64) afterwards.
    pub keys: BTreeMap<String, usize>,
    /// How many members write with each key.
    pub primary_keys: BTreeMap<String, usize>,
    /// What went wrong, by member.
    pub messages: BTreeMap<String, String>,
}

/// Why an operation was not carried out, or not by all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The pool is not encrypted.
    #[error("keyring is empty (encryption not enabled)")]
    NotEncrypted,
    /// The key cannot be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was not begun, because afterwards some members could not speak with others.
    #[error("{reason}")]
    Refused {
        /// What stands against it.
        reason: String,
        /// Who has which keys.
        report: KeyringReport,
    },
    /// Some members did not carry it out.
    #[error("{failed}/{} nodes reported failure; repeat the step when they answer", .report.nodes)]
    Partial {
        /// How many did not.
        failed: usize,
        /// Who, and why.
        report: KeyringReport,
    },
}

/// What one member said.
type Reply = (String, Result<KeyringState, String>);

/// Challenges given out.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    open: Vec<(u128, Instant)>,
}

impl Challenges {
    fn give(&mut self, challenge: u128, now: Instant) {
        self.open.retain(|(_, until)| *until > now);
        if self.open.len() >= CHALLENGES_MAX {
            self.open.remove(0);
        }
        self.open.push((challenge, now + CHALLENGE_TIME));
    }

    fn redeem(&mut self, challenge: u128, now: Instant) -> bool {
        let found = self.open.iter().position(|(open, until)| *open == challenge && *until > now);
        found.map(|at| self.open.remove(at)).is_some()
    }
}

impl Pool {
    /// Whether this pool is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.shared.speaker.seal.keyring().is_some()
    }

    /// Which keys the members have.
    pub async fn keyring_list(&self) -> Result<KeyringReport, KeyringError> {
        self.keyring_all(KeyringOperation::List).await.and_then(complete)
    }

    /// Gives all members a key to read with. Nothing is written with it yet.
    pub async fn keyring_install(&self, key: &str) -> Result<KeyringReport, KeyringError> {
        Keyring::new(key)?;
        info!(key = %fingerprint(key), "installing a gossip key on all members");
        self.keyring_all(KeyringOperation::Install(key.trim().to_owned())).await.and_then(complete)
    }

    /// Makes all members write with a key. Refused while a member does not have it.
    pub async fn keyring_use(&self, key: &str) -> Result<KeyringReport, KeyringError> {
        Keyring::new(key)?;
        let report = self.keyring_all(KeyringOperation::List).await?;
        let have = report.keys.get(key.trim()).copied().unwrap_or(0);
        if have < report.nodes {
            let reason = format!(
                "the key is installed on {have}/{} members; the others could not read what is written with it: install \
                 it first, and force-leave members that do not answer",
                report.nodes
            );
            return Err(KeyringError::Refused { reason, report });
        }
        info!(key = %fingerprint(key), "changing the primary gossip key on all members");
        self.keyring_all(KeyringOperation::Use(key.trim().to_owned())).await.and_then(complete)
    }

    /// Takes a key from all members. Refused while a member writes with it.
    pub async fn keyring_remove(&self, key: &str) -> Result<KeyringReport, KeyringError> {
        Keyring::new(key)?;
        let report = self.keyring_all(KeyringOperation::List).await?;
        let used = report.primary_keys.get(key.trim()).copied().unwrap_or(0);
        if used > 0 {
            let reason = format!("{}: {used}/{} members write with it", KeyError::Primary, report.nodes);
            return Err(KeyringError::Refused { reason, report });
        }
        info!(key = %fingerprint(key), "removing a gossip key from all members");
        self.keyring_all(KeyringOperation::Remove(key.trim().to_owned())).await.and_then(complete)
    }

    /// Carries out one operation on all living members.
    async fn keyring_all(&self, operation: KeyringOperation) -> Result<KeyringReport, KeyringError> {
        if !self.is_encrypted() {
            return Err(KeyringError::NotEncrypted);
        }
        let mut report = KeyringReport::default();
        report.add(&self.shared.name, self.shared.change_keyring(operation.clone()).await);
        let members = self.members();
        let there = |member: &&Member| {
            matches!(member.status, Status::Alive | Status::Leaving) && member.name != self.shared.name
        };
        let mut asked = JoinSet::new();
        for member in members.iter().filter(there) {
            if asked.len() >= MEMBERS_AT_ONCE {
                report.collect(asked.join_next().await);
            }
            let (pool, member, operation) = (self.clone(), member.clone(), operation.clone());
            asked.spawn(async move { (member.name.clone(), pool.keyring_one(&member, operation).await) });
        }
        while !asked.is_empty() {
            report.collect(asked.join_next().await);
        }
        Ok(report)
    }

    async fn keyring_one(
        &self,
        member: &Member,
        operation: KeyringOperation,
    ) -> Result<KeyringState, String> {
        let to = Address { socket: member.address, datacenter: Some(member.datacenter.clone()) };
        let (speaker, wait) = (&self.shared.speaker, self.shared.exchange_time);
        let Answer::Challenge(challenge) = speaker.ask(&to, &Request::Challenge, wait).await? else {
            return Err("no challenge was given".into());
        };
        match speaker.ask(&to, &Request::Keyring { challenge, operation }, wait).await? {
            Answer::Keyring(state) => state,
            _ => Err("the answer is to another question".into()),
        }
    }

    pub(crate) fn challenge(&self) -> Answer {
        let mut bytes = [0; 16];
        if SystemRandom::new().fill(&mut bytes).is_err() {
            return Answer::Refused("no random numbers".into());
        }
        let challenge = u128::from_be_bytes(bytes);
        self.shared.challenges.lock().give(challenge, Instant::now());
        Answer::Challenge(challenge)
    }

    /// Another member wants this one to change its keyring.
    pub(crate) async fn asked_keyring(
        &self,
        sealed: bool,
        challenge: u128,
        operation: KeyringOperation,
    ) -> Answer {
        if !sealed {
            return Answer::Refused("the keyring is only changed by members that have a key of it".into());
        }
        if !self.shared.challenges.lock().redeem(challenge, Instant::now()) {
            return Answer::Refused("the challenge was used or is too old".into());
        }
        Answer::Keyring(self.shared.change_keyring(operation).await)
    }
}

impl Shared {
    /// Changes this node's keyring, on disk first.
    async fn change_keyring(&self, operation: KeyringOperation) -> Result<KeyringState, String> {
        let _turn = self.keyring_change.lock().await;
        let keyring = self.speaker.seal.keyring().ok_or("encryption is not enabled here")?;
        let mut keyring = Keyring::clone(&keyring);
        let changed = match &operation {
            KeyringOperation::List => Ok(false),
            KeyringOperation::Install(key) => keyring.install(key),
            KeyringOperation::Use(key) => keyring.use_key(key).map(|()| true),
            KeyringOperation::Remove(key) => keyring.remove(key),
        };
        if changed.map_err(|error| error.to_string())? {
            self.keep(&keyring).await?;
            self.speaker.seal.set_keyring(keyring.clone());
        }
        Ok(KeyringState { keys: keyring.keys().map(str::to_owned).collect() })
    }

    async fn keep(&self, keyring: &Keyring) -> Result<(), String> {
        let Some(path) = self.keyring_file.clone() else { return Ok(()) };
        let keyring = keyring.clone();
        let written =
            tokio::task::spawn_blocking(move || keyring.save(&path).map_err(|error| error.to_string()));
        written.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// The others have rotated their keys while this node was away: it takes the new ones and writes with theirs.
    pub(crate) async fn adopt_keyring(&self, keys: &[String]) {
        let _turn = self.keyring_change.lock().await;
        let (Some(keyring), Some(primary)) = (self.speaker.seal.keyring(), keys.first()) else { return };
        let mut keyring = Keyring::clone(&keyring);
        let adopted = keys.iter().try_for_each(|key| keyring.install(key).map(drop));
        if let Err(error) = adopted.and_then(|()| keyring.use_key(primary)) {
            warn!(%error, "the others write with a gossip key that this agent cannot take");
            return;
        }
        info!(key = %fingerprint(primary), "the gossip keys were rotated while this agent was away; it took the new ones");
        if let Err(error) = self.keep(&keyring).await {
            warn!(%error, "the new gossip keys are not kept over a restart");
        }
        self.speaker.seal.set_keyring(keyring);
    }
}

impl KeyringReport {
    fn collect(&mut self, one: Option<Result<Reply, tokio::task::JoinError>>) {
        if let Some(Ok((name, state))) = one {
            self.add(&name, state);
        } else if one.is_some() {
            self.nodes += 1;
        }
    }

    fn add(&mut self, name: &str, state: Result<KeyringState, String>) {
        self.nodes += 1;
        match state {
            Ok(state) => {
                self.answered += 1;
                if let Some(primary) = state.keys.first() {
                    *self.primary_keys.entry(primary.clone()).or_default() += 1;
                }
                for key in state.keys {
                    *self.keys.entry(key).or_default() += 1;
                }
            }
            Err(message) => {
                let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
                self.messages.insert(name.to_owned(), message);
            }
        }
    }
}

fn complete(report: KeyringReport) -> Result<KeyringReport, KeyringError> {
    match report.nodes - report.answered {
        0 => Ok(report),
        failed => Err(KeyringError::Partial { failed, report }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_a_while() {
        let now = Instant::now();
        let mut challenges = Challenges::default();
        challenges.give(1, now);
        challenges.give(2, now);
        assert!(challenges.redeem(1, now));
        assert!(!challenges.redeem(1, now), "a copy");
        assert!(!challenges.redeem(2, now + CHALLENGE_TIME), "too late");
        assert!(!challenges.redeem(3, now), "never given");
    }

    #[test]
    fn challenges_are_bounded() {
        let now = Instant::now();
        let mut challenges = Challenges::default();
        for number in 0..1000 {
            challenges.give(number, now);
        }
        assert_eq!(challenges.open.len(), CHALLENGES_MAX);
        assert!(challenges.redeem(999, now));
    }
}
