//! `tribune maint`: takes a node or a service out of service for a while, and back.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use tribune_client::agent::{self, HealthCheck};
use tribune_client::{Client, Error};

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Check that stands for the maintenance of the node.
const NODE_CHECK: &str = "_node_maintenance";
/// Prefix of checks that stand for the maintenance of a service.
const SERVICE_CHECK: &str = "_service_maintenance:";

/// Takes the agent's node or one of its services out of service, or brings it back. Without a flag it shows what
/// is out of service.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Takes it out of service.
    #[arg(long)]
    enable: bool,
    /// Brings it back.
    #[arg(long)]
    disable: bool,
    /// Says why, for everyone who looks.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// The service it is about; without it, the whole node.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { enable, disable, .. } = *arguments;
    if enable && disable {
        bail!("Only one of -enable or -disable may be provided");
    }
    if !enable && !arguments.reason.is_empty() {
        bail!("Reason may only be provided with -enable");
    }
    if !enable && !disable && !arguments.service.is_empty() {
        bail!("Service requires either -enable or -disable");
    }
    let client = arguments.connection.client()?;
    let reason = enable.then_some(arguments.reason.as_str());
    let text = wait_for(async {
        match arguments.service.as_str() {
            "" if !enable && !disable => show(&client).await,
            "" => maintain_node(&client, reason).await,
            service => maintain_service(&client, service, reason).await,
        }
    })?;
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client) -> anyhow::Result<String> {
    let querying = |error: Error| failed("querying Consul agent", &error);
    let node = client.ask(&agent::info()).await.map_err(querying)?.value.config.node_name;
    let checks = client.ask(&agent::checks()).await.map_err(|error| failed("getting checks", &error))?;
    Ok(blocks(&node, &checks.value))
}

fn blocks(node: &str, checks: &BTreeMap<String, HealthCheck>) -> String {
    let block = |(id, check): (&String, &HealthCheck)| {
        if id == NODE_CHECK {
            Some(format!("Node:\n  Name:   {node}\n  Reason: {}\n\n", check.notes))
        } else if id.starts_with(SERVICE_CHECK) {
            Some(format!("Service:\n  ID:     {}\n  Reason: {}\n\n", check.service_id, check.notes))
        } else {
            None
        }
    };
    checks.iter().filter_map(block).collect()
}

async fn maintain_node(client: &Client, reason: Option<&str>) -> anyhow::Result<String> {
    let doing = format!("{} node maintenance", if reason.is_some() { "enabling" } else { "disabling" });
    client.maintain_node(reason).await.map_err(|error| failed(&doing, &error))?;
    Ok(format!("Node maintenance is now {}\n", state(reason)))
}

async fn maintain_service(client: &Client, service: &str, reason: Option<&str>) -> anyhow::Result<String> {
    let doing = format!("{} service maintenance", if reason.is_some() { "enabling" } else { "disabling" });
    client.maintain_service(service, reason).await.map_err(|error| failed(&doing, &error))?;
    Ok(format!("Service maintenance is now {} for {service:?}\n", state(reason)))
}

fn state(reason: Option<&str>) -> &'static str {
    if reason.is_some() { "enabled" } else { "disabled" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maintenance_is_shown() {
        let check = |service: &str, notes: &str| HealthCheck {
            service_id: service.into(),
            notes: notes.into(),
            ..HealthCheck::default()
        };
        let checks = BTreeMap::from([
            ("service:web".to_owned(), check("web", "")),
            ("_service_maintenance:web".to_owned(), check("web", "upgrade")),
            ("_node_maintenance".to_owned(), check("", "new disk")),
        ]);
        let expected = "\
Node:
  Name:   alpha
  Reason: new disk

Service:
  ID:     web
  Reason: upgrade

";
        assert_eq!(blocks("alpha", &checks), expected);
        assert_eq!(blocks("alpha", &BTreeMap::new()), "");
    }
}
