//! HTTP load: as fast as the server answers, or at a fixed rate to see latencies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::wire::{Connection, Response};

/// How long after its end a run may wait for the answers it is still owed.
const GRACE: Duration = Duration::from_secs(20);

/// What a run counted.
pub(crate) struct Tally {
    pub(crate) answers: u64,
    /// Answers that the caller's check did not accept.
    pub(crate) wrong: u64,
    /// Microseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) elapsed: Duration,
}

/// Who asks, how often and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
    /// Requests per second over all clients; without it each client asks again as soon as it is answered.
    pub(crate) rate: Option<u32>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        // Three digits up to any value: cannot fail for these arguments.
        let latencies = Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are supported"));
        Self { answers: 0, wrong: 0, latencies, elapsed: Duration::ZERO }
    }

    pub(crate) fn count(&mut self, latency: Duration, right: bool) {
        self.answers += 1;
        self.wrong += u64::from(!right);
        self.latencies.saturating_record(latency.as_micros() as u64);
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        self.answers += other.answers;
        self.wrong += other.wrong;
        self.elapsed = self.elapsed.max(other.elapsed);
        Ok(self.latencies.add(&other.latencies)?)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// The 99th percentile in milliseconds.
    pub(crate) fn p99_ms(&self) -> f64 {
        self.latencies.value_at_quantile(0.99) as f64 / 1000.0
    }
}

/// Runs one load; `request` is given the client's number and how often it has asked before.
pub(crate) async fn run<R, C>(address: SocketAddr, shape: Shape, request: R, right: C) -> Result<Tally>
where
    R: Fn(usize, u64) -> Bytes + Send + Sync + 'static,
    C: Fn(&Response) -> bool + Send + Sync + 'static,
{
    let (request, right) = (Arc::new(request), Arc::new(right));
    let mut clients = JoinSet::new();
    for client in 0..shape.clients {
        let mut connection = Connection::open(address).await?;
        let (request, right) = (request.clone(), right.clone());
        clients.spawn(async move {
            let mut pace = Pace::new(shape, client);
            let mut tally = Tally::new();
            while let Some(since) = pace.next().await {
                let answer = connection.ask(&request(client, tally.answers)).await?;
                tally.count(since.elapsed(), right(&answer));
            }
            tally.elapsed = pace.started.elapsed();
            anyhow::Ok(tally)
        });
    }
    let all = async {
        let mut total = Tally::new();
        while let Some(tally) = clients.join_next().await {
            total.merge(&tally??)?;
        }
        anyhow::Ok(total)
    };
    match tokio::time::timeout(shape.duration + GRACE, all).await {
        Ok(total) => total,
        Err(_) => bail!("no answer for {GRACE:?}"),
    }
}

/// When a client asks next, and from when its latency counts.
struct Pace {
    started: Instant,
    end: Instant,
    due: Instant,
    step: Option<Duration>,
}

impl Pace {
    fn new(shape: Shape, client: usize) -> Self {
        let started = Instant::now();
        let step = shape.rate.map(|rate| Duration::from_secs_f64(shape.clients as f64 / f64::from(rate)));
        let offset = step.map_or(Duration::ZERO, |step| step.mul_f64(client as f64 / shape.clients as f64));
        Self { started, end: started + shape.duration, due: started + offset, step }
    }

    /// A client that is late counts from when it should have asked: waiting behind a slow answer is latency too.
    async fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.end || self.due >= self.end {
            return None;
        }
        let Some(step) = self.step else { return Some(now) };
        let due = self.due;
        self.due += step;
        if now >= due {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        Some(Instant::now())
    }
}
