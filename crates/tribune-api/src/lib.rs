//! How Consul *spells* it: JSON bodies, query parameters, headers, error texts, durations, and the conversions to
//! and from the core's types. Pure: nothing here reads, writes, waits or decides.
//!
//! The reference is Consul 1.8.7: field names, their order, what is `null`, what is left out and the texts of
//! errors are its own. Fields that later versions added are read where they are harmless and written only where
//! clients need them.

pub mod duration;
pub mod error;
pub mod headers;
pub mod params;

pub mod decode;
pub mod json;

pub mod agent;
pub mod catalog;
pub mod health;
pub mod status;

pub mod render;

pub mod fields;

pub mod convert;

pub use duration::GoDuration;
pub use error::ApiError;
pub use json::Layout;
pub use params::{Blocking, Consistency, Query, ReadOptions};
