//! What the examples share: finding the agent, and saying what to do when there is none.

use anyhow::Context;
use tribune_client::{Client, Config, agent};

/// A client of the agent that `CONSUL_HTTP_ADDR` names, or of the one on this machine. It has made sure that the
/// agent is there.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::default();
    if let Ok(address) = std::env::var("CONSUL_HTTP_ADDR") {
        config.addresses = vec![address.parse()?];
    }
    let client = Client::new(config)?;
    let info = client.ask(&agent::info()).await.context(
        "no agent answers; start one in another terminal with `cargo run --release -- agent -dev`, \
         or name another in CONSUL_HTTP_ADDR",
    )?;
    println!("agent {} of datacenter {}", info.value.config.node_name, info.value.config.datacenter);
    Ok(client)
}
