//! The Rust client for applications and for the command line.
