//! Sessions as plain data: who holds locks, for how long, and what ends with them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::{CheckId, Index, NodeName};
use crate::kv::KvKey;

/// Longest time for which a key stays free after the session that held it has ended.
pub const LOCK_DELAY_MAX: Duration = Duration::from_secs(60);

/// A text that is no session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is a UUID: 36 hexadecimal digits and dashes")]
pub struct InvalidSessionId;

/// The id of a session: a UUID in lower case, drawn by whoever proposes the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr")]
pub struct SessionId(SmolStr);

impl SessionId {
    /// Reads an id in any letter case.
    pub fn new(text: &str) -> Result<Self, InvalidSessionId> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() != 36 || !text.bytes().enumerate().all(fits) {
            return Err(InvalidSessionId);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Before every id, and none itself.
    pub(crate) fn bound() -> Self {
        Self(SmolStr::default())
    }

    /// The id in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<SmolStr> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: SmolStr) -> Result<Self, InvalidSessionId> {
        Self::new(&text)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What becomes of the keys that a session holds when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behavior {
    /// They are let go.
    #[default]
    Release,
    /// They are removed.
    Delete,
}

/// A contract between a client and the datacenter: it lasts while its node and checks are well and, where it has
/// a time to live, while it is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// For people.
    pub name: SmolStr,
    /// The node it belongs to.
    pub node: NodeName,
    /// How long the keys it held stay free when it ends; beyond [`LOCK_DELAY_MAX`] that long.
    pub lock_delay: Duration,
    /// What becomes of its keys.
    pub behavior: Behavior,
    /// Time within which it must be renewed; `None` when it need not be.
    pub ttl: Option<Duration>,
    /// The same as it was written, for people.
    pub ttl_text: SmolStr,
    /// Checks of its node that must not turn critical; `None` when none were named.
    pub node_checks: Option<Box<[CheckId]>>,
    /// Checks of instances on its node that must not turn critical; `None` when none were named.
    pub service_checks: Option<Box<[CheckId]>>,
}

impl Session {
    /// All checks that it depends on; one may come twice.
    pub fn checks(&self) -> impl Iterator<Item = &CheckId> {
        self.node_checks.iter().flatten().chain(self.service_checks.iter().flatten())
    }
}

/// A change to the sessions, or a note on how far their time has run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionChange {
    /// Begins a session.
    Create(Session),
    /// Ends a session, if it is there.
    Destroy(SessionId),
    /// The leader of this term measures the time of all leases from now on, each anew at its full length. What
    /// earlier leaders found expired does not count any more.
    KeepLeases {
        /// The term.
        term: u64,
    },
    /// Ends sessions that were not renewed in time.
    Expire {
        /// The term of the leader that measured the time.
        term: u64,
        /// The sessions.
        sessions: Vec<SessionId>,
    },
    /// The delays of keys whose holders ended at these indexes have passed.
    EndDelays(Vec<(KvKey, Index)>),
}

/// Why a change to the sessions was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRefusal {
    /// The node is not in the catalog.
    NoNode(NodeName),
    /// A check is not on the node.
    NoCheck(CheckId),
    /// A check is critical already.
    CriticalCheck(CheckId),
    /// Another session has the id.
    IdTaken(SessionId),
    /// A leader of a later term measures the time.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_in_any_case() {
        let id = SessionId::new("C0477FCC-d9d7-9872-067c-d1cbf7cf237c").unwrap();
        assert_eq!(id.as_str(), "c0477fcc-d9d7-9872-067c-d1cbf7cf237c");
        for text in ["", "x", "c0477fcc-d9d7-9872-067c-d1cbf7cf237", "c0477fccxd9d7-9872-067c-d1cbf7cf237c"] {
            assert_eq!(SessionId::new(text), Err(InvalidSessionId), "{text}");
        }
    }
}
