//! What the registry *means*: names, the model, commands, the state they lead to, and every decision that can be
//! made without touching the world. No IO, no clock, no randomness, no async, no lock: all of it is data in,
//! data out, so each server that applies the same log holds the same state.
//!
//! Read the modules in this order.

mod ids;
mod time;

mod model;

mod kv;
mod session;
mod txn;

mod command;

mod authority;

pub mod state;

pub mod check;

pub mod filter;

pub mod reconcile;

pub mod membership;

pub mod autopilot;

mod dice;

pub mod coordinate;
pub mod lease;

pub mod event;

pub mod query;

pub mod dns;

pub use authority::Authority;
pub use check::{CheckKind, CheckMachine, CheckSpec, InvalidCheck};
pub use command::{Command, Deregistration, Outcome, Refusal, Registration, Target};
pub use filter::{Filter, FilterError};
pub use ids::{
    CheckId, Datacenter, Folded, Index, InstanceId, InvalidName, NAME_BYTES_MAX, NodeName, ServiceName,
};
pub use kv::{Blob, InvalidKey, KV_KEY_BYTES_MAX, KvChange, KvEntry, KvKey, KvPut, KvRefusal, PutMode};
pub use model::{
    Check, CheckDefinition, Node, Pairs, ServiceAddress, ServiceInstance, Status, Stored, Weights,
};
pub use session::{
    Behavior, InvalidSessionId, LOCK_DELAY_MAX, Session, SessionChange, SessionId, SessionRefusal,
};
pub use state::{State, Topic};
pub use time::Timestamp;
pub use txn::{CatalogItem, CatalogOp, KvRead, NodeKey, Transaction, TxnError, TxnOp, TxnRefusal, TxnResult};
