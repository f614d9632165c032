//! The agent as a whole: registering, renewing, probing, syncing, restarting.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alerts;
mod datacenter;
mod list;
mod probes;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tribune_core::{
    CheckDefinition, CheckId, CheckSpec, InstanceId, Pairs, ServiceInstance, ServiceName, Status, Weights,
};
use tribune_local::{Config, Definitions, LocalAgent, Running, StoreAt};

use datacenter::{Datacenter, node};

fn memory() -> Config {
    Config::new(node(), StoreAt::Memory)
}

async fn start(config: Config, catalog: &Arc<Datacenter>) -> (LocalAgent, Running) {
    LocalAgent::start(config, catalog.clone(), Definitions::default()).await.unwrap()
}

fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

fn service(id: &str) -> ServiceInstance {
    ServiceInstance {
        id: instance(id),
        name: ServiceName::new(id).unwrap(),
        tags: Box::default(),
        address: Default::default(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port: 80,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    }
}

fn check(id: &str, definition: CheckDefinition) -> CheckSpec {
    CheckSpec::new(CheckId::new(id).unwrap(), id, definition)
}

fn ttl(id: &str, seconds: u64) -> CheckSpec {
    let ttl = Some(Duration::from_secs(seconds));
    check(id, CheckDefinition { ttl, ..CheckDefinition::default() })
}

/// Waits until a check of the agent is as wished for, and gives its output.
async fn eventually(agent: &LocalAgent, id: &str, wished: impl Fn(Status, &str) -> bool) -> String {
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        let snapshot = agent.checks();
        let Some(check) = snapshot.check(id) else { panic!("there is no check {id}") };
        if wished(check.status, &check.output) {
            return check.output.to_string();
        }
        assert!(Instant::now() < until, "{id} stayed {} ({})", check.status, check.output);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
