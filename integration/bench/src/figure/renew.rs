//! Renewals: TTL checks that pass again unchanged, and sessions that live on; 64 clients, each with its own.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tribune_integration::TestCluster;

use super::{Effort, Readings};
use crate::load::{self, Shape};
use crate::process;
use crate::record::Measure;
use crate::wire::{Connection, request};

const CLIENTS: usize = 64;

const CHECKS: [Measure; 2] = [
    Measure::higher("3 servers: renewals of TTL checks, 64 clients", "renewals/s"),
    Measure::lower("3 servers: written to disk by all, TTL checks", "bytes/renewal"),
];
const SESSIONS: [Measure; 2] = [
    Measure::higher("3 servers: renewals of sessions, 64 clients", "renewals/s"),
    Measure::lower("3 servers: written to disk by all, sessions", "bytes/renewal"),
];

pub(super) async fn round(cluster: &TestCluster, effort: &Effort) -> Result<Readings> {
    let leader = cluster.http(cluster.leader()?);
    let mut connection = Connection::open(leader).await?;
    let mut sessions = Vec::new();
    for client in 0..CLIENTS {
        let check = json!({"Name": format!("renewed-{client}"), "Check": {"TTL": "1h", "Status": "passing"}});
        put(&mut connection, "/v1/agent/service/register", &check).await?;
        let session = json!({"TTL": "86400s", "LockDelay": "0s"});
        let created = put(&mut connection, "/v1/session/create", &session).await?;
        sessions.push(created["ID"].as_str().context("a session without ID")?.to_owned());
    }
    let check = |client: usize, _: u64| {
        request("PUT", &format!("/v1/agent/check/pass/service:renewed-{client}?note=alive"), "")
    };
    let mut readings = one(cluster, leader, effort, CHECKS, check).await?;
    let of = sessions.clone();
    let session =
        move |client: usize, _: u64| request("PUT", &format!("/v1/session/renew/{}", of[client]), "");
    readings.extend(one(cluster, leader, effort, SESSIONS, session).await?);
    for session in sessions {
        put(&mut connection, &format!("/v1/session/destroy/{session}"), &Value::Null).await?;
    }
    Ok(readings)
}

async fn one<R>(
    cluster: &TestCluster,
    address: SocketAddr,
    effort: &Effort,
    [rate, bytes]: [Measure; 2],
    renew: R,
) -> Result<Readings>
where
    R: Fn(usize, u64) -> Bytes + Send + Sync + 'static,
{
    let before = written(cluster)?;
    let shape = Shape { clients: CLIENTS, duration: effort.duration, rate: None };
    let tally = load::run(address, shape, renew, |answer| answer.status == 200).await?;
    ensure!(tally.wrong == 0, "{} of {} renewals were refused", tally.wrong, tally.answers);
    let written = written(cluster)? - before;
    Ok(vec![(rate, tally.per_second()), (bytes, written as f64 / tally.answers as f64)])
}

fn written(cluster: &TestCluster) -> Result<u64> {
    cluster.servers().map(|server| process::written_bytes(cluster.node(server).pid())).sum()
}

async fn put(connection: &mut Connection, path: &str, body: &Value) -> Result<Value> {
    let answer = connection.ask(&request("PUT", path, &body.to_string())).await?;
    ensure!(answer.status == 200, "PUT {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}
