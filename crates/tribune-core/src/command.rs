//! Every change that can enter the log, and what applying one gives.
//!
//! A command carries everything it needs: applying it reads no clock and draws no random number, so all servers
//! come to the same state.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::{CheckId, InstanceId, NodeName};
use crate::model::{Check, Node, ServiceInstance};

/// A change to the state of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Puts a node, and on it at most one instance and any number of checks.
    Register(Box<Registration>),
    /// Removes a node, an instance or a check, with all that depends on it.
    Deregister(Deregistration),
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
}
