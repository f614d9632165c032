//! Gets a parcel to one of several nodes within its time.
//!
//! Reads go to the best node; when it is slow, a second one is asked as well and the first answer counts. What waits
//! or writes goes to one node at a time, after a knock when that node has not been heard of lately: so a dead link
//! is found out within the first-answer time and not after the whole wait, and a write that meets one was certainly
//! not sent.
//!
//! A slow answer is not a dead link: once a read has taken long, its nodes are knocked at, and as long as one opens,
//! the answer is waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Response;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tribune_core::Datacenter;
use tribune_net::Endpoint;

use crate::body::FarBody;
use crate::failure::Failure;
use crate::parcel::{Kind, Parcel};
use crate::peers::{LinkHealth, Peers, Silence};
use crate::road::{Road, RoadError};
use crate::roster::Candidate;

/// Answered by every node at once: whether it is there.
pub(crate) const KNOCK_PATH: &str = "/rpc/knock";

/// How long a plain request may stay without any sign of life, at ordinary distances.
pub(crate) const FIRST_ANSWER_MAX: Duration = Duration::from_millis(900);
/// What a large distance may add to that.
const DISTANCE_MAX: Duration = Duration::from_secs(2);
/// How many round trips fit into it: a handshake takes three.
const ROUND_TRIPS: u32 = 3;
/// After this time without an answer a second node is asked, and the first is knocked at; later where answers usually
/// take longer.
const HEDGE_AFTER: Duration = Duration::from_millis(250);
/// How many times what is usual an answer may take until then.
const HEDGE_FACTOR: u32 = 2;
/// Whoever answered within this time needs no knock.
const PROVEN_FOR: Duration = Duration::from_secs(3);
/// How long the body of an answer may take to arrive: the largest, over a thin line.
const BODY_MAX: Duration = Duration::from_secs(600);
/// A node that nobody has wanted for this long is not knocked at any more.
const NURSED_FOR: Duration = Duration::from_secs(60);
/// Most requests that wait for a second node as well: when everything is slow, asking twice makes it slower.
const HEDGES_MAX: usize = 256;
/// Most nodes that one parcel is tried on.
const ATTEMPTS_MAX: usize = 3;

/// Why a parcel was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// It was not processed, or asking again does no harm.
    NotSent,
    /// It was not processed: who is there does not know our datacenter.
    Strange,
    /// It is a write, and may have been processed.
    Unsure(String),
    /// It cannot be sent at all, or must not be sent again.
    Over(Failure),
}

/// Sends parcels, and knocks at nodes that did not answer until they do.
pub(crate) struct Courier {
    reach: Arc<Reach>,
    nurses: Mutex<JoinSet<()>>,
    hedges: Semaphore,
}

type Attempt<'a> = BoxFuture<'a, (Endpoint, Instant, Result<Response<FarBody>, RoadError>)>;

impl Courier {
    /// The courier of a node in datacenter `own`. Chance is drawn from `seed`.
    pub(crate) fn new(own: Datacenter, road: Arc<dyn Road>, seed: u64) -> Self {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        Self {
            reach: Arc::new(Reach { own, road, peers: Mutex::default(), dice }),
            nurses: Mutex::default(),
            hedges: Semaphore::new(HEDGES_MAX),
        }
    }

    /// How these nodes have answered lately.
    pub(crate) fn links(&self, candidates: &[Candidate]) -> Vec<LinkHealth> {
        self.reach.peers.lock().links(candidates, Instant::now())
    }

    /// When anything last came from a datacenter.
    pub(crate) fn heard(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.reach.peers.lock().heard(datacenter)
    }

    /// Notes that something came from a datacenter, by whatever way.
    pub(crate) fn hear(&self, datacenter: &Datacenter) {
        self.reach.peers.lock().hear(datacenter, Instant::now());
    }

    /// How much longer than at ordinary distances a sign of life from these nodes may take.
    pub(crate) fn distance(&self, candidates: &[Candidate]) -> Duration {
        let round_trip = self.reach.peers.lock().round_trip(candidates).unwrap_or_default();
        (round_trip * ROUND_TRIPS).min(DISTANCE_MAX)
    }

    /// Brings the parcel to one of the candidates and its answer back. `patience` is how long there may be no sign
    /// of life.
    pub(crate) async fn deliver(
        &self,
        candidates: &[Candidate],
        parcel: &Parcel,
        patience: Duration,
    ) -> Result<Response<FarBody>, Undelivered> {
        if let Err(failure) = parcel.to_request() {
            return Err(Undelivered::Over(failure));
        }
        let delivered = self.try_deliver(candidates, parcel, patience).await;
        match delivered {
            Err(Undelivered::NotSent) if self.reach.peers.lock().are_strange(candidates) => {
                Err(Undelivered::Strange)
            }
            delivered => delivered,
        }
    }

