//! What this node runs: its registered services and checks, the probes, the sync with the catalog.
//!
//! The node is the authority on its own services. They are kept in a small database of the agent's own
//! (`store`), held as an immutable [`Snapshot`] that readers take without a lock, changed only in `registry`,
//! probed by `runner` and brought into the catalog by `sync`, which sees the catalog through [`Catalog`] alone.
//!
//! ```text
//!   register ─▶ registry ─▶ store (durable)            ┐ both awaited
//!                   │    ─▶ sync::push ─▶ Catalog      ┘ before the reply
//!                   ├─▶ Snapshot published
//!                   └─▶ runner: timers ─▶ probe ─▶ registry ─▶ sync (status at once, output after a while)
//! ```

mod config;
mod error;

mod catalog;

mod snapshot;

mod clock;

mod registry;

mod store;

mod probe;

mod alert;

mod ledger;

mod sync;

mod runner;

mod agent;

pub use agent::{LocalAgent, Pause, Running};
pub use alert::AlertConfig;
pub use catalog::{Catalog, CatalogError};
pub use config::{Config, Definitions, ScriptPolicy, StoreAt};
pub use error::Error;
pub use ledger::Stats;
pub use snapshot::{LocalCheck, LocalService, Origin, Snapshot};
