//! The road between servers as this crate sees it. Whoever assembles the program builds it: this crate neither
//! binds nor dials.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::config::ServerInfo;

/// Longest body of a call or an answer, in bytes; what is longer is refused before it is decoded. Entries and
/// snapshots are cut to less. A single change is sent as a whole: one that would not fit is not taken into the log.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Carries calls to other servers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// One call to another server: `body` goes to the [`crate::Replica::serve`] of `server`, its answer comes
    /// back. `server` is what the membership says; its address may be an old one, and an implementor that knows
    /// a newer one for the id uses that. Must end at `deadline`.
    async fn call(
        &self,
        server: &ServerInfo,
        method: Method,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, TransportError>;
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// Why a call gave no answer, sorted by what is known of its effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The other server was not reached. The call was certainly not processed.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// The call was sent and no answer came. It may have been processed.
    #[error("no answer: {0}")]
    Lost(String),
    /// The other server refused the call without processing it: what `serve` answered there as an error.
    #[error("refused: {0}")]
    Refused(String),
}

/// What is asked of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Take entries into the log.
    Append,
    /// The leader's sign of life; small, frequent, and must not wait behind anything else.
    Heartbeat,
    /// Vote for a candidate.
    Vote,
    /// Would you vote for a candidate?
    PreVote,
    /// Take over leading.
    Transfer,
    /// A piece of a snapshot; large, must not hold up anything else.
    Snapshot,
    /// Write this through the log, asked of the leader.
    Propose,
    /// How far must a state have come to be as new as the leader's?
    ReadIndex,
    /// A question to the leader's service.
    Ask,
    /// A change of the membership, or a question about it, asked of the leader.
    Admin,
    /// The hashes of the states this server had.
    Hashes,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Append,
        Self::Heartbeat,
        Self::Vote,
        Self::PreVote,
        Self::Transfer,
        Self::Snapshot,
        Self::Propose,
        Self::ReadIndex,
        Self::Ask,
        Self::Admin,
        Self::Hashes,
    ];

    /// The name used in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Heartbeat => "heartbeat",
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::Transfer => "transfer",
            Self::Snapshot => "snapshot",
            Self::Propose => "propose",
            Self::ReadIndex => "read-index",
            Self::Ask => "ask",
            Self::Admin => "admin",
            Self::Hashes => "hashes",
        }
    }

    /// The method with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The road of a server that is alone: it leads nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoRoad;

#[async_trait]
impl Transport for NoRoad {
    async fn call(
        &self,
        server: &ServerInfo,
        _method: Method,
        _body: Bytes,
        _deadline: Instant,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable(format!("there is no road to server {}", server.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_name_of_its_own() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str()), Some(method));
        }
        assert_eq!(Method::parse("else"), None);
    }
}
