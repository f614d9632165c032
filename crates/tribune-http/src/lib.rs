//! The Consul-compatible HTTP API.
