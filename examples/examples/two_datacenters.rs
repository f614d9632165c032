//! As `watch_service`, but across datacenters: a service is used where it is near, and elsewhere while no instance
//! here is healthy. Ends by itself after the changes that it makes; with a name as argument it follows that service
//! until it is stopped.
//!
//! ```text
//! cargo run --release -- demo                                     # in one terminal
//! cargo run -p tribune-examples --example two_datacenters         # in another
//! ```

use futures::StreamExt;
use tribune_client::agent::ServiceDefinition;
use tribune_client::{Client, Error, Watch, agent, catalog, health};
use tribune_examples::connect;

type Instances = Vec<health::ServiceEntry>;

/// A service of the demo that only its second datacenter has.
const BILLING: &str = "billing";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = connect().await?;
    if let Some(name) = std::env::args().nth(1) {
        let mut here = client.watch(health::service(&name).passing());
        loop {
            follow(&client, &name, &mut here).await?;
        }
    }
    let mut here = client.watch(health::service(BILLING).passing());
    follow(&client, BILLING, &mut here).await?;

    println!("an instance comes up here");
    let nearby = ServiceDefinition {
        name: BILLING.into(),
        id: "billing-nearby".into(),
        port: 9099,
        ..ServiceDefinition::default()
    };
    client.register(&nearby).await?;
    follow(&client, BILLING, &mut here).await?;

    println!("and goes away again");
    client.deregister("billing-nearby").await?;
    follow(&client, BILLING, &mut here).await
}

/// Waits for the next change here, and says where the service is to be used now.
async fn follow(client: &Client, name: &str, here: &mut Watch<Instances>) -> anyhow::Result<()> {
    let Some(change) = here.next().await else { return Ok(()) };
    let own = match change {
        Ok(answer) => answer.value,
        // The agents here are away: other datacenters cannot be asked through them either.
        Err(error) => {
            println!("nothing new for now: {error}");
            return Ok(());
        }
    };
    if !own.is_empty() {
        tell("this datacenter", &own);
        return Ok(());
    }
    match elsewhere(client, name).await? {
        Some((datacenter, found)) => tell(&datacenter, &found),
        None => println!("{name} has no healthy instance anywhere"),
    }
    Ok(())
}

/// The nearest other datacenter with healthy instances.
async fn elsewhere(client: &Client, name: &str) -> Result<Option<(String, Instances)>, Error> {
    let own = client.ask(&agent::info()).await?.value.config.datacenter;
    // Nearest first, as seen from the agent.
    for datacenter in client.ask(&catalog::datacenters()).await?.value {
        if datacenter == own {
            continue;
        }
        let question = health::service(name).passing().datacenter(&datacenter);
        match client.ask(&question).await.and_then(tribune_client::Answer::fresh) {
            Ok(found) if found.is_empty() => println!("{datacenter} has none either"),
            Ok(found) => return Ok(Some((datacenter, found))),
            Err(error) => println!("{datacenter} cannot be asked: {error}"),
        }
    }
    Ok(None)
}

fn tell(place: &str, instances: &[health::ServiceEntry]) {
    for health::ServiceEntry { node, service, .. } in instances {
        let address = if service.address.is_empty() { &node.address } else { &service.address };
        println!("use {} at {address}:{} in {place}", service.id, service.port);
    }
}
