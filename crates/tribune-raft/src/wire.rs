//! What servers say to each other. Every call is an [`Envelope`] that names the cluster, the sender and the
//! receiver; every answer is a value of ours, never a type of the consensus library, in the form of
//! [`crate::codec`].

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admin::{AdminError, Progress};
use crate::codec::{self, CodecError, EntryRecord, PositionRecord, VoteRecord};
use crate::config::ServerInfo;
use crate::transport::BODY_BYTES_MAX;
use crate::types::{Proposal, Reply};

/// A call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    /// Which cluster the sender belongs to; empty while it belongs to none.
    pub(crate) cluster: String,
    /// Of the sender.
    pub(crate) datacenter: String,
    /// The sender's id.
    pub(crate) from: String,
    /// The id of the server it is meant for: an address may have been taken over by another one.
    pub(crate) to: String,
    /// What is asked.
    pub(crate) payload: T,
}

/// `Append` and `Heartbeat`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: VoteRecord,
    pub(crate) previous: Option<PositionRecord>,
    pub(crate) entries: Vec<EntryRecord>,
    pub(crate) commit: Option<PositionRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Appended {
    All,
    UpTo(Option<PositionRecord>),
    Conflict,
    HigherVote(VoteRecord),
}

/// `Vote` and `PreVote`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Candidacy {
    pub(crate) vote: VoteRecord,
    pub(crate) last: Option<PositionRecord>,
    /// The leader itself asked for this election.
    pub(crate) transfer: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) vote: VoteRecord,
    pub(crate) granted: bool,
    pub(crate) last: Option<PositionRecord>,
}

/// `Transfer`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) vote: VoteRecord,
    pub(crate) to: u64,
    pub(crate) last: Option<PositionRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Taken {
    Yes,
    VoteChanged(VoteRecord),
    Behind(Option<PositionRecord>),
}

/// `Snapshot`: one piece. Pieces come in order; the last one is answered when the snapshot is installed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) vote: VoteRecord,
    /// Where the snapshot stands; with the sender it tells one snapshot from another.
    pub(crate) position: Option<PositionRecord>,
    /// Bytes before this piece.
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    pub(crate) last: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PieceTaken {
    /// The receiver has this many bytes and wants those behind them.
    Continue(u64),
    /// The snapshot is installed; the receiver's vote.
    Installed(VoteRecord),
    /// The receiver follows a later leader.
    HigherVote(VoteRecord),
    /// The snapshot was complete, but is not what a snapshot should be. It must be sent anew.
    Damaged(String),
}

/// Longest proposal: what sends it on to a server adds less than the difference.
pub(crate) const PROPOSAL_BYTES_MAX: usize = BODY_BYTES_MAX - (64 << 10);

/// `Propose`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Propose {
    pub(crate) proposal: Proposal,
    /// How long the proposer still waits.
    pub(crate) hold_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Proposed {
    Done { index: u64, reply: Reply },
    NotLeader,
    Busy,
    TooLong,
    DiskFull { directory: String, available: u64, needed: u64 },
    Unknown(String),
}

/// `ReadIndex`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ReadIndex {
    /// Whether a majority must confirm that the leader still leads; its lease suffices otherwise.
    pub(crate) confirmed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ReadFrom {
    Index(u64),
    NotLeader,
}

/// `Ask`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) question: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answered {
    Answer(Bytes),
    Failed(String),
    NotLeader,
}

/// `Admin`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    AddLearner(ServerInfo),
    Promote(String),
    Demote(String),
    Remove(String),
    Transfer(Option<String>),
    Progress,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ordered {
    Done,
    Progress(Vec<Progress>),
    Failed(AdminError),
}

/// `Hashes`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AskHashes;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hashes {
    /// Of which kind they are; only the same kind compares.
    pub(crate) form: String,
    /// Index and hash, newest last.
    pub(crate) hashes: Vec<(u64, String)>,
}

/// A value as the body of a call or an answer.
pub(crate) fn body<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    body_within(value, BODY_BYTES_MAX)
}

/// The same, if it is no longer than this.
pub(crate) fn body_within<T: Serialize>(value: &T, bytes_max: usize) -> Result<Bytes, CodecError> {
    codec::encode_within(value, bytes_max).map(Into::into)
}

/// The value in a body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(CodecError::Content(format!(
            "{} bytes are more than the {BODY_BYTES_MAX} one call may hold",
            body.len()
        )));
    }
    codec::decode(body)
}
