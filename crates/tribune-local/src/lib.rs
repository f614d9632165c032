//! What this node runs: its registered services and checks, the probes, the sync with the catalog.
