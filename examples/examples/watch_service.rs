//! As `single_node`, but seen from the other side: follows a service and tells of every change. Ends by itself
//! after the changes that it makes; with a name as argument it follows that service until it is stopped.
//!
//! ```text
//! cargo run -p tribune-examples --example watch_service -- web
//! ```

use futures::StreamExt;
use tribune_client::agent::ServiceDefinition;
use tribune_client::{Client, Watch, health};
use tribune_examples::connect;

type Instances = Vec<health::ServiceEntry>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = connect().await?;
    if let Some(name) = std::env::args().nth(1) {
        let mut changes = client.watch(health::service(&name).passing());
        loop {
            tell(&name, &mut changes).await;
        }
    }
    let mut changes = client.watch(health::service("stall").passing());
    tell("stall", &mut changes).await;
    set_up(&client, 7001).await?;
    tell("stall", &mut changes).await;
    set_up(&client, 7002).await?;
    tell("stall", &mut changes).await;
    for port in [7001, 7002] {
        client.deregister(&format!("stall-{port}")).await?;
        tell("stall", &mut changes).await;
    }
    Ok(())
}

/// Waits for the next change and prints it.
async fn tell(name: &str, changes: &mut Watch<Instances>) {
    match changes.next().await {
        Some(Ok(answer)) => {
            let ports: Vec<u16> = answer.value.iter().map(|entry| entry.service.port).collect();
            println!("index {}: {name} is offered on ports {ports:?}", answer.index);
        }
        Some(Err(error)) => println!("nothing new for now, the last answer still stands: {error}"),
        None => {}
    }
}

async fn set_up(client: &Client, port: u16) -> anyhow::Result<()> {
    let id = format!("stall-{port}");
    let stall = ServiceDefinition { name: "stall".into(), id, port, ..ServiceDefinition::default() };
    Ok(client.register(&stall).await?)
}