    async fn try_deliver(
        &self,
        candidates: &[Candidate],
        parcel: &Parcel,
        patience: Duration,
    ) -> Result<Response<FarBody>, Undelivered> {
        let salt = self.reach.chance();
        let order = self.reach.peers.lock().choose(candidates, Instant::now(), salt);
        if order.is_empty() {
            metrics::counter!("tribune.wan.failed_fast").increment(1);
            return Err(Undelivered::NotSent);
        }
        match parcel.kind {
            Kind::Read => Race { courier: self, parcel, order, begun: Instant::now(), patience }.run().await,
            Kind::Wait(_) | Kind::Stand(_) | Kind::Write => self.one_by_one(order, parcel, patience).await,
        }
    }

    async fn one_by_one(
        &self,
        order: Vec<Endpoint>,
        parcel: &Parcel,
        patience: Duration,
    ) -> Result<Response<FarBody>, Undelivered> {
        let mut knock_until = Instant::now() + patience;
        for endpoint in order.into_iter().take(ATTEMPTS_MAX) {
            let proven = self.reach.peers.lock().is_proven(&endpoint, Instant::now(), PROVEN_FOR);
            if !proven && !self.knock(&endpoint, knock_until).await {
                continue;
            }
            let deadline = Instant::now() + parcel.answer_time();
            let attempt = self.reach.attempt(endpoint.clone(), parcel, deadline);
            let (_, sent, result) = attempt.await;
            match result {
                Ok(response) => {
                    let waited = matches!(parcel.kind, Kind::Wait(_) | Kind::Stand(_));
                    self.reach.answered(&endpoint, (!waited).then(|| sent.elapsed()));
                    return Ok(response);
                }
                Err(error) => {
                    self.failed(&endpoint, &error, silence(&error, sent));
                    match (parcel.kind, error) {
                        (Kind::Write, RoadError::Lost(reason)) => return Err(Undelivered::Unsure(reason)),
                        (Kind::Stand(_), RoadError::Lost(_)) => {
                            return Err(Undelivered::Over(Failure::Unreachable));
                        }
                        _ => {}
                    }
                    // A parcel that waits may have been there for minutes: that says nothing against the others.
                    knock_until = Instant::now() + patience;
                }
            }
        }
        Err(Undelivered::NotSent)
    }

    /// Whether the node is there. A node that does not open is nursed.
    async fn knock(&self, endpoint: &Endpoint, until: Instant) -> bool {
        match self.reach.knock(endpoint, until).await {
            Ok(()) => true,
            Err(error) => {
                self.failed(endpoint, &error, Silence::Gone);
                false
            }
        }
    }

    fn failed(&self, endpoint: &Endpoint, error: &RoadError, silence: Silence) {
        if !self.reach.failed(endpoint, error, silence) {
            return;
        }
        let mut nurses = self.nurses.lock();
        while nurses.try_join_next().is_some() {}
        nurses.spawn(nurse(self.reach.clone(), endpoint.clone()));
    }
}

/// What it says of a node that something sent at this time brought no answer.
fn silence(error: &RoadError, sent: Instant) -> Silence {
    match error {
        RoadError::NotSent(_) | RoadError::Strange(_) => Silence::Gone,
        RoadError::Lost(_) => Silence::Lost(sent),
    }
}

/// Knocks at a node until it opens, or nobody has wanted it for a while.
async fn nurse(reach: Arc<Reach>, endpoint: Endpoint) {
    loop {
        let next = reach.peers.lock().next_knock(&endpoint, Instant::now(), NURSED_FOR);
        let Some(next) = next else { return };
        tokio::time::sleep_until(next).await;
        let round_trip = reach.peers.lock().measured(&endpoint).unwrap_or_default();
        let until = Instant::now() + FIRST_ANSWER_MAX + (round_trip * ROUND_TRIPS).min(DISTANCE_MAX);
        match reach.knock(&endpoint, until).await {
            Ok(()) => {
                tracing::info!(address = %endpoint.address, datacenter = %endpoint.datacenter, "a node answers again");
                return;
            }
            Err(error) => {
                reach.failed(&endpoint, &error, Silence::Gone);
            }
        }
    }
}

/// The road, with what is remembered of its ends.
struct Reach {
    own: Datacenter,
    road: Arc<dyn Road>,
    peers: Mutex<Peers>,
    dice: Mutex<StdRng>,
}

impl Reach {
    fn chance(&self) -> u64 {
        self.dice.lock().random()
    }

    /// Whether the node is there, which is remembered if it is.
    async fn knock(&self, endpoint: &Endpoint, until: Instant) -> Result<(), RoadError> {
        let begun = Instant::now();
        let knock = Parcel::internal(KNOCK_PATH, Bytes::new(), Kind::Read).via(&self.own);
        let (_, _, result) = self.attempt(endpoint.clone(), &knock, until).await;
        result.map(|_| self.answered(endpoint, Some(begun.elapsed())))
    }

