//! One agent, one service: register it, renew its check, find it, remove it. Start here.
//!
//! ```text
//! cargo run --release -- agent -dev                               # in one terminal
//! cargo run -p tribune-examples --example single_node             # in another
//! ```

use std::time::Duration;

use futures::StreamExt;
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

    // Nobody is sent to it before its check passes. A watch tells when the catalog has heard that it does.
    let mut changes = client.watch(health::service("hello").passing());
    client.renew_check("hello-alive", Status::Passing, "all is well").await?;
    while let Some(change) = changes.next().await {
        let found = change?;
        println!("passing instances at index {}: {}", found.index, found.value.len());
        for health::ServiceEntry { node, service, .. } in &found.value {
            println!("  {} on {} at {}:{}", service.id, node.node, node.address, service.port);
        }
        if !found.value.is_empty() {
            break;
        }
    }

    client.deregister("hello").await?;
    println!("removed");
    Ok(())
}
