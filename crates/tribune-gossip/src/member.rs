//! Who a member is: the small identity that travels in every packet, the facts about it that travel seldom, and
//! what the handle shows of both.
//!
//! An identity is spread with every change of a member's state, so it holds only a key, an address and a
//! generation. Name, id and tags are *facts*: they have a version of their own, are spread as a broadcast and are
//! fetched over a stream by whoever hears of a newer version. A member is shown once its facts are known.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tribune_core::{Datacenter, Folded};

/// Longest name and id, in bytes; the core refuses longer names.
const TEXT_BYTES_MAX: usize = 512;

/// Most tags of one member. Servers carry about twenty.
const TAGS_MAX: usize = 64;

/// Most bytes in all tags of one member together.
const TAG_BYTES_MAX: usize = 4096;

/// A member of a pool as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name: the node's, or `node.dc` in the pool of all servers.
    pub name: String,
    /// The node's id, a UUID.
    pub id: String,
    /// The datacenter it belongs to.
    pub datacenter: Datacenter,
    /// Where it listens for this pool.
    pub address: SocketAddr,
    /// What it says of itself.
    pub tags: Arc<BTreeMap<String, String>>,
    /// How it is.
    pub status: Status,
    /// Since when it is so.
    pub since: Instant,
    /// The smoothed round-trip time to it, once measured.
    pub round_trip: Option<Duration>,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It answers.
    Alive,
    /// It answers and said that it is about to leave.
    Leaving,
    /// It said good-bye, or somebody said that it will not come back.
    Left,
    /// It stopped answering without a word.
    Failed,
}

impl Status {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a member is told apart by: the first eight bytes of a hash of its name and its id together.
///
/// Two nodes with one name, or with one id, are therefore two members and never outbid one another inside the
/// protocol; that they must not both live is decided when one of them joins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key([u8; 8]);

impl Key {
    pub(crate) fn of(name: &str, id: &str) -> Self {
        let text = format!("{}\n{id}", Folded::new(name));
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&digest.as_ref()[..8]);
        Self(key)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The identity: who, where, and which life of it. A later life of the same key replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    /// Milliseconds since 1970 at which the process started, and one more for each time that it had to return
    /// because others held it for dead.
    pub(crate) generation: u64,
}

impl foca::Identity for Peer {
    type Addr = Key;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.saturating_add(1), ..*self })
    }

    fn addr(&self) -> Key {
        self.key
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.address) > (adversary.generation, adversary.address)
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) datacenter: Datacenter,
    pub(crate) tags: Arc<BTreeMap<String, String>>,
    /// It is about to leave, or has left.
    pub(crate) leaving: bool,
    /// Starts at the generation and rises with each change.
    pub(crate) version: u64,
}

impl Facts {
    pub(crate) fn key(&self) -> Key {
        Key::of(&self.name, &self.id)
    }

    /// Whether the facts are of a size that a member may have.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_texts(&self.name, &self.id).and_then(|()| check_tags(&self.tags))
    }
}

/// Whether a member may be called so.
pub(crate) fn check_texts(name: &str, id: &str) -> Result<(), String> {
    let fits = |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
    if fits(name) && fits(id) {
        Ok(())
    } else {
        Err(format!("name and id of a member must have 1 to {TEXT_BYTES_MAX} bytes"))
    }
}

/// Whether a member may say so much.
pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = tags.iter().map(|(name, value)| name.len() + value.len()).sum();
    if tags.len() <= TAGS_MAX && bytes <= TAG_BYTES_MAX {
        Ok(())
    } else {
        Err(format!("a member has at most {TAGS_MAX} tags of {TAG_BYTES_MAX} bytes together"))
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity;

    use super::*;

    #[test]
    fn a_key_is_of_name_and_id_and_not_of_case() {
        assert_eq!(Key::of("Web", "1"), Key::of("web", "1"));
        assert_ne!(Key::of("web", "1"), Key::of("web", "2"));
        assert_ne!(Key::of("web", "1"), Key::of("web2", "1"));
    }

    #[test]
    fn a_later_life_wins_whatever_its_address() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let old = Peer { key: Key::of("a", "1"), address: address(9), generation: 5 };
        let new = Peer { address: address(1), generation: 6, ..old };
        assert!(new.win_addr_conflict(&old) && !old.win_addr_conflict(&new));
        let renewed = old.renew().unwrap();
        assert!(renewed.win_addr_conflict(&old));
    }

    #[test]
    fn an_identity_is_small() {
        let peer = Peer {
            key: Key::of("a", "1"),
            address: SocketAddr::from(([10, 0, 0, 1], 8301)),
            generation: 1_800_000_000_000,
        };
        assert!(postcard::to_stdvec(&peer).unwrap().len() <= 24);
    }
}
