//! Every change that can enter the log, and what applying one gives.
//!
//! A command carries everything it needs: applying it reads no clock and draws no random number, so all servers
//! come to the same state.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::autopilot;
use crate::coordinate::Placed;
use crate::ids::{CheckId, Index, InstanceId, NodeName};
use crate::kv::{KvChange, KvKey, KvRefusal};
use crate::model::{Check, Node, ServiceInstance};
use crate::query::{Query, QueryRefusal};
use crate::session::{SessionChange, SessionRefusal};
use crate::txn::{Transaction, TxnError, TxnResult};

/// A change to the state of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Puts a node, and on it at most one instance and any number of checks.
    Register(Box<Registration>),
    /// Removes a node, an instance or a check, with all that depends on it.
    Deregister(Deregistration),
    /// Decides what is to be done about servers.
    SetAutopilot {
        /// The settings.
        config: autopilot::Config,
        /// Where they must have changed last; `None` for wherever.
        expected: Option<Index>,
    },
    /// Changes keys.
    Kv(Box<KvChange>),
    /// Changes sessions.
    Session(Box<SessionChange>),
    /// Does several things or none of them.
    Transaction(Box<Transaction>),
    /// Says where nodes lie in the network.
    PutCoordinates(Vec<Placed>),
    /// Keeps a prepared query.
    PutQuery {
        /// The query.
        query: Box<Query>,
        /// Whether it is new; else it must be there already.
        is_new: bool,
    },
    /// Forgets the prepared query with this id.
    DeleteQuery(SmolStr),
}

/// What to put into the catalog; all of it or nothing is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The node. An empty id keeps the one that is known.
    pub node: Node,
    /// Leaves a node that exists as it is.
    pub skip_node_update: bool,
    /// The instance, if any.
    pub service: Option<ServiceInstance>,
    /// Checks of the node or of its instances.
    pub checks: Vec<Check>,
}

/// What to take out of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistration {
    /// The node it is on.
    pub node: NodeName,
    /// Which part of it.
    pub target: Target,
}

/// The part of a node that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The node with everything on it.
    Node,
    /// One instance with its checks.
    Instance(InstanceId),
    /// One check.
    Check(CheckId),
}

/// What applying a command gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Something changed.
    Applied,
    /// Everything was as asked for already; no index moved.
    Unchanged,
    /// Nothing was changed, for this reason.
    Refused(Refusal),
    /// A transaction was done.
    Transacted {
        /// Whether something changed.
        changed: bool,
        /// What its operations gave.
        results: Vec<TxnResult>,
    },
}

impl Outcome {
    /// Whether something changed: a command that changes nothing need not enter the log.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Applied | Self::Transacted { changed: true, .. })
    }
}

/// Why a command was refused. The same on every server, whatever the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A live node with another id holds the name.
    NodeNameTaken {
        /// The name that was asked for.
        name: NodeName,
        /// The id of the node that has it.
        holder: SmolStr,
        /// Its address.
        holder_address: SmolStr,
        /// The id that asked for it.
        id: SmolStr,
    },
    /// A check names an instance that its node does not have.
    MissingInstance {
        /// The node.
        node: NodeName,
        /// The instance that is not there.
        instance: InstanceId,
    },
    /// The settings of the autopilot have changed since they were read.
    AutopilotMoved,
    /// A change of a key was not made.
    Kv {
        /// The key.
        key: KvKey,
        /// Why.
        why: KvRefusal,
    },
    /// A change of the sessions was not made.
    Session(SessionRefusal),
    /// A transaction was not done, for each of these reasons.
    Transaction(Vec<TxnError>),
    /// A prepared query cannot be kept.
    Query(QueryRefusal),
}