    fn attempt<'a>(&'a self, to: Endpoint, parcel: &'a Parcel, deadline: Instant) -> Attempt<'a> {
        Box::pin(async move {
            let begun = Instant::now();
            let request = match parcel.to_request() {
                Ok(request) => request,
                Err(failure) => return (to, begun, Err(RoadError::NotSent(failure.to_string()))),
            };
            let body_ends = deadline + BODY_MAX;
            let sent = tokio::time::timeout_at(deadline, self.road.send(&to, request, body_ends)).await;
            let result = match sent {
                Ok(Ok(response)) if Failure::is_strange_to(&response) => {
                    // It may have just started; others there know us, or will tell it.
                    Err(RoadError::Strange(format!("datacenter {}", self.own)))
                }
                Ok(result) => result,
                Err(_) => Err(RoadError::Lost("no answer in time".to_owned())),
            };
            (to, begun, result)
        })
    }

    fn answered(&self, endpoint: &Endpoint, took: Option<Duration>) {
        let now = Instant::now();
        let mut peers = self.peers.lock();
        peers.succeeded(endpoint, took, now);
        peers.hear(&endpoint.datacenter, now);
    }

    /// Notes a failure; whether the node is to be nursed from now on.
    fn failed(&self, endpoint: &Endpoint, error: &RoadError, silence: Silence) -> bool {
        metrics::counter!("tribune.wan.attempts_failed", "datacenter" => endpoint.datacenter.to_string())
            .increment(1);
        let salt = self.chance();
        let is_first = {
            let mut peers = self.peers.lock();
            let is_first = peers.failed(endpoint, silence, Instant::now(), salt);
            if matches!(error, RoadError::Strange(_)) {
                peers.estranged(endpoint);
            }
            is_first
        };
        if is_first {
            tracing::info!(address = %endpoint.address, datacenter = %endpoint.datacenter, %error, "a node does not answer; others are asked");
        } else {
            tracing::debug!(address = %endpoint.address, datacenter = %endpoint.datacenter, %error, "a node does not answer yet");
        }
        is_first
    }
}

/// A read on its way to several nodes.
struct Race<'a> {
    courier: &'a Courier,
    parcel: &'a Parcel,
    order: Vec<Endpoint>,
    begun: Instant,
    patience: Duration,
}

impl<'a> Race<'a> {
    async fn run(self) -> Result<Response<FarBody>, Undelivered> {
        let (courier, parcel) = (self.courier, self.parcel);
        let patience_ends = self.begun + self.patience;
        let deadline = self.begun + parcel.answer_time().max(self.patience);
        let mut waiting = self.order.iter().take(ATTEMPTS_MAX).cloned();
        let mut attempts = FuturesUnordered::new();
        let mut knocks = FuturesUnordered::new();
        let mut under_way: Vec<Endpoint> = Vec::new();
        let mut opened = false;
        let usual = self.order.first().and_then(|first| courier.reach.peers.lock().measured(first));
        let hedge_after = HEDGE_AFTER.max(usual.unwrap_or_default() * HEDGE_FACTOR).min(self.patience);
        let mut hedge = std::pin::pin!(tokio::time::sleep_until(self.begun + hedge_after));
        let mut hedged = false;
        let mut permits = Vec::new();
        let mut give_up = std::pin::pin!(tokio::time::sleep_until(patience_ends));
        let mut send_next = |attempts: &mut FuturesUnordered<Attempt<'a>>, under_way: &mut Vec<Endpoint>| {
            let Some(next) = waiting.next() else { return false };
            under_way.push(next.clone());
            attempts.push(courier.reach.attempt(next, parcel, deadline));
            true
        };
        send_next(&mut attempts, &mut under_way);
        loop {
            tokio::select! {
                // An answer that is there counts, although the time is up.
                biased;
                Some((endpoint, begun, result)) = attempts.next() => {
                    under_way.retain(|held| *held != endpoint);
                    match result {
                        Ok(response) => {
                            courier.reach.answered(&endpoint, Some(begun.elapsed()));
                            return Ok(response);
                        }
                        Err(error) => courier.failed(&endpoint, &error, silence(&error, begun)),
                    }
                    if Instant::now() < deadline {
                        send_next(&mut attempts, &mut under_way);
                    }
                    if attempts.is_empty() {
                        return Err(Undelivered::NotSent);
                    }
                }
                Some(open) = knocks.next(), if !knocks.is_empty() => opened |= open,
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    for endpoint in under_way.clone() {
                        knocks.push(async move { courier.knock(&endpoint, patience_ends).await });
                    }
                    permits.extend(courier.hedges.try_acquire());
                    if !permits.is_empty() && send_next(&mut attempts, &mut under_way) {
                        metrics::counter!("tribune.wan.hedged").increment(1);
                    }
                }
                () = &mut give_up, if !opened => {
                    let error = RoadError::Lost("no sign of life".to_owned());
                    under_way.iter().for_each(|endpoint| courier.failed(endpoint, &error, Silence::Gone));
                    return Err(Undelivered::NotSent);
                }
            }
        }
    }
}
