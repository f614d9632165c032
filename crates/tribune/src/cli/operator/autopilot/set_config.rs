//! `tribune operator autopilot set-config`: changes what is decided about servers.

use std::process::ExitCode;

use tribune_api::GoDuration;
use tribune_client::operator::{self, AutopilotConfiguration};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Changes what is decided about servers. What is not given stays as it is.
#[derive(Debug, Default, clap::Args)]
struct Changes {
    /// Whether failed servers leave the agreement when enough others are there.
    #[arg(long, value_name = "BOOL")]
    cleanup_dead_servers: Option<bool>,
    /// Longest silence of a healthy server, such as 200ms.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    last_contact_threshold: Option<String>,
    /// Most log entries a healthy server lags.
    #[arg(long, value_name = "COUNT")]
    max_trailing_logs: Option<u64>,
    /// Cleaning up never leaves fewer voters.
    #[arg(long, value_name = "COUNT")]
    min_quorum: Option<u64>,
    /// How long a new server is healthy before it votes, such as 10s.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    server_stabilization_time: Option<String>,
    /// Kept for those who read it back; not acted on.
    #[arg(long, value_name = "TAG")]
    redundancy_zone_tag: Option<String>,
    /// Kept for those who read it back; not acted on.
    #[arg(long, value_name = "BOOL")]
    disable_upgrade_migration: Option<bool>,
    /// Kept for those who read it back; not acted on.
    #[arg(long, value_name = "TAG")]
    upgrade_version_tag: Option<String>,
}

/// Changes what is decided about servers. What is not given stays as it is.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let question = arguments.scope.narrow(operator::autopilot_configuration());
    let updated = wait_for(async {
        let asked = client.ask(&question).await;
        let mut config = asked.map_err(|error| failed("querying Autopilot configuration", &error))?.value;
        arguments.changes.make(&mut config);
        let set = client.set_autopilot(&config, arguments.scope.datacenter()).await;
        set.map_err(|error| failed("setting Autopilot configuration", &error))
    })?;
    if updated {
        print("Configuration updated!\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    print("Configuration could not be atomically updated, please try again\n")?;
    Ok(ExitCode::FAILURE)
}

impl Changes {
    fn make(&self, config: &mut AutopilotConfiguration) {
        set(&mut config.cleanup_dead_servers, &self.cleanup_dead_servers);
        set(&mut config.last_contact_threshold, &self.last_contact_threshold);
        set(&mut config.max_trailing_logs, &self.max_trailing_logs);
        set(&mut config.min_quorum, &self.min_quorum);
        set(&mut config.server_stabilization_time, &self.server_stabilization_time);
        set(&mut config.redundancy_zone_tag, &self.redundancy_zone_tag);
        set(&mut config.disable_upgrade_migration, &self.disable_upgrade_migration);
        set(&mut config.upgrade_version_tag, &self.upgrade_version_tag);
    }
}

fn set<T: Clone>(field: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

fn span(text: &str) -> Result<String, String> {
    let span: Result<GoDuration, _> = text.parse();
    span.map(|span| span.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let mut config =
            AutopilotConfiguration { max_trailing_logs: 250, min_quorum: 3, ..Default::default() };
        let changes = Changes {
            cleanup_dead_servers: Some(true),
            max_trailing_logs: Some(9),
            last_contact_threshold: span("1500ms").ok(),
            ..Changes::default()
        };
        changes.make(&mut config);
        assert!(config.cleanup_dead_servers);
        assert_eq!((config.max_trailing_logs, config.min_quorum), (9, 3));
        assert_eq!(config.last_contact_threshold, "1.5s");
        assert!(span("x").is_err());
    }
}
