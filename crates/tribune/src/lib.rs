//! The program: configuration, assembly, listeners, leader duties, shutdown, command line.
//!
//! ```text
//!   cli::agent ─▶ Sources ─▶ Config ─▶ Settings ─▶ Daemon
//!                 what was   merged    what it     running, until a signal,
//!                 named                amounts to  the API or a failure ends it
//! ```
//!
//! Read the modules in this order.

pub mod cli;

pub mod config;
pub mod settings;

mod columns;
mod daemon;
mod datadir;
mod demo;
mod founding;
mod host;
mod joining;
mod leader;
mod membership;
mod reload;
mod surveyor;
mod version;

pub mod logging;
pub mod telemetry;

pub use daemon::{BindError, Daemon, Ending, StartError};
pub use reload::Error as ReloadError;
