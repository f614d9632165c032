//! `tribune catalog nodes`: the nodes of a datacenter, or those that run a service.

use std::collections::BTreeMap;
use std::process::ExitCode;

use tribune_client::catalog::{self, CatalogService, Node};
use tribune_client::{Client, Question};

use crate::cli::connection::{Connection, Scope, wait_for};
use crate::cli::flag::pair;
use crate::cli::output::{columns, failed, print, row};

/// Lists the nodes of a datacenter.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Shows whole IDs, all addresses and the metadata.
    #[arg(long)]
    detailed: bool,
    /// Only what this expression selects.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// The nearest to this node first; `_agent` is the node that is asked.
    #[arg(long, value_name = "NODE")]
    near: Option<String>,
    /// Only nodes with this pair in their metadata; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    node_meta: Vec<(String, String)>,
    /// Only nodes that run this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.connection.client()?;
    let nodes = wait_for(find(&client, arguments))?;
    if nodes.is_empty() {
        eprintln!("No nodes match the given query - try expanding your search.");
    } else {
        print(table(&nodes, arguments.detailed))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(client: &Client, arguments: &Arguments) -> anyhow::Result<Vec<Node>> {
    let Some(service) = &arguments.service else {
        let question = narrow(catalog::nodes(), arguments);
        let answer = client.ask(&question).await.map_err(|error| failed("listing nodes", &error))?;
        return Ok(answer.value);
    };
    let question = narrow(catalog::service(service), arguments);
    let answer = client.ask(&question).await.map_err(|error| failed("listing nodes", &error))?;
    Ok(answer.value.into_iter().map(host).collect())
}

fn narrow<T>(question: Question<T>, arguments: &Arguments) -> Question<T> {
    let mut question = arguments.scope.narrow(question);
    if let Some(node) = &arguments.near {
        question = question.near(node);
    }
    if let Some(expression) = &arguments.filter {
        question = question.filter(expression);
    }
    arguments.node_meta.iter().fold(question, |question, (key, value)| question.node_meta(key, value))
}

/// The node that an instance runs on.
fn host(instance: CatalogService) -> Node {
    Node {
        id: instance.id,
        node: instance.node,
        address: instance.address,
        datacenter: instance.datacenter,
        tagged_addresses: instance.tagged_addresses,
        meta: instance.node_meta,
        ..Node::default()
    }
}

fn table(nodes: &[Node], detailed: bool) -> String {
    let header = match detailed {
        true => row(["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]),
        false => row(["Node", "ID", "Address", "DC"]),
    };
    let rows = nodes.iter().map(|node| {
        let short = node.id.split('-').next().unwrap_or_default();
        let (addresses, meta) = (pairs(&node.tagged_addresses), pairs(&node.meta));
        match detailed {
            true => row([&node.node, &node.id, &node.address, &node.datacenter, &addresses, &meta]),
            false => row([&node.node, short, &node.address, &node.datacenter]),
        }
    });
    columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect();
        Node {
            id: "3c5c7ab6-ef61-cc52-3ae2-84dad5aa7f5e".into(),
            node: "alpha".into(),
            address: "127.0.0.1".into(),
            datacenter: "dc1".into(),
            tagged_addresses: map(&[("lan", "127.0.0.1"), ("wan", "127.0.0.1")]),
            meta: map(&[("consul-network-segment", "")]),
            ..Node::default()
        }
    }

    #[test]
    fn ids_are_cut_at_their_first_dash() {
        let expected = "\
Node   ID        Address    DC
alpha  3c5c7ab6  127.0.0.1  dc1
";
        assert_eq!(table(&[node()], false), expected);
    }

    #[test]
    fn details_show_everything() {
        let expected = "\
Node   ID                                    Address    DC   TaggedAddresses                 Meta
alpha  3c5c7ab6-ef61-cc52-3ae2-84dad5aa7f5e  127.0.0.1  dc1  lan=127.0.0.1, wan=127.0.0.1  \
         consul-network-segment=
";
        let printed = table(&[node()], true);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&printed), squeezed(expected));
    }
}
