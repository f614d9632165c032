//! What is first decided about servers.

use tribune_core::autopilot::Config;

use crate::config::Autopilot;

/// What is written, and Consul's defaults for the rest.
pub(super) fn autopilot(written: &Autopilot) -> Config {
    let default = Config::default();
    Config {
        cleanup_dead_servers: written.cleanup_dead_servers.unwrap_or(default.cleanup_dead_servers),
        last_contact_threshold: written
            .last_contact_threshold
            .map_or(default.last_contact_threshold, |span| span.0),
        max_trailing_logs: written.max_trailing_logs.unwrap_or(default.max_trailing_logs),
        min_quorum: written.min_quorum.unwrap_or(default.min_quorum),
        server_stabilization_time: written
            .server_stabilization_time
            .map_or(default.server_stabilization_time, |span| span.0),
        ..default
    }
}
