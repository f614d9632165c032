//! As `watch_service`, but with three servers behind one client: while one of them is away, the next one answers.
//!
//! ```text
//! cargo run --release -- demo                                     # in one terminal: the key l kills the leader
//! cargo run -p tribune-examples --example three_servers           # in another
//! ```
//!
//! Other servers are named as arguments, in the order in which they are to be asked.

use std::time::Duration;

use anyhow::Context;
use tribune_client::{Address, Client, Config, Source, health, status};

/// The three servers of the demo's first datacenter.
const DEMO: [&str; 3] = ["127.0.0.1:8500", "127.0.0.1:8510", "127.0.0.1:8520"];
/// How often it asks, a second apart.
const QUESTIONS: u32 = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let texts = if named.is_empty() { DEMO.map(str::to_owned).to_vec() } else { named };
    let addresses = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Address>, _>>()?;
    let client = Client::new(Config { addresses, ..Config::default() })?;
    let peers = client.ask(&status::peers()).await.with_context(|| {
        format!("none of {} answers; start `cargo run --release -- demo`, or name servers", texts.join(", "))
    })?;
    println!("servers of the datacenter: {}", peers.value.join(", "));

    // Reads are repeated at the next server when one fails, so nothing is to be done about that here.
    let (web, leader) = (health::service("web").passing(), status::leader());
    for _ in 0..QUESTIONS {
        let found = client.ask(&web).await?;
        let leads = client.ask(&leader).await.map(|answer| answer.value).unwrap_or_default();
        let freshness = match found.source {
            Source::Agent => String::new(),
            Source::LastKnown { age } => format!(" (no server answers; as of {} s ago)", age.as_secs()),
        };
        println!("{} instances of web at index {}, {leads} leads{freshness}", found.value.len(), found.index);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
