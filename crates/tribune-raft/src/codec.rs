//! How entries, votes and snapshot records are written: a version byte, a checksum, then MessagePack with named
//! fields of our own types.
//!
//! Fields may be added in both directions: a field that is not known is skipped, one that is missing takes its
//! default. A version byte or a kind of command that is not known is an error: skipping it would let servers
//! diverge.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use openraft::EntryPayload;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tribune_core::Command;

use crate::restore::Step;
use crate::types::{Entry, LogId, Membership, Proposal, ServerNode, StoredMembership, Vote, log_id};

/// The form of everything written today.
const VERSION: u8 = 1;

/// Version byte and checksum.
const HEADER_BYTES: usize = 5;

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("the record is cut off after {0} bytes")]
    Short(usize),
    #[error("it has form {0}, this version knows form {VERSION}")]
    Version(u8),
    #[error("its checksum does not fit its content")]
    Checksum,
    #[error("it is whole, but not understood: {0}")]
    Content(String),
    #[error("it cannot be written: {0}")]
    Encode(String),
    #[error("it is longer than {0} bytes")]
    Long(usize),
}

impl CodecError {
    /// Whether the bytes are as they were written, only by a version that knew more.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Content(_))
    }
}

/// Puts a value into an envelope.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_within(value, usize::MAX)
}

/// The same for a value that should be no longer than `bytes_max` in its envelope. One that is longer costs no more
/// work than one of that length.
pub(crate) fn encode_within<T: Serialize>(value: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = write_within(vec![0; HEADER_BYTES], value, bytes_max)?;
    bytes[0] = VERSION;
    let checksum = checksum(&bytes);
    bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// Looks whether a value is no longer than `bytes_max` in its envelope, without keeping what is written.
pub(crate) fn check_length<T: Serialize>(value: &T, bytes_max: usize) -> Result<(), CodecError> {
    write_within(io::sink(), value, bytes_max).map(drop)
}

fn write_within<T: Serialize, W: Write>(inner: W, value: &T, bytes_max: usize) -> Result<W, CodecError> {
    let mut out = Bounded { inner, left: bytes_max.saturating_sub(HEADER_BYTES), is_full: false };
    match rmp_serde::encode::write_named(&mut out, value) {
        Ok(()) => Ok(out.inner),
        Err(_) if out.is_full => Err(CodecError::Long(bytes_max)),
        Err(error) => Err(CodecError::Encode(error.to_string())),
    }
}

/// Takes so many bytes and no more.
struct Bounded<W> {
    inner: W,
    left: usize,
    is_full: bool,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.is_full = true;
            return Err(io::ErrorKind::WriteZero.into());
        };
        self.left = left;
        self.inner.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Takes a value out of its envelope.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let Some((header, content)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::Short(bytes.len()));
    };
    let [version, stored @ ..] = *header;
    if u32::from_le_bytes(stored) != checksum(bytes) {
        return Err(CodecError::Checksum);
    }
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    rmp_serde::from_slice(content).map_err(|error| CodecError::Content(error.to_string()))
}

/// Covers the version byte and the content.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[HEADER_BYTES..]);
    hasher.finalize()
}

/// A log entry on the disk and between servers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    term: u64,
    index: u64,
    payload: PayloadRecord,
}

#[derive(Debug, Serialize, Deserialize)]
enum PayloadRecord {
    Blank,
    Command(Arc<Command>),
    Members(MembersRecord),
    Restore(Arc<Step>),
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(Proposal::Command(command)) => PayloadRecord::Command(command.clone()),
            EntryPayload::Normal(Proposal::Restore(step)) => PayloadRecord::Restore(step.clone()),
            EntryPayload::Membership(membership) => PayloadRecord::Members(membership.into()),
        };
        let PositionRecord { term, index } = (&entry.log_id).into();
        Self { term, index, payload }
    }
}

impl EntryRecord {
    pub(crate) fn into_entry(self) -> Result<Entry, CodecError> {
        let payload = match self.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(command) => EntryPayload::Normal(Proposal::Command(command)),
            PayloadRecord::Members(members) => EntryPayload::Membership(members.try_into()?),
            PayloadRecord::Restore(step) => EntryPayload::Normal(Proposal::Restore(step)),
        };
        Ok(Entry { log_id: log_id(self.term, self.index), payload })
    }
}

/// Who belongs to the datacenter's agreement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MembersRecord {
    /// Sets of voters; two while the membership changes.
    voters: Vec<BTreeSet<u64>>,
    servers: BTreeMap<u64, ServerNode>,
}

impl From<&Membership> for MembersRecord {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            servers: membership.nodes().map(|(id, server)| (*id, server.clone())).collect(),
        }
    }
}

