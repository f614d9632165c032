//! The program: configuration, assembly, listeners, leader duties, shutdown, command line.
//!
//! Read the modules in this order.

pub mod cli;
pub mod config;
pub mod settings;

mod datadir;

pub mod logging;
pub mod telemetry;
