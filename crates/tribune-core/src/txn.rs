//! Transactions as plain data: several operations that are all done or none.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::command::Refusal;
use crate::ids::{CheckId, Index, InstanceId, NodeName};
use crate::kv::{KvChange, KvEntry, KvKey};
use crate::model::{Check, Node, ServiceInstance, Stored};
use crate::session::SessionId;

/// Operations in the order in which they are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction(pub Vec<TxnOp>);

impl Transaction {
    /// Whether it changes nothing whatever it finds.
    pub fn only_reads(&self) -> bool {
        self.0.iter().all(|op| match op {
            TxnOp::KvRead(_) => true,
            TxnOp::Kv(_) => false,
            TxnOp::Node(op) => matches!(op, CatalogOp::Get(_)),
            TxnOp::Service(_, op) => matches!(op, CatalogOp::Get(_)),
            TxnOp::Check(_, op) => matches!(op, CatalogOp::Get(_)),
        })
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Changes a key.
    Kv(KvChange),
    /// Reads a key or makes sure of something about it.
    KvRead(KvRead),
    /// Reads or changes a node.
    Node(CatalogOp<NodeKey, Node>),
    /// Reads or changes an instance on this node.
    Service(NodeName, CatalogOp<InstanceId, ServiceInstance>),
    /// Reads or changes a check on this node.
    Check(NodeName, CatalogOp<CheckId, Check>),
}

/// How a node is named: by its name, or by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKey {
    /// The name, as it was given.
    pub name: SmolStr,
    /// The id, which counts before the name; empty when none was given.
    pub id: SmolStr,
}

/// A look at keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvRead {
    /// The entry, which must be there.
    Get(KvKey),
    /// The entry, or an empty one.
    GetOrEmpty(KvKey),
    /// All entries under a prefix.
    GetTree(SmolStr),
    /// The key must be there and have last changed at this index.
    CheckIndex(KvKey, Index),
    /// The key must be there and be held by this session; `None`: by nobody.
    CheckSession(KvKey, Option<SessionId>),
    /// The key must not be there.
    CheckNotExists(KvKey),
}

/// What is done with something in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogOp<K, T> {
    /// Reads it; it must be there.
    Get(K),
    /// Puts it.
    Set(Box<T>),
    /// Puts it when it last changed at this index; 0: when it is not there.
    SetAt(Box<T>, Index),
    /// Removes it.
    Delete(K),
    /// Removes it when it last changed at this index.
    DeleteAt(K, Index),
}

/// What one operation of a transaction gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// An entry. Those that were written come without their value.
    Kv(Stored<KvEntry>),
    /// A node.
    Node(Stored<Node>),
    /// An instance.
    Service(Stored<ServiceInstance>),
    /// A check, with its node and its instance.
    Check {
        /// The node.
        node: NodeName,
        /// The check.
        check: Stored<Check>,
        /// The instance it belongs to.
        service: Option<Box<ServiceInstance>>,
    },
}

/// Why one operation of a transaction was not done, and with it none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnError {
    /// Which operation, counted from zero.
    pub op: usize,
    /// What stood against it.
    pub why: TxnRefusal,
}

/// What stands against an operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnRefusal {
    /// A key that must be there is not.
    NoKey(KvKey),
    /// A key that must not be there is.
    KeyExists(KvKey),
    /// A key whose index is to be checked is not there.
    NoKeyToCheckIndex(KvKey),
    /// A key whose session is to be checked is not there.
    NoKeyToCheckSession(KvKey),
    /// A key last changed at another index.
    OtherIndex {
        /// The key.
        key: KvKey,
        /// When it last changed.
        current: Index,
        /// When it should have.
        wanted: Index,
    },
    /// A key is held by another session, or by none.
    OtherSession {
        /// The key.
        key: KvKey,
        /// Who holds it.
        current: Option<SessionId>,
        /// Who should.
        wanted: Option<SessionId>,
    },
    /// A key cannot be removed because it changed since the index that was named.
    StaleDelete(KvKey),
    /// Something in the catalog that must be there is not.
    Missing(CatalogItem),
    /// Something in the catalog changed since the index that was named.
    Stale {
        /// What it is.
        item: CatalogItem,
        /// Whether it was to be removed.
        deletes: bool,
    },
    /// The node of an instance or check is not there.
    NoNode(NodeName),
    /// What stands against such a change outside of a transaction too.
    Refused(Box<Refusal>),
}

/// Something in the catalog as an operation names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogItem {
    /// A node, by the name that was given.
    Node(SmolStr),
    /// An instance on a node.
    Service(NodeName, InstanceId),
    /// A check on a node.
    Check(NodeName, CheckId),
}
