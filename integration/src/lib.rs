//! Harness for tests with real processes and clients.
