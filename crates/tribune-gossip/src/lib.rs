//! Who is *there*: the pool of a datacenter's members (UDP and TCP, encrypted by a keyring) and the pool of all
//! servers of the federation (inside mutual TLS).
//!
//! A [`Pool`] is started by [`lan`] or [`wan`] and is a cheap handle: it shows the [`Member`]s and how they are,
//! joins, leaves, fires [`UserEvent`]s and rotates keys. Behind it one loop drives the membership protocol (foca, a
//! SWIM) and adds what that leaves open: joining over a stream with the full state, the state exchanged at
//! intervals, tags, encryption, a last question over a stream before anybody is given up, a brake when many fail
//! at once, and memory over restarts.
//!
//! Nothing outside this crate names foca. What carries the bytes is a [`Carrier`].

mod alarm;
mod bulletin;
mod carrier;
mod config;
mod courier;
mod damping;
mod engine;
mod error;
mod event;
mod keyring;
mod lan;
mod member;
mod pool;
mod quiet;
mod roster;
mod rotation;
mod seal;
mod speaker;
mod state_file;
mod wire;

pub use carrier::{Address, Carrier, CarrierError, EXCHANGE_BYTES_MAX, PACKET_BYTES_MAX};
pub use config::{Config, Timing};
pub use damping::Brake;
pub use error::Error;
pub use event::{EventError, UserEvent};
pub use keyring::{KeyError, Keyring, KeyringFileError, generate_key};
pub use member::{Member, Status};
pub use pool::{JoinOutcome, Pool, Running, lan, wan};
pub use rotation::{KeyringError, KeyringReport};
