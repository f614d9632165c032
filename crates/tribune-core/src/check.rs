//! Health checks: what one is, and how results and the passing of time turn into its status.
//!
//! ```text
//!              result / renewal                       N in a row
//!   probe  ───────────────────────▶  CheckMachine  ──────────────▶  Change::Status
//!   clock  ───────────────────────▶                ──────────────▶  Event::{Probe, Changed, RemoveService}
//!              tick at deadline()
//! ```
//!
//! Nothing here probes anything and nothing knows what time it is: both come in as arguments.

mod machine;
mod output;
mod spec;

pub use machine::{Change, CheckMachine, Event, Observation};
pub use output::{OUTPUT_BYTES_DEFAULT, captured};
pub use spec::{
    CheckKind, CheckSpec, HostCheck, HostResource, INTERVAL_MIN, InvalidCheck, NODE_MAINTENANCE,
    SERVICE_MAINTENANCE_PREFIX,
};
