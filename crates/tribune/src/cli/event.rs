//! `tribune event`: sends a user event.

use std::process::ExitCode;

use anyhow::bail;
use regex::Regex;
use tribune_client::event::Filters;

use super::connection::{Connection, Scope, wait_for};
use super::output::{failed, print};

/// Sends a small message to all agents of a datacenter, or to some of them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What it is about.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only nodes whose name matches this regular expression.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    node: String,
    /// Only nodes with a service whose name matches.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    service: String,
    /// Of those only where a tag of the service matches.
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    tag: String,
    /// What is told.
    #[arg(value_name = "PAYLOAD")]
    payload: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.name.is_empty() {
        bail!("Event name must be specified");
    }
    let filters = [("node", &arguments.node), ("service", &arguments.service), ("tag", &arguments.tag)];
    for (which, pattern) in filters {
        if let Err(error) = Regex::new(pattern) {
            bail!("Failed to compile {which} filter regexp: {error}");
        }
    }
    if !arguments.tag.is_empty() && arguments.service.is_empty() {
        bail!("Cannot provide tag filter without service filter.");
    }
    let payload = match arguments.payload.as_slice() {
        [] => String::new(),
        [payload] => payload.clone(),
        _ => bail!("Too many command line arguments."),
    };
    let client = arguments.connection.client()?;
    let filters = Filters { node: &arguments.node, service: &arguments.service, tag: &arguments.tag };
    let id = wait_for(async {
        let fired = client.fire(&arguments.name, payload.into(), filters, arguments.scope.datacenter()).await;
        fired.map_err(|error| failed("firing event", &error))
    })?;
    print(format!("Event ID: {id}\n"))?;
    Ok(ExitCode::SUCCESS)
}
