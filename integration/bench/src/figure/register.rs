//! Durable registrations that change something, with one client and with many.
//!
//! The clients go round a ring of instances and change a port each time, so that the catalog does not grow
//! while it is measured. Growth is seen by measuring at several sizes, and while loading.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::json;

use super::{Effort, Readings};
use crate::dataset::registration;
use crate::load::{self, Shape};
use crate::record::Measure;
use crate::server::Server;
use crate::wire::request;

/// New instances per second while the data set is loaded by 64 clients.
pub(crate) const LOAD_RATE: Measure = Measure::higher("load: new instances, 64 clients", "registrations/s");
/// Bytes written to disk for each of them.
pub(crate) const LOAD_BYTES: Measure = Measure::lower("load: written to disk", "bytes/registration");

const MANY: usize = 64;
/// Instances that each client of the catalog goes round.
const CATALOG_RING: u64 = 16;
/// Instances that each client of the agent goes round: an agent has some dozens, not thousands.
const AGENT_RING: u64 = 2;

const CATALOG_ONE: Measure = Measure::higher("catalog register, 1 client", "registrations/s");
const CATALOG_MANY: Measure = Measure::higher("catalog register, 64 clients", "registrations/s");
const AGENT_ONE: Measure = Measure::higher("agent register, 1 client", "registrations/s");
const AGENT_MANY: Measure = Measure::higher("agent register, 64 clients", "registrations/s");

pub(super) async fn round(server: &Server, effort: &Effort) -> Result<Readings> {
    let salt = salt()?;
    let mut readings = Readings::new();
    for (measure, clients) in [(CATALOG_ONE, 1), (CATALOG_MANY, MANY)] {
        let shape = Shape { clients, duration: effort.duration, rate: None };
        let rate = run(server.http(), shape, move |client, turn| catalog(client, turn, salt)).await?;
        readings.push((measure, rate));
    }
    for (measure, clients) in [(AGENT_ONE, 1), (AGENT_MANY, MANY)] {
        let shape = Shape { clients, duration: effort.duration, rate: None };
        let rate = run(server.http(), shape, move |client, turn| agent(client, turn, salt)).await?;
        readings.push((measure, rate));
    }
    Ok(readings)
}

/// Each round begins with ports that the one before did not leave behind, so that every write is a change.
pub(super) fn salt() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64)
}

pub(super) async fn run<R>(address: SocketAddr, shape: Shape, request: R) -> Result<f64>
where
    R: Fn(usize, u64) -> Bytes + Send + Sync + 'static,
{
    let tally = load::run(address, shape, request, |answer| answer.status == 200).await?;
    ensure!(tally.wrong == 0, "{} of {} requests were refused", tally.wrong, tally.answers);
    Ok(tally.per_second())
}

fn port(turn: u64, ring: u64, salt: u64) -> u16 {
    1024 + ((turn / ring + salt) % 60_000) as u16
}

pub(super) fn catalog(client: usize, turn: u64, salt: u64) -> Bytes {
    let number = client * CATALOG_RING as usize + (turn % CATALOG_RING) as usize;
    let service = format!("ring-{:04}", number / 10);
    request("PUT", "/v1/catalog/register", &registration(&service, number, port(turn, CATALOG_RING, salt)))
}

fn agent(client: usize, turn: u64, salt: u64) -> Bytes {
    let id = format!("own-{client:02}-{}", turn % AGENT_RING);
    let body = json!({
        "Name": format!("own-{client:02}"), "ID": id, "Port": port(turn, AGENT_RING, salt),
        "Tags": ["v1", "primary"], "Meta": {"version": "1.4.2"},
        "Check": {"TTL": "1h", "Status": "passing"},
    });
    request("PUT", "/v1/agent/service/register", &body.to_string())
}
