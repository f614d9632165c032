//! The registrations that both servers hold, and how they get there.
//!
//! Ten instances to a service, a hundred to a node, every instance with one passing check, an address, two
//! tags and a pair of metadata: what a small real service brings along.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::json;

use crate::wire::{Connection, request};

/// Instances of each service: what the figures call "an answer of 10".
pub(crate) const INSTANCES_PER_SERVICE: usize = 10;
/// Clients that register at once while loading.
const LOADERS: usize = 64;
/// Loading is given up after this: something is wrong, and the next figure waits.
const LOADING_LIMIT: Duration = Duration::from_secs(900);

/// The name of the service that instance `number` belongs to.
pub(crate) fn service_of(number: usize) -> String {
    format!("web-{:05}", number / INSTANCES_PER_SERVICE)
}

/// The body of a catalog registration; `port` is what a changed registration changes.
pub(crate) fn registration(service: &str, number: usize, port: u16) -> String {
    let node = (number / 1000) * 10 + number % 10;
    let id = format!("{service}-{number:06}");
    let host = format!("10.{}.{}.{}", node / 62_500 + 1, (node / 250) % 250, node % 250 + 1);
    json!({
        "Node": format!("node-{node:04}"),
        "Address": host,
        "Service": {
            "ID": id, "Service": service, "Address": host, "Port": port,
            "Tags": ["v1", "primary"], "Meta": {"version": "1.4.2"},
        },
        "Check": {
            "CheckID": format!("service:{id}"), "Name": "Service check", "Status": "passing",
            "Output": "HTTP GET http://10.1.0.1: 200 OK", "ServiceID": id,
        },
    })
    .to_string()
}

/// The request that registers instance `number` of the data set.
pub(crate) fn instance(number: usize) -> Bytes {
    let port = 20_000 + (number % 10_000) as u16;
    request("PUT", "/v1/catalog/register", &registration(&service_of(number), number, port))
}

/// Registers instances `from..to` and says how long it took.
pub(crate) async fn load(address: SocketAddr, from: usize, to: usize) -> Result<Duration> {
    let next = Arc::new(AtomicUsize::new(from));
    let started = Instant::now();
    let mut loaders = tokio::task::JoinSet::new();
    for _ in 0..LOADERS {
        let next = next.clone();
        loaders.spawn(async move {
            let mut connection = Connection::open(address).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return Ok(());
                }
                let answer = connection.ask(&instance(number)).await?;
                if answer.status != 200 {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    bail!("registration {number} was answered {} {text}", answer.status);
                }
            }
        });
    }
    let all = async {
        while let Some(loader) = loaders.join_next().await {
            loader??;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(LOADING_LIMIT, all).await {
        Ok(done) => done.map(|()| started.elapsed()),
        Err(_) => bail!("loading {} instances took longer than {LOADING_LIMIT:?}", to - from),
    }
}
