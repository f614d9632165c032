//! HTTP: health of a service of ten instances, default and stale.

use bytes::Bytes;

use anyhow::{Result, ensure};

use super::{Effort, Readings};
use crate::dataset::{INSTANCES_PER_SERVICE, service_of};
use crate::load::{self, Shape};
use crate::process;
use crate::record::Measure;
use crate::server::Server;
use crate::wire::request;

/// Connections that ask at once, each one request after the other.
const CLIENTS: usize = 16;
/// Services asked for in turn; more would only measure the generator's memory.
const SERVICES: usize = 1000;
/// Ten instances cannot be said in less; an answer shorter than this is not the answer.
const BODY_BYTES_MIN: usize = 3000;

const DEFAULT: [Measure; 3] = [
    Measure::higher("HTTP health of 10, default", "requests/s"),
    Measure::lower("HTTP health of 10, default: processor time", "µs/request"),
    Measure::lower("HTTP health of 10, default: p99 at fixed rate", "ms"),
];
const STALE: [Measure; 3] = [
    Measure::higher("HTTP health of 10, stale", "requests/s"),
    Measure::lower("HTTP health of 10, stale: processor time", "µs/request"),
    Measure::lower("HTTP health of 10, stale: p99 at fixed rate", "ms"),
];

pub(super) async fn round(server: &Server, instances: usize, effort: &Effort) -> Result<Readings> {
    let mut readings = Readings::new();
    for (measures, flag) in [(DEFAULT, ""), (STALE, "&stale")] {
        readings.extend(one_mode(server, instances, effort, measures, flag).await?);
    }
    Ok(readings)
}

async fn one_mode(
    server: &Server,
    instances: usize,
    effort: &Effort,
    measures: [Measure; 3],
    flag: &str,
) -> Result<Readings> {
    let requests = requests(instances, flag);
    let first = server.get(&format!("/v1/health/service/{}?passing{flag}", service_of(0))).await?;
    let found = serde_json::from_slice::<Vec<serde_json::Value>>(&first.body)?.len();
    ensure!(found == INSTANCES_PER_SERVICE, "a service of {INSTANCES_PER_SERVICE} was answered with {found}");

    let shape = Shape { clients: CLIENTS, duration: effort.duration, rate: None };
    let before = process::processor_time(server.pid())?;
    let fast = run(server, shape, requests.clone()).await?;
    let used = process::processor_time(server.pid())? - before;
    let paced = run(server, Shape { rate: Some(effort.http_rate), ..shape }, requests).await?;
    let per_request = used.as_secs_f64() * 1e6 / fast.answers as f64;
    Ok(vec![(measures[0], fast.per_second()), (measures[1], per_request), (measures[2], paced.p99_ms())])
}

async fn run(server: &Server, shape: Shape, requests: Vec<Bytes>) -> Result<load::Tally> {
    let count = requests.len();
    let pick = move |client: usize, turn: u64| requests[(client * 61 + turn as usize) % count].clone();
    let tally = load::run(server.http(), shape, pick, |answer| {
        answer.status == 200 && answer.body.len() >= BODY_BYTES_MIN
    })
    .await?;
    ensure!(tally.wrong == 0, "{} of {} answers were wrong", tally.wrong, tally.answers);
    Ok(tally)
}

fn requests(instances: usize, flag: &str) -> Vec<Bytes> {
    let services = (instances / INSTANCES_PER_SERVICE).min(SERVICES);
    (0..services)
        .map(|service| {
            let name = service_of(service * INSTANCES_PER_SERVICE);
            request("GET", &format!("/v1/health/service/{name}?passing{flag}"), "")
        })
        .collect()
}
