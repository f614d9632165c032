//! Blocking questions and indexes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Door, good, index};

/// What a blocked question may wait at most; the change comes long before.
const WAIT: Duration = Duration::from_secs(30);

pub(super) fn wakes(door: &Door) -> Result<()> {
    let (node, name, key) = (door.own("wake-node"), door.own("wake"), door.own("wake-key"));
    let service =
        |port: u16| json!({"Node": node, "Address": "10.9.0.5", "Service": {"Service": name, "Port": port}});
    door.catalog("register", service(1))?;
    good("PUT", &key, door.send("PUT", &format!("/v1/kv/{key}"), "before")?)?;
    let questions = [
        format!("/v1/health/service/{name}"),
        format!("/v1/catalog/service/{name}"),
        format!("/v1/catalog/node/{node}"),
        format!("/v1/kv/{key}"),
    ];
    let parked = questions
        .iter()
        .map(|path| Ok((path, index(&good("GET", path, door.send("GET", path, "")?)?)?)))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let waiting: Vec<_> =
            parked.iter().map(|(path, from)| scope.spawn(move || blocked(door, path, *from))).collect();
        // Whether the questions are parked already does not matter: they must not miss the change either way.
        door.catalog("register", service(2))?;
        good("PUT", &key, door.send("PUT", &format!("/v1/kv/{key}"), "after")?)?;
        for waiter in waiting {
            waiter.join().ok().context("a waiter panicked")??;
        }
        anyhow::Ok(())
    })?;
    door.catalog("deregister", json!({"Node": node}))?;
    good("DELETE", &key, door.send("DELETE", &format!("/v1/kv/{key}"), "")?).map(drop)
}

/// Asks until the change shows: a wake without a change is allowed, a missed one is not.
fn blocked(door: &Door, path: &str, mut from: u64) -> Result<()> {
    let started = Instant::now();
    loop {
        let target = format!("{path}?index={from}&wait={}s", WAIT.as_secs());
        let answer = good("GET", &target, door.send("GET", &target, "")?)?;
        let now = index(&answer)?;
        ensure!(now >= from, "{path}: the index fell from {from} to {now}");
        ensure!(started.elapsed() < WAIT, "{path} slept through the change");
        let text = answer.text();
        // Port 2, or the base64 of the new value.
        if text.contains("Port\":2,") || text.contains("YWZ0ZXI=") {
            ensure!(now > from, "{path}: a change without a higher index");
            return Ok(());
        }
        from = now;
    }
}

pub(super) fn times_out(door: &Door) -> Result<()> {
    let path = format!("/v1/health/service/{}", door.own("nobody"));
    let from = index(&good("GET", &path, door.send("GET", &path, "")?)?)?;
    let started = Instant::now();
    let target = format!("{path}?index={}&wait=300ms", from + 1_000_000);
    let answer = good("GET", &target, door.send("GET", &target, "")?)?;
    let waited = started.elapsed();
    ensure!(waited >= Duration::from_millis(300), "it came after {waited:?}");
    ensure!(waited < WAIT / 2, "it came after {waited:?}");
    ensure!(answer.text() == "[]", "{}", answer.text());
    Ok(())
}

pub(super) fn indexes_rise(door: &Door) -> Result<()> {
    let (node, name) = (door.own("rise-node"), door.own("rise"));
    let path = format!("/v1/health/service/{name}?consistent");
    let look = || index(&good("GET", &path, door.send("GET", &path, "")?)?);
    let mut last = look()?;
    for port in 1..8 {
        let service = json!({"Service": name, "Port": port});
        let body = json!({"Node": node, "Address": "10.9.0.6", "Service": service});
        door.catalog("register", body.clone())?;
        let now = look()?;
        ensure!(now > last, "change {port}: index {now} after {last}");
        door.catalog("register", body)?;
        ensure!(look()? == now, "an unchanged registration moved the index");
        last = now;
    }
    door.catalog("deregister", json!({"Node": node}))?;
    ensure!(look()? >= last, "the index fell when the service went");
    Ok(())
}
