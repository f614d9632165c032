//! Fail-over: from `kill -9` of the leader of three to the next acknowledged write.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tribune_integration::TestCluster;

use super::Readings;
use crate::record::Measure;
use crate::wire::{Connection, request};

const GAP: Measure = Measure::lower("3 servers: kill -9 of the leader to the next acknowledged write", "ms");
/// A client that was refused asks again after this.
const RETRY: Duration = Duration::from_millis(10);
/// Without a write for so long, the round has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// One kill. Afterwards the server is started again and the datacenter is whole.
pub(super) async fn round(cluster: &mut TestCluster) -> Result<Readings> {
    let leader = tokio::task::block_in_place(|| cluster.wait_leader())?;
    let left: Vec<_> = cluster.servers().filter(|server| *server != leader).collect();
    let left: Vec<_> = left.into_iter().map(|server| cluster.http(server)).collect();
    tokio::task::block_in_place(|| cluster.kill(leader))?;
    let killed = Instant::now();
    let mut writers = JoinSet::new();
    for address in left {
        writers.spawn(write_until_acknowledged(address));
    }
    let first = tokio::time::timeout(LIMIT, writers.join_next()).await;
    first.with_context(|| format!("no write within {LIMIT:?}"))?.context("no writer")??;
    let gap = killed.elapsed();
    writers.shutdown().await;
    tokio::task::block_in_place(|| {
        cluster.restart(leader)?;
        cluster.wait_formed()
    })?;
    Ok(vec![(GAP, gap.as_secs_f64() * 1000.0)])
}

async fn write_until_acknowledged(address: SocketAddr) {
    let put = request("PUT", "/v1/kv/failover", "written");
    loop {
        if let Ok(mut connection) = Connection::open(address).await
            && let Ok(answer) = connection.ask(&put).await
            && answer.status == 200
            && answer.body.starts_with(b"true")
        {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}
