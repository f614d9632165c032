//! Wake-up: from the acknowledgement of a change to the last of many blocked watchers holding the new answer.
//!
//! Before the change other services are changed for a while; a watcher that wakes then is counted as falsely
//! woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Effort, Readings};
use crate::dataset::{INSTANCES_PER_SERVICE, registration};
use crate::process;
use crate::record::Measure;
use crate::server::Server;
use crate::wire::{Connection, request};

/// Numbers of the watched instances and of the disturbing ones; apart from the data set's nodes.
const WATCHED_FROM: usize = 9_000_000;
const OTHERS_FROM: usize = 9_100_000;
/// Changes of other services while the watchers are parked.
const DISTURBANCES: u16 = 100;
/// Connections opened at once: the listen queue of both servers is finite.
const OPENING: usize = 128;
/// A watcher without the new answer after this is lost, and the round fails.
const WAKE_LIMIT: Duration = Duration::from_secs(30);
const PARK_LIMIT: Duration = Duration::from_secs(60);
/// A server that has used less than this of a second's half is taken to have parked everyone.
const IDLE: Duration = Duration::from_millis(40);

/// What the watchers have in common.
struct Crowd {
    /// Text that only the new answer contains.
    sign: String,
    false_wakes: AtomicU64,
    opening: Semaphore,
}

pub(super) async fn round(server: &Server, effort: &Effort) -> Result<Readings> {
    let mut readings = Readings::new();
    for &watchers in &effort.watchers {
        let (seconds, false_wakes) = one_crowd(server, watchers).await?;
        let (wake, woken) = measures(watchers)?;
        readings.push((wake, seconds * 1000.0));
        readings.push((woken, false_wakes));
    }
    Ok(readings)
}

fn measures(watchers: usize) -> Result<(Measure, Measure)> {
    Ok(match watchers {
        1_000 => (
            Measure::lower("wake-up of 1,000 watchers, the last", "ms"),
            Measure::lower("false wakes of 1,000 watchers", ""),
        ),
        10_000 => (
            Measure::lower("wake-up of 10,000 watchers, the last", "ms"),
            Measure::lower("false wakes of 10,000 watchers", ""),
        ),
        other => bail!("{other} watchers: only 1000 and 10000 are measured, so that runs can be compared"),
    })
}

async fn one_crowd(server: &Server, watchers: usize) -> Result<(f64, f64)> {
    let mut writer = Connection::open(server.http()).await?;
    for number in 0..INSTANCES_PER_SERVICE {
        change(&mut writer, "watched", WATCHED_FROM + number, 1024).await?;
    }
    let sign = format!("\"Port\":{}", 1025);
    let crowd = Arc::new(Crowd { sign, false_wakes: AtomicU64::new(0), opening: Semaphore::new(OPENING) });
    let (parked, mut is_parked) = mpsc::channel(watchers);
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        watching.spawn(watch(server.http(), crowd.clone(), parked.clone()));
    }
    tokio::time::timeout(PARK_LIMIT, async {
        for _ in 0..watchers {
            is_parked.recv().await.context("a watcher ended early")?;
        }
        until_idle(server).await
    })
    .await
    .context("the watchers were not parked in time")??;

    for turn in 0..DISTURBANCES {
        change(&mut writer, "other", OTHERS_FROM, 1024 + turn).await?;
    }
    until_idle(server).await?;
    let false_wakes = crowd.false_wakes.load(Ordering::Relaxed);

    change(&mut writer, "watched", WATCHED_FROM, 1025).await?;
    let acknowledged = Instant::now();
    let last = tokio::time::timeout(WAKE_LIMIT, async {
        let mut last = acknowledged;
        while let Some(woken) = watching.join_next().await {
            last = last.max(woken??);
        }
        anyhow::Ok(last)
    });
    let last = last.await.with_context(|| format!("not every watcher woke within {WAKE_LIMIT:?}"))??;
    Ok((last.duration_since(acknowledged).as_secs_f64(), false_wakes as f64))
}

/// One watcher: reads the service, blocks on its index, ends with the moment it holds the new answer.
async fn watch(
    address: std::net::SocketAddr,
    crowd: Arc<Crowd>,
    parked: mpsc::Sender<()>,
) -> Result<Instant> {
    let permit = crowd.opening.acquire().await?;
    let mut connection = Connection::open(address).await?;
    let mut answer = connection.ask(&request("GET", "/v1/health/service/watched", "")).await?;
    drop(permit);
    parked.send(()).await?;
    loop {
        let index = answer.index.context("an answer without X-Consul-Index")?;
        let path = format!("/v1/health/service/watched?index={index}&wait=120s");
        answer = connection.ask(&request("GET", &path, "")).await?;
        ensure!(answer.status == 200, "a watcher was answered {}", answer.status);
        let woken = Instant::now();
        if answer.body.windows(crowd.sign.len()).any(|window| window == crowd.sign.as_bytes()) {
            return Ok(woken);
        }
        crowd.false_wakes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the server has nothing left to do: a blocked query shows in no other way from outside.
async fn until_idle(server: &Server) -> Result<()> {
    loop {
        let before = process::processor_time(server.pid())?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if process::processor_time(server.pid())? - before <= IDLE {
            return Ok(());
        }
    }
}

async fn change(writer: &mut Connection, service: &str, number: usize, port: u16) -> Result<()> {
    let body = registration(service, number, port);
    let answer = writer.ask(&request("PUT", "/v1/catalog/register", &body)).await?;
    ensure!(answer.status == 200, "a change was answered {}", answer.status);
    Ok(())
}
