//! `tribune rtt`: the estimated round trip time between two nodes.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use tribune_client::coordinate::{self, Coordinate};
use tribune_client::{Client, agent};

use super::connection::{Connection, wait_for};
use super::output::{failed, print};

/// Estimates the round trip time between two nodes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Between servers of any datacenters, whose names are node.datacenter.
    #[arg(long)]
    wan: bool,
    /// One node, or two; the second is the agent's unless it is given.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (first, second) = match arguments.nodes.as_slice() {
        [first] => (first.clone(), None),
        [first, second] => (first.clone(), Some(second.clone())),
        _ => bail!("One or two node names must be specified"),
    };
    let client = arguments.connection.client()?;
    let text = wait_for(async {
        match arguments.wan {
            true => between_servers(&client, first, second).await,
            false => between_nodes(&client, first, second).await,
        }
    })?;
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

async fn between_nodes(client: &Client, first: String, second: Option<String>) -> anyhow::Result<String> {
    let second = match second {
        Some(second) => second,
        None => of_agent(client).await?.0,
    };
    let asked = client.ask(&coordinate::nodes()).await;
    let entries = asked.map_err(|error| failed("getting coordinates", &error))?.value;
    let place = |name: &str| {
        let entry = entries.iter().find(|entry| entry.node == name);
        entry.map(|entry| &entry.coord).ok_or_else(|| unknown(name))
    };
    estimate(&first, place(&first)?, &second, place(&second)?, "LAN")
}

async fn between_servers(client: &Client, first: String, second: Option<String>) -> anyhow::Result<String> {
    let second = match second {
        Some(second) => second,
        None => {
            let (node, datacenter) = of_agent(client).await?;
            format!("{node}.{datacenter}")
        }
    };
    for name in [&first, &second] {
        if !name.contains('.') {
            bail!("Node names must be specified as <node name>.<datacenter> with -wan");
        }
    }
    let asked = client.ask(&coordinate::datacenters()).await;
    let maps = asked.map_err(|error| failed("getting coordinates", &error))?.value;
    let place = |name: &str| {
        let (node, datacenter) = name.rsplit_once('.').unwrap_or((name, ""));
        let map = maps.iter().find(|map| map.datacenter == datacenter);
        let entry = map.and_then(|map| map.coordinates.iter().find(|entry| entry.node == node));
        entry.map(|entry| &entry.coord).ok_or_else(|| unknown(name))
    };
    estimate(&first, place(&first)?, &second, place(&second)?, "WAN")
}

/// The agent's node and datacenter.
async fn of_agent(client: &Client) -> anyhow::Result<(String, String)> {
    let asked = client.ask(&agent::info()).await;
    let config = asked.map_err(|error| failed("looking up agent info", &error))?.value.config;
    Ok((config.node_name, config.datacenter))
}

fn unknown(name: &str) -> anyhow::Error {
    anyhow!(
        "Could not find a coordinate for node {name:?}; a new node has one after its first measurements, and none \
         with disable_coordinates"
    )
}

fn estimate(
    first: &str,
    from: &Coordinate,
    second: &str,
    to: &Coordinate,
    which: &str,
) -> anyhow::Result<String> {
    let place = |coordinate| tribune_core::coordinate::Coordinate::try_from(coordinate);
    let distance = place(from)?.distance(&place(to)?).as_secs_f64() * 1000.0;
    Ok(format!("Estimated {first} <-> {second} rtt: {distance:.3} ms (using {which} coordinates)\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_in_milliseconds() {
        let place = |first: f64| Coordinate {
            vec: [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].to_vec(),
            error: 1.5,
            adjustment: 0.0,
            height: 10e-6,
        };
        let text = estimate("n1", &place(0.0), "n2", &place(0.0006), "LAN").unwrap();
        assert_eq!(text, "Estimated n1 <-> n2 rtt: 0.620 ms (using LAN coordinates)\n");
    }
}
