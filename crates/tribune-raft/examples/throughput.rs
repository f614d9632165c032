//! How many durable registrations per second one replica takes, alone on a disk.
//!
//! `cargo run --release -p tribune-raft --example throughput -- <directory> [tasks] [seconds]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tribune_core::{
    Authority, Command, InstanceId, Node, NodeName, Registration, ServiceInstance, ServiceName, Weights,
};
use tribune_raft::{Config, Replica, ServerInfo, Storage};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().context("give a directory that is not there yet")?);
    let tasks: Vec<u32> = match arguments.next() {
        Some(tasks) => vec![tasks.parse()?],
        None => vec![1, 64, 256],
    };
    let seconds: u64 = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let server = ServerInfo {
        id: "throughput".to_owned(),
        name: NodeName::new("throughput")?,
        address: ([127, 0, 0, 1], 8300).into(),
    };
    let config = Config { bootstrap: true, ..Config::new(Storage::Directory(directory), server) };
    let begun = Instant::now();
    let replica = Replica::start(config).await?;
    println!("started in {:?} at entry {}", begun.elapsed(), replica.cluster().applied);
    let number = Arc::new(AtomicU32::new(replica.cluster().applied.0 as u32));
    for tasks in tasks {
        measure(&replica, &number, tasks, Duration::from_secs(seconds)).await?;
    }
    replica.shutdown().await;
    Ok(())
}

async fn measure(
    replica: &Replica,
    number: &Arc<AtomicU32>,
    tasks: u32,
    span: Duration,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let first = number.load(Ordering::Relaxed);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (replica, number) = (replica.clone(), number.clone());
        writers.spawn(async move {
            let mut slowest = Duration::ZERO;
            while begun.elapsed() < span {
                let sent = Instant::now();
                let command = registration(number.fetch_add(1, Ordering::Relaxed))?;
                replica.propose(&Authority::unrestricted(), command).await?;
                slowest = slowest.max(sent.elapsed());
            }
            anyhow::Ok(slowest)
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(writer) = writers.join_next().await {
        slowest = slowest.max(writer??);
    }
    let written = f64::from(number.load(Ordering::Relaxed) - first);
    let per_second = written / begun.elapsed().as_secs_f64();
    println!("{tasks:>4} tasks: {per_second:>8.0} registrations/s, slowest {slowest:?}");
    Ok(())
}

/// A thousand services, a hundred nodes each in the long run.
fn registration(number: u32) -> anyhow::Result<Command> {
    let node = Node {
        name: NodeName::new(format!("node-{}", number % 1000))?,
        id: Default::default(),
        address: "10.0.0.1".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
    };
    let service = ServiceInstance {
        id: InstanceId::new(format!("web-{}", number / 1000 % 100))?,
        name: ServiceName::new(format!("web-{}", number / 1000 % 100))?,
        tags: ["primary".into(), format!("v{}", number % 4).into()].into(),
        address: "10.0.0.2".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
        port: 8080,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    };
    let service = Some(service);
    Ok(Command::Register(Box::new(Registration { node, skip_node_update: false, service, checks: vec![] })))
}
