//! `tribune operator autopilot get-config`: what is decided about servers.

use std::process::ExitCode;

use tribune_client::operator::{self, AutopilotConfiguration};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, print};

/// Shows what is decided about servers.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let question = arguments.scope.narrow(operator::autopilot_configuration());
    let answer = wait_for(async {
        let asked = client.ask(&question).await;
        asked.map_err(|error| failed("querying Autopilot configuration", &error))
    })?;
    print(lines(&answer.value))?;
    Ok(ExitCode::SUCCESS)
}

fn lines(config: &AutopilotConfiguration) -> String {
    format!(
        "CleanupDeadServers = {}\nLastContactThreshold = {}\nMaxTrailingLogs = {}\nMinQuorum = {}\n\
         ServerStabilizationTime = {}\nRedundancyZoneTag = {:?}\nDisableUpgradeMigration = {}\n\
         UpgradeVersionTag = {:?}\n",
        config.cleanup_dead_servers,
        config.last_contact_threshold,
        config.max_trailing_logs,
        config.min_quorum,
        config.server_stabilization_time,
        config.redundancy_zone_tag,
        config.disable_upgrade_migration,
        config.upgrade_version_tag,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_consuls() {
        let config = AutopilotConfiguration {
            cleanup_dead_servers: true,
            last_contact_threshold: "200ms".into(),
            max_trailing_logs: 250,
            server_stabilization_time: "10s".into(),
            ..AutopilotConfiguration::default()
        };
        let expected = "\
CleanupDeadServers = true
LastContactThreshold = 200ms
MaxTrailingLogs = 250
MinQuorum = 0
ServerStabilizationTime = 10s
RedundancyZoneTag = \"\"
DisableUpgradeMigration = false
UpgradeVersionTag = \"\"
";
        assert_eq!(lines(&config), expected);
    }
}
