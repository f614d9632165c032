//! `tribune catalog services`: the services of a datacenter or of one node.

use std::collections::BTreeMap;
use std::process::ExitCode;

use tribune_client::{Client, Question, catalog};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::flag::pair;
use crate::cli::output::{failed, print};

/// Blanks between the longest name and the tags.
const GAP: usize = 6;

type Services = BTreeMap<String, Vec<String>>;

/// Lists the services of a datacenter.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Only services on this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only services on nodes with this pair in their metadata; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    node_meta: Vec<(String, String)>,
    /// Shows the tags beside each service.
    #[arg(long)]
    tags: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let services = wait_for(find(&client, arguments))?;
    if services.is_empty() {
        eprintln!("No services match the given query - try expanding your search.");
    } else {
        print(lines(services, arguments.tags))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(client: &Client, arguments: &Arguments) -> anyhow::Result<Services> {
    let Some(node) = &arguments.node else {
        let question = narrow(catalog::services(), arguments);
        let answer = client.ask(&question).await.map_err(|error| failed("listing services", &error))?;
        return Ok(answer.value);
    };
    let question = narrow(catalog::node(node), arguments);
    let answer = client.ask(&question).await.map_err(|error| failed("listing services for node", &error))?;
    let mut services = Services::new();
    for instance in answer.value.into_iter().flat_map(|node| node.services.into_values()) {
        services.entry(instance.service).or_default().extend(instance.tags);
    }
    Ok(services)
}

fn narrow<T>(question: Question<T>, arguments: &Arguments) -> Question<T> {
    let question = arguments.scope.narrow(question);
    arguments.node_meta.iter().fold(question, |question, (key, value)| question.node_meta(key, value))
}

/// One service per line. Only the last line has no blanks behind it: that is how Consul's tool prints it.
fn lines(services: Services, with_tags: bool) -> String {
    let width = services.keys().map(|name| name.chars().count()).max().unwrap_or(0) + GAP;
    let line = |(name, mut tags): (String, Vec<String>)| {
        tags.sort_unstable();
        if with_tags { format!("{name:width$}{}\n", tags.join(",")) } else { format!("{name}\n") }
    };
    let text: String = services.into_iter().map(line).collect();
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_in_a_column_of_their_own() {
        let services = || {
            Services::from([
                ("web".to_owned(), vec!["b".to_owned(), "a".to_owned()]),
                ("consul".to_owned(), vec![]),
            ])
        };
        assert_eq!(lines(services(), false), "consul\nweb\n");
        assert_eq!(lines(services(), true), "consul      \nweb         a,b\n");
        let alone = Services::from([("consul".to_owned(), vec![])]);
        assert_eq!(lines(alone, true), "consul\n");
    }
}
