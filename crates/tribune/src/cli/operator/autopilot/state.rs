//! `tribune operator autopilot state`: how the servers are.

use std::fmt::Write;
use std::process::ExitCode;

use tribune_client::operator::{self, AutopilotServer, AutopilotState};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::output::{failed, indented, print};

/// Shows how the servers are.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// How it is shown.
    #[arg(long, default_value = "pretty", value_parser = ["pretty", "json"])]
    format: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let question = arguments.scope.narrow(operator::autopilot_state());
    let trouble = |error| failed("querying Autopilot state", &error);
    let text = wait_for(async {
        if arguments.format == "json" {
            return Ok(indented(client.ask(&question.raw()).await.map_err(trouble)?.value.get()));
        }
        Ok(pretty(&client.ask(&question).await.map_err(trouble)?.value))
    })?;
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn pretty(state: &AutopilotState) -> String {
    let mut text = format!(
        "Healthy:                      {}\nFailure Tolerance:            {}\n\
         Optimistic Failure Tolerance: {}\nLeader:                       {}\nVoters:\n",
        state.healthy, state.failure_tolerance, state.optimistic_failure_tolerance, state.leader,
    );
    list(&mut text, &state.voters);
    if !state.read_replicas.is_empty() {
        text.push_str("Read Replicas:\n");
        list(&mut text, &state.read_replicas);
    }
    text.push_str("Servers:\n");
    for (id, server) in &state.servers {
        let _ = writeln!(text, "   {id}");
        one(&mut text, server);
    }
    text
}

fn list(text: &mut String, ids: &[String]) {
    for id in ids {
        // Writing to memory does not fail.
        let _ = writeln!(text, "   {id}");
    }
}

fn one(text: &mut String, server: &AutopilotServer) {
    let lines = [
        ("Name", server.name.clone()),
        ("Address", server.address.clone()),
        ("Version", server.version.clone()),
        ("Status", server.status.clone()),
        ("Node Type", server.node_type.clone()),
        ("Node Status", server.node_status.clone()),
        ("Healthy", server.healthy.to_string()),
        ("Last Contact", server.last_contact.clone()),
        ("Last Term", server.last_term.to_string()),
        ("Last Index", server.last_index.to_string()),
    ];
    for (name, value) in lines {
        let _ = writeln!(text, "      {:<17}{value}", format!("{name}:"));
    }
    if !server.meta.is_empty() {
        text.push_str("      Meta\n");
        for (key, value) in &server.meta {
            let _ = writeln!(text, "         {key:?}: {value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_block() {
        let server = AutopilotServer {
            name: "n1".into(),
            status: "leader".into(),
            healthy: true,
            meta: [("version".to_owned(), "1.8.7".to_owned())].into(),
            ..AutopilotServer::default()
        };
        let state = AutopilotState {
            healthy: true,
            leader: "id1".into(),
            voters: vec!["id1".into()],
            servers: [("id1".to_owned(), server)].into(),
            ..AutopilotState::default()
        };
        let text = pretty(&state);
        assert!(text.starts_with("Healthy:                      true\nFailure Tolerance:            0\n"));
        assert!(text.contains("Voters:\n   id1\nServers:\n   id1\n      Name:            n1\n"), "{text}");
        assert!(text.ends_with("      Meta\n         \"version\": \"1.8.7\"\n"), "{text}");
    }
}
