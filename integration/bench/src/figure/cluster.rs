//! Three servers: durable writes with one client and with many, consistent reads at the leader and at a follower.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tribune_integration::TestCluster;

use super::register::{catalog, run, salt};
use super::{Effort, Readings};
use crate::load::Shape;
use crate::record::Measure;
use crate::wire::{Connection, request};

const MANY: usize = 64;
/// Keys that are written and read in turn, each client its own.
const KEYS: u64 = 16;

const REGISTER_ONE: Measure = Measure::higher("3 servers: catalog register, 1 client", "registrations/s");
const REGISTER_MANY: Measure = Measure::higher("3 servers: catalog register, 64 clients", "registrations/s");
const PUT_ONE: Measure = Measure::higher("3 servers: KV put, 1 client", "puts/s");
const PUT_MANY: Measure = Measure::higher("3 servers: KV put, 64 clients", "puts/s");
const READ_LEADER: Measure = Measure::higher("3 servers: consistent KV reads, 64 clients, leader", "reads/s");
const READ_FOLLOWER: Measure =
    Measure::higher("3 servers: consistent KV reads, 64 clients, follower", "reads/s");

pub(super) async fn round(cluster: &TestCluster, effort: &Effort) -> Result<Readings> {
    let leader = cluster.http(cluster.leader()?);
    let follower = cluster.followers()?.first().map(|server| cluster.http(*server));
    let follower = follower.context("there is no follower")?;
    let salt = salt()?;
    let shape = |clients| Shape { clients, duration: effort.duration, rate: None };
    let mut readings = Readings::new();
    for (measure, clients) in [(REGISTER_ONE, 1), (REGISTER_MANY, MANY)] {
        let register = move |client: usize, turn: u64| catalog(client, turn, salt);
        readings.push((measure, run(leader, shape(clients), register).await?));
    }
    for (measure, clients) in [(PUT_ONE, 1), (PUT_MANY, MANY)] {
        let put = move |client: usize, turn: u64| put(client, turn, salt);
        readings.push((measure, run(leader, shape(clients), put).await?));
    }
    fill(leader).await?;
    for (measure, address) in [(READ_LEADER, leader), (READ_FOLLOWER, follower)] {
        readings.push((measure, run(address, shape(MANY), read).await?));
    }
    Ok(readings)
}

fn put(client: usize, turn: u64, salt: u64) -> Bytes {
    let body = format!("value {turn} of client {client} since {salt}");
    request("PUT", &format!("/v1/kv/bench/{client}/{}", turn % KEYS), &body)
}

fn read(client: usize, turn: u64) -> Bytes {
    request("GET", &format!("/v1/kv/bench/{client}/{}?consistent", turn % KEYS), "")
}

/// Writes every key that is read.
async fn fill(leader: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(leader).await?;
    for (client, turn) in (0..MANY).flat_map(|client| (0..KEYS).map(move |turn| (client, turn))) {
        let answer = connection.ask(&put(client, turn, 0)).await?;
        ensure!(answer.status == 200, "a put was answered {}", answer.status);
    }
    Ok(())
}
