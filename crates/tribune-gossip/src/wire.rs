//! What is said in exchanges: requests and their answers, as they are encoded inside a sealed frame.

use serde::{Deserialize, Serialize};

use crate::event::UserEvent;
use crate::member::{Facts, Key, Peer};

/// Most members in one exchange, and in a pool.
pub(crate) const MEMBERS_MAX: usize = 16_384;

/// A question to another member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The full state, for the full state.
    Sync(Box<SyncRequest>),
    /// Is this member alive there? With the incarnation that is suspected, to which it then objects.
    Ping { target: Key, suspected: Option<u16> },
    /// Facts that are newer here than there.
    Tell { facts: Vec<Facts>, events: Vec<UserEvent> },
    /// The facts of these members.
    Fetch { keys: Vec<Key> },
    /// A challenge for a change of the keyring.
    Challenge,
    /// An operation on the keyring.
    Keyring { challenge: u128, operation: KeyringOperation },
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The state, as far as it differs.
    Sync(Box<SyncAnswer>),
    /// This member is alive here.
    Pong { peer: Peer },
    /// Here are facts.
    Facts { facts: Vec<Facts> },
    /// It was noted.
    Noted,
    /// For one keyring operation.
    Challenge(u128),
    /// What the keyring holds afterwards.
    Keyring(Result<KeyringState, String>),
    /// It was not accepted.
    Refused(String),
}

/// Why the full state is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    Join,
    Periodic,
    Reconnect,
}

/// One side's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SyncRequest {
    pub(crate) purpose: Purpose,
    pub(crate) from: Peer,
    pub(crate) facts: Facts,
    /// All members known, without the sender.
    pub(crate) records: Vec<Record>,
    pub(crate) lamport: u64,
    /// Keys of the events known.
    pub(crate) events: Vec<u64>,
}

/// The other side's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SyncAnswer {
    pub(crate) from: Peer,
    pub(crate) facts: Facts,
    /// The members that it knows otherwise than the request said.
    pub(crate) records: Vec<Record>,
    /// Facts that were older in the request.
    pub(crate) told: Vec<Facts>,
    /// Members whose facts were newer in the request.
    pub(crate) wanted: Vec<Key>,
    pub(crate) lamport: u64,
    /// Events that the request did not have.
    pub(crate) events: Vec<UserEvent>,
    /// Keys of events that only the request had.
    pub(crate) events_wanted: Vec<u64>,
    /// The keyring, when the request was written with a key that is no longer the primary one.
    pub(crate) keyring: Option<Vec<String>>,
}

/// What one side knows of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) peer: Peer,
    pub(crate) incarnation: u16,
    pub(crate) life: Life,
    /// Version of its facts; 0 when they are not known.
    pub(crate) version: u64,
    /// Seconds since it is failed or left.
    pub(crate) seconds: u32,
}

/// How a member is, in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    Alive,
    Suspect,
    Failed,
    Left,
}

impl Life {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Left)
    }
}

/// What is done to a keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyringOperation {
    List,
    Install(String),
    Use(String),
    Remove(String),
}

/// What a keyring holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyringState {
    /// The primary key first.
    pub(crate) keys: Vec<String>,
}

/// What is spread beside the state of members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum News {
    /// A member's facts.
    Facts(Facts),
    /// A member's facts are newer than this; they are too large for a packet.
    Newer { key: Key, version: u64 },
    /// A user event.
    Event(UserEvent),
    /// A failed member will not come back.
    Dismissed { peer: Peer, prune: bool },
}

/// Encodes anything of the wire. Nothing of it can fail to be encoded; an empty message is refused everywhere.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap_or_default()
}

/// Decodes anything of the wire; all bytes must belong to it.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_too_many_or_too_few_are_no_message() {
        let bytes = encode(&Request::Challenge);
        assert_eq!(decode::<Request>(&bytes), Some(Request::Challenge));
        assert_eq!(decode::<Request>(&[bytes.as_slice(), &[0]].concat()), None);
        assert_eq!(decode::<Request>(&bytes[..bytes.len() - 1]), None);
        let ping = encode(&Request::Ping { target: Key::of("a", "1"), suspected: Some(3) });
        for length in 0..ping.len() {
            assert_eq!(decode::<Request>(&ping[..length]), None);
        }
    }
}
