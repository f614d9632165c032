//! Two datacenters of one server: what one answers about the other, near and far, and alone when the link is cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tribune_integration::{Condition, Federation, FederationSettings, Member};

use super::{Effort, Readings, dns};
use crate::dataset::{self, INSTANCES_PER_SERVICE, registration, service_of};
use crate::load::{self, Shape, Tally};
use crate::record::Measure;
use crate::server::Program;
use crate::wire::{Connection, request};

/// Registered in each datacenter.
pub(crate) const INSTANCES: usize = 1000;
const CLIENTS: usize = 64;
const DATACENTER: &str = "dc2";
/// Changes whose way to the watcher is timed; the median counts.
const CHANGES: u16 = 15;
/// A watcher without the change after this has lost it.
const WATCH_LIMIT: Duration = Duration::from_secs(30);
/// Local requests per second while latency is looked at: far from what either program can do.
const LOCAL_RATE: u32 = 500;
const LOCAL_CLIENTS: usize = 8;
/// Clients that keep asking for the lost datacenter meanwhile.
const HOPEFUL: usize = 4;

/// How far the datacenters are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// On one machine, without anything between.
    Near,
    /// Through the harness's link with a round trip of 80 ms.
    Far,
}

struct Measures {
    plain: Measure,
    cached: Measure,
    dns: Measure,
    change: Measure,
}

const NEAR: Measures = Measures {
    plain: Measure::higher("?dc=, 64 clients, 0 ms", "requests/s"),
    cached: Measure::higher("?dc=&cached, 64 clients, 0 ms", "requests/s"),
    dns: Measure::higher("DNS SRV of the other datacenter, 0 ms", "queries/s"),
    change: Measure::lower("change to watcher in the other datacenter, 0 ms", "ms"),
};
const FAR: Measures = Measures {
    plain: Measure::higher("?dc=, 64 clients, 80 ms", "requests/s"),
    cached: Measure::higher("?dc=&cached, 64 clients, 80 ms", "requests/s"),
    dns: Measure::higher("DNS SRV of the other datacenter, 80 ms", "queries/s"),
    change: Measure::lower("change to watcher in the other datacenter, 80 ms", "ms"),
};
const UNDISTURBED: Measure = Measure::lower("local health, p99 undisturbed", "ms");
const CUT_OFF: Measure = Measure::lower("local health, p99 with the link cut", "ms");

impl Distance {
    pub(crate) const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// Starts two datacenters at this distance and fills both.
    pub(crate) async fn start(self, program: &Program) -> Result<Federation> {
        let settings = FederationSettings {
            program: program.under_test(),
            linked: self == Self::Far,
            ..FederationSettings::linked(vec![Member::new("dc1", 1, 0), Member::new(DATACENTER, 1, 0)])
        };
        let federation = tokio::task::block_in_place(|| Federation::start_with(settings))?;
        for number in 0..2 {
            dataset::load(federation.dc(number).http(0), 0, INSTANCES).await?;
        }
        if self == Self::Far {
            federation.delay(Duration::from_millis(80))?;
        }
        Ok(federation)
    }
}

/// One round of all measures at this distance.
pub(crate) async fn round(federation: &Federation, distance: Distance, effort: &Effort) -> Result<Readings> {
    let (here, there) = (federation.dc(0).http(0), federation.dc(1).http(0));
    let measures = if distance == Distance::Near { NEAR } else { FAR };
    let mut readings = Readings::new();
    for (measure, flag) in [(measures.plain, ""), (measures.cached, "&cached")] {
        let shape = Shape { clients: CLIENTS, duration: effort.duration, rate: None };
        let tally = ask(here, shape, format!("&dc={DATACENTER}{flag}")).await?;
        ensure!(
            tally.wrong == 0,
            "{} of {} answers about {DATACENTER} were wrong",
            tally.wrong,
            tally.answers
        );
        readings.push((measure, tally.per_second()));
    }
    readings.push((measures.dns, dns_rate(federation, effort).await?));
    readings.push((measures.change, change_to_watcher(here, there).await?));
    if distance == Distance::Far {
        readings.extend(local(federation, here, effort).await?);
    }
    Ok(readings)
}

