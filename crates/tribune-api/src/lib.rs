//! How Consul *spells* it: JSON bodies, query parameters, headers, error texts, durations, and the conversions to
//! and from the core's types. Pure: nothing here reads, writes, waits or decides.
//!
//! The reference is Consul 1.8.7: field names, their order, what is `null`, what is left out and the texts of
//! errors are its own, and `testdata` holds its answers to compare with. Where we differ, it is on purpose:
//!
//! - Catalog registrations that lack something are answered with 400, as later versions do; the reference says
//!   500, which makes clients try again.
//! - Fields of later versions are read where they mean something here, and written only when they are set
//!   (`SocketPath`) or in bodies that no old client compares (`/v1/agent/self`).
//! - Checks look the same in all lists; the reference shows them in `/v1/agent/health/…` in a form of its own.
//! - A field under two letter cases of its key is refused, a number too large for its field as well, and a text
//!   that is not UTF-8. The reference takes one of them, cuts it, or replaces it.
//! - Namespaces and partitions are accepted when they name the only ones there are.
//! - The service mesh is refused in so many words instead of being stored without effect.
//! - In filters, a key that a map does not have matches no regular expression, and texts can be asked whether
//!   they are empty, as in later versions.

pub mod duration;
pub mod error;
pub mod headers;
pub mod instant;
pub mod params;

pub mod decode;
pub mod json;

pub mod agent;
pub mod catalog;
pub mod coordinate;
pub mod event;
pub mod health;
pub mod kv;
pub mod operator;
pub mod query;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod txn;

pub mod addresses;
pub mod render;

pub mod fields;

pub mod convert;

pub use addresses::Addresses;
pub use duration::GoDuration;
pub use error::ApiError;
pub use json::Layout;
pub use params::{Blocking, Consistency, Query, ReadOptions};
