//! The state of one datacenter: everything the log of commands amounts to.
//!
//! [`State`] is made of persistent maps, so a clone costs nothing and a reader keeps the snapshot it holds while
//! the next one is built. [`State::apply`] is the only way to change it; it is total (every command is applied
//! or refused) and the same on every server.

mod addresses;
mod autopilot;
mod catalog;
mod coordinate;
mod kv;
mod query;
mod session;
mod slice;
mod snapshot;
mod tables;
mod tally;
mod topic;
mod txn;
mod view;

use std::sync::Arc;

use crate::command::{Command, Outcome};
use crate::ids::{Folded, Index};
use crate::model::Stored;

pub use catalog::LIVENESS_CHECK;
pub use snapshot::{Record, SnapshotError};
pub use tally::{Tally, TallyChanges};
pub use topic::Topic;
pub use view::{CheckView, InstanceView, NodeView, ServiceView, View};

use addresses::Addresses;
use catalog::Change;
use kv::Keys;
use session::Sessions;
use tables::{Map, NodeEntry, ServiceEntry};
use topic::TopicIndexes;

/// All tables of a datacenter at one position of its log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    index: Index,
    nodes: Map<Folded, Arc<NodeEntry>>,
    node_ids: Map<Folded, Folded>,
    addresses: Addresses,
    services: Map<Folded, Arc<ServiceEntry>>,
    topics: TopicIndexes,
    autopilot: Option<Stored<crate::autopilot::Config>>,
    keys: Keys,
    sessions: Sessions,
    queries: query::Queries,
    coordinates: Map<Folded, crate::coordinate::Coordinate>,
}

/// What one command did: its outcome, and the topics whose answers changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// What the proposer is told.
    pub outcome: Outcome,
    /// Whose waiting readers must be woken; each topic once.
    pub touched: Vec<Topic>,
}

impl State {
    /// Applies the command at `index` of the log. Indexes must not fall.
    pub fn apply(&mut self, index: Index, command: &Command) -> Effect {
        debug_assert!(index >= self.index, "the log was applied out of order");
        self.index = index;
        let mut change = Change::new(self, index);
        let refused = match command {
            Command::Register(registration) => change.register(registration).err(),
            Command::Deregister(deregistration) => {
                change.deregister(&deregistration.node.folded(), &deregistration.target);
                None
            }
            Command::PutQuery { query, is_new } => {
                change.put_query(query, *is_new).err().map(crate::command::Refusal::Query)
            }
            Command::DeleteQuery(id) => {
                change.remove_query(id);
                None
            }
            Command::PutCoordinates(placed) => {
                change.put_coordinates(placed);
                None
            }
            Command::SetAutopilot { config, expected } => change.set_autopilot(config, *expected).err(),
            Command::Kv(kv) => change.kv(kv).err(),
            Command::Session(session) => change.session(session).err(),
            Command::Transaction(transaction) => return self.transact(index, transaction),
        };
        let touched = change.finish();
        let outcome = match refused {
            Some(refusal) => Outcome::Refused(refusal),
            None if touched.is_empty() => Outcome::Unchanged,
            None => Outcome::Applied,
        };
        Effect { outcome, touched }
    }

    /// What applying the command now would give. A proposer asks this first: a change that changes nothing need
    /// not enter the log.
    pub fn preview(&self, command: &Command) -> Outcome {
        self.clone().apply(Index(self.index.0 + 1), command).outcome
    }

    /// Notes that the log has reached `index` with an entry that is not a command.
    pub fn advance(&mut self, index: Index) {
        self.index = self.index.max(index);
    }

    /// The log position this state stands at.
    pub fn index(&self) -> Index {
        self.index
    }
}
