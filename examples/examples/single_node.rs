//! One agent, one service: register it, renew its check, find it, remove it. Start here.
//!
//! ```text
//! cargo run --release -- agent -dev                               # in one terminal
//! cargo run -p tribune-examples --example single_node             # in another
//! ```

use std::time::Duration;

use tribune_client::agent::{CheckDefinition, ServiceDefinition, Status};
use tribune_client::health;
use tribune_examples::connect;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = connect().await?;

    // A check that the service renews itself; it turns critical when that stops for ten seconds.
    let mut alive = CheckDefinition { id: "hello-alive".into(), ..CheckDefinition::default() };
    alive.probe.ttl = Some(Duration::from_secs(10));
    let hello = ServiceDefinition {
        name: "hello".into(),
        port: 8080,
        tags: vec!["example".into()],
        checks: vec![alive],
        ..ServiceDefinition::default()
    };
    client.register(&hello).await?;
    println!("registered {} on port {}", hello.name, hello.port);

    // Nobody is sent to it before its check passes.
    let found = client.ask(&health::service("hello").passing()).await?;
    println!("passing instances before the first renewal: {}", found.value.len());

    client.renew_check("hello-alive", Status::Passing, "all is well").await?;
    let found = client.ask(&health::service("hello").passing()).await?;
    println!("passing instances after it: {} (index {})", found.value.len(), found.index);
    for entry in &found.value {
        println!(
            "  {} on {} at {}:{}",
            entry.service.id, entry.node.node, entry.node.address, entry.service.port
        );
    }

    client.deregister("hello").await?;
    println!("removed");
    Ok(())
}
