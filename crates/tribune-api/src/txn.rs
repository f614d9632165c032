//! Bodies of `/v1/txn`: what a transaction gave, and what stood against it. How the request is read is in
//! [`crate::convert`].

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use tribune_core::{CatalogItem, KvRefusal, Refusal, TxnError, TxnRefusal, TxnResult};

use crate::addresses::Addresses;
use crate::error::ApiError;
use crate::kv::KvJson;
use crate::render::{CheckJson, NodeJson, ServiceJson};

/// Most operations of one transaction.
pub const OPERATIONS_MAX: usize = 128;

/// The answer to a transaction, written.
#[derive(Debug, Clone, Copy)]
pub struct TxnJson<'a> {
    /// What its operations gave, or what stood against them.
    pub outcome: Result<&'a [TxnResult], &'a [TxnFailure]>,
    /// The datacenter.
    pub datacenter: &'a str,
    /// For transactions that only read: how the read was made.
    pub read: Option<ReadMeta>,
}

/// How a read was made, in the body of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMeta {
    /// Milliseconds since this server heard of the leader.
    pub last_contact: u64,
    /// Whether there is a leader.
    pub known_leader: bool,
}

/// What stood against one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnFailure {
    /// Which one, counted from zero.
    pub op_index: usize,
    /// What.
    pub what: String,
}

impl From<&TxnError> for TxnFailure {
    fn from(error: &TxnError) -> Self {
        Self { op_index: error.op, what: what(&error.why) }
    }
}

impl Serialize for TxnJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("TxnResponse", 6)?;
        let datacenter = self.datacenter;
        let results = self.outcome.ok();
        let results = results.map(|all| all.iter().map(|result| ResultJson { result, datacenter }));
        out.serialize_field("Results", &results.map(Iterator::collect::<Vec<_>>))?;
        out.serialize_field("Errors", &self.outcome.err())?;
        if let Some(read) = self.read {
            out.serialize_field("Index", &0)?;
            out.serialize_field("LastContact", &read.last_contact)?;
            out.serialize_field("KnownLeader", &read.known_leader)?;
            out.serialize_field("ConsistencyLevel", "")?;
        }
        out.end()
    }
}

struct ResultJson<'a> {
    result: &'a TxnResult,
    datacenter: &'a str,
}

impl Serialize for ResultJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(1))?;
        match self.result {
            TxnResult::Kv(entry) => out.serialize_entry("KV", &KvJson(entry))?,
            TxnResult::Node(node) => {
                out.serialize_entry(
                    "Node",
                    &NodeJson { node, datacenter: self.datacenter, addresses: Addresses::Own },
                )?;
            }
            TxnResult::Service(service) => {
                out.serialize_entry("Service", &ServiceJson(service, Addresses::Own))?
            }
            TxnResult::Check { node, check, service } => {
                let indexes = (check.created.0, check.modified.0);
                let (node, check, service) = (node.as_str(), &check.value, service.as_deref());
                out.serialize_entry("Check", &CheckJson { node, check, service, indexes })?;
            }
        }
        out.end()
    }
}

/// What stands against an operation, in Consul's words.
fn what(why: &TxnRefusal) -> String {
    match why {
        TxnRefusal::NoKey(key) => format!("key \"{key}\" doesn't exist"),
        TxnRefusal::KeyExists(key) => format!("key \"{key}\" exists"),
        TxnRefusal::NoKeyToCheckIndex(key) => {
            format!("failed to check index, key \"{key}\" doesn't exist")
        }
        TxnRefusal::NoKeyToCheckSession(key) => {
            format!("failed to check session, key \"{key}\" doesn't exist")
        }
        TxnRefusal::OtherIndex { key, current, wanted } => {
            format!("failed index check for key \"{key}\", current modify index {current} != {wanted}")
        }
        TxnRefusal::OtherSession { key, current, wanted } => {
            let current = current.as_ref().map_or("", |id| id.as_str());
            let wanted = wanted.as_ref().map_or("", |id| id.as_str());
            format!("failed session check for key \"{key}\", current session \"{current}\" != \"{wanted}\"")
        }
        TxnRefusal::StaleDelete(key) => format!("failed to delete key \"{key}\", index is stale"),
        TxnRefusal::Missing(item) => format!("{} doesn't exist", name(item)),
        TxnRefusal::Stale { item, deletes: false } => format!("failed to set {}, index is stale", name(item)),
        TxnRefusal::Stale { item, deletes: true } => {
            format!("failed to delete {}, index is stale", name(item))
        }
        TxnRefusal::NoNode(_) => "Missing node registration".to_owned(),
        TxnRefusal::Refused(refusal) => ApiError::from((**refusal).clone()).message,
    }
}

fn name(item: &CatalogItem) -> String {
    match item {
        CatalogItem::Node(node) => format!("node \"{node}\""),
        CatalogItem::Service(node, id) => format!("service \"{id}\" on node \"{node}\""),
        CatalogItem::Check(node, id) => format!("check \"{id}\" on node \"{node}\""),
    }
}

/// Why a key was not changed. Outside of transactions all but the last are answered with `false`.
pub(crate) fn refused_key(key: &str, why: &KvRefusal) -> String {
    match why {
        KvRefusal::StaleIndex => format!("failed to set key \"{key}\", index is stale"),
        KvRefusal::Held => format!("failed to lock key \"{key}\", lock is already held"),
        KvRefusal::Delayed => format!("failed to lock key \"{key}\" due to lock delay"),
        KvRefusal::NotHeld => {
            format!("failed to unlock key \"{key}\", lock isn't held, or is held by another session")
        }
        KvRefusal::NoSession(id) => format!("invalid session \"{id}\""),
    }
}

/// A transaction that was refused as a whole; callers who can show why use [`TxnFailure`].
pub(crate) fn refused(errors: &[TxnError]) -> ApiError {
    let all: Vec<String> =
        errors.iter().map(|error| format!("op {}: {}", error.op, what(&error.why))).collect();
    ApiError::new(409, all.join("; "))
}

/// What stood against the operations of a refused transaction.
pub fn failures(refusal: &Refusal) -> Option<Vec<TxnFailure>> {
    match refusal {
        Refusal::Transaction(errors) => Some(errors.iter().map(TxnFailure::from).collect()),
        _ => None,
    }
}
