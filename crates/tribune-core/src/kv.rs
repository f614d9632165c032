//! The key/value store as plain data: keys, values, entries, and the changes that can be asked for.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

use crate::ids::Index;
use crate::session::SessionId;

/// Longest key in bytes. Keys are paths that people read, far below this; the bound keeps what one key costs the
/// index of prefixes small.
pub const KV_KEY_BYTES_MAX: usize = 4096;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It is the empty string, which stands for the whole store.
    #[error("a key must not be empty")]
    Empty,
    /// It is longer than [`KV_KEY_BYTES_MAX`].
    #[error("a key of {0} bytes is longer than {KV_KEY_BYTES_MAX} bytes")]
    TooLong(usize),
}

/// A key, exactly as it was written: never folded, cut or cleaned. Keys are ordered byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr")]
pub struct KvKey(SmolStr);

impl KvKey {
    /// Validates a key.
    pub fn new(text: impl Into<SmolStr>) -> Result<Self, InvalidKey> {
        let text = text.into();
        match text.len() {
            0 => Err(InvalidKey::Empty),
            length if length > KV_KEY_BYTES_MAX => Err(InvalidKey::TooLong(length)),
            _ => Ok(Self(text)),
        }
    }

    /// The key as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the keys under a prefix begin, which may be no key itself.
    pub(crate) fn bound(prefix: &str) -> Self {
        Self(prefix.into())
    }
}

impl TryFrom<SmolStr> for KvKey {
    type Error = InvalidKey;

    fn try_from(text: SmolStr) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

impl fmt::Display for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value: bytes that nobody looks into, shared by all who hold them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(Arc<[u8]>);

impl Blob {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Blob {
    /// Values may be secret and long: a log shows how long they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(bytes.into())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(bytes.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// The key.
    pub key: KvKey,
    /// The value.
    pub value: Blob,
    /// A number that belongs to whoever uses the key.
    pub flags: u64,
    /// How often the key was locked. A plain write sets it back.
    pub lock_index: u64,
    /// The session that holds the key, if one does.
    pub session: Option<SessionId>,
}

/// A change to one key or to all keys under a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvChange {
    /// Writes a value.
    Put(KvPut),
    /// Removes a key, held or not.
    Delete {
        /// The key.
        key: KvKey,
        /// Only when it last changed at this index, or is not there.
        only_at: Option<Index>,
    },
    /// Removes every key that starts with this text; the empty one starts all keys.
    DeleteTree(SmolStr),
}

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvPut {
    /// The key.
    pub key: KvKey,
    /// The new value.
    pub value: Blob,
    /// The new flags.
    pub flags: u64,
    /// Under which condition, and what becomes of the lock.
    pub mode: PutMode,
}

/// Under which condition a value is written, and what becomes of the lock on its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutMode {
    /// Always; whoever holds the key goes on holding it.
    Always,
    /// Only when the key last changed at this index; 0: only when it is not there.
    OnlyAt(Index),
    /// Only when this session holds the key already, or can have it now.
    Acquire(SessionId),
    /// Only when this session holds the key, which it then lets go.
    Release(SessionId),
}

/// Why a change of a key was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvRefusal {
    /// The key has changed since the index that was named.
    StaleIndex,
    /// Another session holds the key.
    Held,
    /// The session that held the key ended a moment ago; its delay has not passed.
    Delayed,
    /// The session that wants to let go of the key does not hold it.
    NotHeld,
    /// There is no such session.
    NoSession(SessionId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_as_they_are() {
        for text in ["a", "/", "a//b", " a ", "Ä/../x\n"] {
            assert_eq!(KvKey::new(text).unwrap().as_str(), text);
        }
        assert_eq!(KvKey::new(""), Err(InvalidKey::Empty));
        assert_eq!(KvKey::new("x".repeat(4097)), Err(InvalidKey::TooLong(4097)));
    }

    #[test]
    fn values_travel_as_bytes() {
        let value = Blob::from(&[0, 255, 7][..]);
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        assert_eq!(bytes, [0xc4, 3, 0, 255, 7]);
        assert_eq!(rmp_serde::from_slice::<Blob>(&bytes).unwrap(), value);
        assert_eq!(rmp_serde::from_slice::<Blob>(&[0x92, 1, 2]).unwrap().as_bytes(), [1, 2]);
    }
}