async fn ask(address: SocketAddr, shape: Shape, more: String) -> Result<Tally> {
    let services = INSTANCES / INSTANCES_PER_SERVICE;
    let requests: Vec<Bytes> = (0..services)
        .map(|service| {
            let name = service_of(service * INSTANCES_PER_SERVICE);
            request("GET", &format!("/v1/health/service/{name}?passing{more}"), "")
        })
        .collect();
    let pick = move |client: usize, turn: u64| requests[(client * 61 + turn as usize) % services].clone();
    // Ten instances cannot be said in less.
    load::run(address, shape, pick, |answer| answer.status == 200 && answer.body.len() > 3000).await
}

async fn dns_rate(federation: &Federation, effort: &Effort) -> Result<f64> {
    let services = INSTANCES / INSTANCES_PER_SERVICE;
    let names = (0..services).map(|service| service_of(service * INSTANCES_PER_SERVICE));
    let questions: Arc<Vec<_>> = Arc::new(names.map(|name| dns::question(&name, Some(DATACENTER))).collect());
    let (address, duration) = (federation.dc(0).node(0).dns(), effort.duration);
    tokio::task::spawn_blocking(move || Ok(dns::flood(address, &questions, duration)?.per_second())).await?
}

/// The median time from sending a change there until a watcher here has it, in milliseconds.
async fn change_to_watcher(here: SocketAddr, there: SocketAddr) -> Result<f64> {
    let (mut watcher, mut writer) = (Connection::open(here).await?, Connection::open(there).await?);
    let number = 9_200_000;
    let change = |port| request("PUT", "/v1/catalog/register", &registration("far", number, port));
    let salt = super::register::salt()? % 30_000;
    writer.ask(&change(1024 + salt as u16)).await?;
    let path = format!("/v1/health/service/far?dc={DATACENTER}");
    let mut times = Vec::new();
    for turn in 1..=CHANGES {
        let now = watcher.ask(&request("GET", &path, "")).await?;
        let index = now.index.context("an answer without X-Consul-Index")?;
        let port = 1024 + salt as u16 + turn;
        let sign = format!("\"Port\":{port}");
        let wait = async {
            let mut index = index;
            loop {
                let target = format!("{path}&index={index}&wait=60s");
                let answer = watcher.ask(&request("GET", &target, "")).await?;
                if answer.body.windows(sign.len()).any(|part| part == sign.as_bytes()) {
                    return anyhow::Ok(Instant::now());
                }
                index = answer.index.context("an answer without X-Consul-Index")?;
            }
        };
        let write = async {
            // The question needs its way to be parked before the change.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let sent = Instant::now();
            writer.ask(&change(port)).await?;
            anyhow::Ok(sent)
        };
        let both = tokio::time::timeout(WATCH_LIMIT, async { tokio::try_join!(wait, write) }).await;
        let (seen, sent) = both.context("a watcher missed a change")??;
        times.push(seen.duration_since(sent).as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Local latency as it is, and while the other datacenter is gone and clients keep asking for it.
async fn local(federation: &Federation, here: SocketAddr, effort: &Effort) -> Result<Readings> {
    let shape = Shape { clients: LOCAL_CLIENTS, duration: effort.duration, rate: Some(LOCAL_RATE) };
    let undisturbed = ask(here, shape, String::new()).await?;
    tokio::task::block_in_place(|| federation.set_all(Condition::Silent))?;
    let mut hopeful = tokio::task::JoinSet::new();
    for _ in 0..HOPEFUL {
        hopeful.spawn(async move {
            let path = format!("/v1/health/service/{}?dc={DATACENTER}", service_of(0));
            let lost = request("GET", &path, "");
            // Whatever it is told: it is there to be in the way.
            while let Ok(mut connection) = Connection::open(here).await {
                let _ = connection.ask(&lost).await;
            }
        });
    }
    let cut_off = ask(here, shape, String::new()).await;
    hopeful.shutdown().await;
    tokio::task::block_in_place(|| {
        federation.set_all(Condition::Open)?;
        federation.wait_joined()
    })?;
    let cut_off = cut_off?;
    for (how, tally) in [("undisturbed", &undisturbed), ("cut off", &cut_off)] {
        ensure!(tally.wrong == 0, "{how}: {} of {} local answers were wrong", tally.wrong, tally.answers);
    }
    Ok(vec![(UNDISTURBED, undisturbed.p99_ms()), (CUT_OFF, cut_off.p99_ms())])
}