impl TryFrom<MembersRecord> for Membership {
    type Error = CodecError;

    fn try_from(record: MembersRecord) -> Result<Self, CodecError> {
        Membership::new(record.voters, record.servers).map_err(|error| CodecError::Content(error.to_string()))
    }
}

/// Where in the log something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PositionRecord {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<&LogId> for PositionRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.committed_leader_id().term, index: id.index }
    }
}

impl From<PositionRecord> for LogId {
    fn from(record: PositionRecord) -> Self {
        log_id(record.term, record.index)
    }
}

/// A membership and the entry that set it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredMembersRecord {
    position: Option<PositionRecord>,
    members: MembersRecord,
}

impl From<&StoredMembership> for StoredMembersRecord {
    fn from(stored: &StoredMembership) -> Self {
        Self { position: stored.log_id().as_ref().map(Into::into), members: stored.membership().into() }
    }
}

impl TryFrom<StoredMembersRecord> for StoredMembership {
    type Error = CodecError;

    fn try_from(record: StoredMembersRecord) -> Result<Self, CodecError> {
        Ok(StoredMembership::new(record.position.map(Into::into), record.members.try_into()?))
    }
}

/// A vote on the disk and between servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    pub(crate) term: u64,
    pub(crate) server: u64,
    pub(crate) committed: bool,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        let leader = vote.leader_id();
        Self { term: leader.term, server: leader.voted_for, committed: vote.is_committed() }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        match record.committed {
            true => Vote::new_committed(record.term, record.server),
            false => Vote::new(record.term, record.server),
        }
    }
}

pub(crate) fn encode_entry(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    encode(&EntryRecord::from(entry))
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    decode::<EntryRecord>(bytes)?.into_entry()
}

pub(crate) fn encode_vote(vote: &Vote) -> Result<Vec<u8>, CodecError> {
    encode(&VoteRecord::from(vote))
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    decode::<VoteRecord>(bytes).map(Into::into)
}

pub(crate) fn encode_position(id: &LogId) -> Result<Vec<u8>, CodecError> {
    encode(&PositionRecord::from(id))
}

pub(crate) fn decode_position(bytes: &[u8]) -> Result<LogId, CodecError> {
    decode::<PositionRecord>(bytes).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        name: String,
        #[serde(default)]
        port: u16,
    }

    #[test]
    fn fields_may_be_added_in_both_directions() {
        let new = encode(&New { name: "web".into(), port: 80 }).unwrap();
        assert_eq!(decode::<Old>(&new), Ok(Old { name: "web".into() }));
        let old = encode(&Old { name: "web".into() }).unwrap();
        assert_eq!(decode::<New>(&old), Ok(New { name: "web".into(), port: 0 }));
    }

    #[test]
    fn a_value_that_is_too_long_is_told_of() {
        let value = Old { name: "x".repeat(1000) };
        let length = encode(&value).unwrap().len();
        assert_eq!(encode_within(&value, length), encode(&value));
        assert_eq!(encode_within(&value, length - 1), Err(CodecError::Long(length - 1)));
        assert_eq!(check_length(&value, length), Ok(()));
        assert_eq!(check_length(&value, length - 1), Err(CodecError::Long(length - 1)));
        assert_eq!(check_length(&value, 3), Err(CodecError::Long(3)));
    }

    #[test]
    fn another_form_is_told_from_damage() {
        let mut bytes = encode(&Old { name: "web".into() }).unwrap();
        bytes[0] = 9;
        assert_eq!(decode::<Old>(&bytes), Err(CodecError::Checksum));
        let checksum = checksum(&bytes);
        bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode::<Old>(&bytes), Err(CodecError::Version(9)));
        assert_eq!(decode::<Old>(&bytes[..3]), Err(CodecError::Short(3)));
    }

    #[test]
    fn a_command_of_a_later_version_is_named() {
        #[derive(Serialize)]
        enum Later {
            Vanish { everything: bool },
        }
        #[derive(Serialize)]
        enum LaterPayload {
            Command(Later),
        }
        #[derive(Serialize)]
        struct LaterEntry {
            term: u64,
            index: u64,
            payload: LaterPayload,
        }
        let payload = LaterPayload::Command(Later::Vanish { everything: true });
        let error = decode_entry(&encode(&LaterEntry { term: 1, index: 7, payload }).unwrap()).unwrap_err();
        assert!(error.is_newer() && error.to_string().contains("Vanish"), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let vote = encode_vote(&Vote::new_committed(3, 9)).unwrap();
        assert_eq!(decode_vote(&vote), Ok(Vote::new_committed(3, 9)));
        for bit in 0..vote.len() * 8 {
            let mut damaged = vote.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_vote(&damaged), Err(CodecError::Checksum), "bit {bit}");
        }
    }
}
