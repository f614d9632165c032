//! openraft's types as they are used here. Nothing outside this crate names them.

use std::fmt;
use std::sync::Arc;

use openraft::alias;
use openraft::impls::leader_id_std::LeaderId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tribune_core::{Command, NodeName, Outcome};

use crate::config::ServerInfo;
use crate::machine::Machine;
use crate::restore::Step;

openraft::declare_raft_types!(
    /// The types that our consensus is made of.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = ServerNode,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = crate::chance::Runtime
);

pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, ServerNode>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type CommittedLeaderId = alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// What is on its way through the log. Shared, because log, tail and state machine all hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Proposal {
    /// A change to the state.
    Command(Arc<Command>),
    /// A piece of a whole state that takes the place of the present one.
    Restore(Arc<Step>),
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "command",
            Self::Restore(_) => "restore",
        })
    }
}

/// What applying an entry gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The entry was for consensus itself.
    Nothing,
    /// Of a command.
    Outcome(Outcome),
    /// Of a step of a restore; the reason when the restore has come to nothing.
    Restored(Result<(), String>),
}

/// A server as the membership entries of the log hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerNode {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
}

impl From<&ServerInfo> for ServerNode {
    fn from(server: &ServerInfo) -> Self {
        Self {
            id: server.id.clone(),
            name: server.name.as_str().to_owned(),
            address: server.address.to_string(),
        }
    }
}

impl ServerNode {
    /// The server in the words of callers; `None` when an entry holds what is no name or address.
    pub(crate) fn info(&self) -> Option<ServerInfo> {
        let name = NodeName::new(self.name.as_str()).ok()?;
        Some(ServerInfo { id: self.id.clone(), name, address: self.address.parse().ok()? })
    }
}

/// The number under which consensus knows the server with this id: the first bytes of the id's hash, so that it
/// needs no registry and stays the same for ever.
pub(crate) fn consensus_id(server_id: &str) -> u64 {
    let digest = Sha256::digest(server_id.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}
