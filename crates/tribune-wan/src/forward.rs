//! The outward side: requests for other datacenters, straight to a gateway there or, when none can be reached,
//! once through a third datacenter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use tribune_core::Datacenter;

use crate::body::FarBody;
use crate::courier::{Courier, FIRST_ANSWER_MAX, Undelivered};
use crate::exchange::{Carrier, Exchange, ExchangeConfig};
use crate::failure::Failure;
use crate::parcel::{self, Parcel};
use crate::peers::LinkHealth;
use crate::road::Road;
use crate::roster::{Candidate, Roster};

/// The part of the first-answer time that a way straight there gets while there are others.
const DIRECT_PART: f64 = 0.5;
/// How long a datacenter that could not reach another is not asked to again.
const DETOUR_REST: Duration = Duration::from_secs(2);
/// Most pairs of datacenters remembered as not reaching each other.
const DETOURS_MAX: usize = 1024;

/// The outward side of a node. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Forwarder {
    route: Arc<Route>,
    exchange: Arc<Exchange>,
}

impl Forwarder {
    /// The outward side of a server in datacenter `own`.
    pub fn new(
        own: Datacenter,
        road: Arc<dyn Road>,
        roster: Arc<dyn Roster>,
        config: ExchangeConfig,
    ) -> Self {
        let courier = Courier::new(own.clone(), road, config.seed);
        let route = Arc::new(Route { own, courier, roster, detours: Mutex::default() });
        let exchange = Arc::new(Exchange::new(route.clone(), config));
        Self { route, exchange }
    }

    /// Answers a client's request from `datacenter`: from the cache where the client allows it, else from there.
    /// Failures have become answers in Consul's words.
    pub async fn answer<B>(&self, datacenter: &Datacenter, request: Request<B>) -> Response<FarBody>
    where
        B: Body<Data = bytes::Bytes>,
        B::Error: std::fmt::Display,
    {
        match parcel::collect(request).await {
            // The other datacenter does not know this one's nodes.
            Ok(parcel) => self.exchange.answer_from_afar(datacenter, parcel.near(None)).await,
            Err(failure) => failure.to_response(),
        }
    }

    /// The datacenters that are known, our own among them.
    pub fn datacenters(&self) -> Vec<Datacenter> {
        self.route.roster.datacenters()
    }

    /// The same, each with how far it is, the nearest first: our own at no distance, those of which nothing is known at
    /// the end.
    pub fn distances(&self) -> Vec<(Datacenter, Option<Duration>)> {
        let distance = |datacenter: Datacenter| {
            let there = self.route.roster.gateways(&datacenter);
            let mut trips: Vec<Duration> = there.iter().filter_map(|it| it.round_trip).collect();
            trips.sort_unstable();
            let median = trips.get(trips.len() / 2).copied();
            let is_own = datacenter == self.route.own;
            (datacenter, if is_own { Some(Duration::ZERO) } else { median })
        };
        let mut all: Vec<_> = self.datacenters().into_iter().map(distance).collect();
        all.sort_by_key(|(name, distance)| (distance.unwrap_or(Duration::MAX), name.clone()));
        all
    }

    /// How the gateways of a datacenter have answered lately, the one that is asked first in front.
    pub fn links(&self, datacenter: &Datacenter) -> Vec<LinkHealth> {
        self.route.courier.links(&self.route.roster.gateways(datacenter))
    }

    /// When anything last came from a datacenter; `None` when nothing ever did.
    pub fn heard(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.route.courier.heard(datacenter)
    }

    /// Passes a parcel of another datacenter on, straight there and nowhere else.
    pub(crate) async fn relay(
        &self,
        datacenter: &Datacenter,
        parcel: Parcel,
    ) -> Result<Response<FarBody>, Failure> {
        self.route.relay(datacenter, parcel).await
    }

    /// The road under the cache.
    pub(crate) fn carrier(&self) -> Arc<dyn Carrier> {
        self.route.clone()
    }
}

/// Ways to other datacenters.
struct Route {
    own: Datacenter,
    courier: Courier,
    roster: Arc<dyn Roster>,
    /// Which datacenter could not reach which, and until when that is believed.
    detours: Mutex<HashMap<(Datacenter, Datacenter), Instant>>,
}

#[async_trait]
impl Carrier for Route {
    async fn carry(&self, datacenter: &Datacenter, parcel: Parcel) -> Result<Response<FarBody>, Failure> {
        let known = self.roster.datacenters();
        if !known.contains(datacenter) {
            return Err(Failure::Unknown);
        }
        let parcel = parcel.addressed_to(datacenter).via(&self.own);
        let straight = self.roster.gateways(datacenter);
        let detours = self.detours(known, datacenter);
        let distance = self.courier.distance(&straight);
        let patience = match detours.is_empty() {
            true => FIRST_ANSWER_MAX,
            false => FIRST_ANSWER_MAX.mul_f64(DIRECT_PART),
        };
        match self.courier.deliver(&straight, &parcel, patience + distance).await {
            Ok(response) => self.passed(datacenter, response),
            Err(Undelivered::Unsure(reason)) => Err(Failure::Unsure(reason)),
            Err(Undelivered::Over(failure)) => Err(failure),
            Err(Undelivered::NotSent) => self.around(datacenter, &detours, &parcel).await,
            Err(Undelivered::Strange) => {
                let around = self.around(datacenter, &detours, &parcel).await;
                around.map_err(|failure| match failure {
                    Failure::Unreachable => {
                        Failure::Stranger { from: self.own.clone(), there: datacenter.clone() }
                    }
                    other => other,
                })
            }
        }
    }

    fn heard(&self, datacenter: &Datacenter) -> Option<Instant> {
        self.courier.heard(datacenter)
    }
}

impl Route {
    /// Straight there, for a parcel that has come from elsewhere already.
    async fn relay(&self, datacenter: &Datacenter, parcel: Parcel) -> Result<Response<FarBody>, Failure> {
        if !self.roster.datacenters().contains(datacenter) {
            return Err(Failure::Unknown);
        }
        metrics::counter!("tribune.wan.relayed").increment(1);
        let parcel = parcel.via(&self.own);
        let straight = self.roster.gateways(datacenter);
        let patience = FIRST_ANSWER_MAX.mul_f64(1.0 - DIRECT_PART) + self.courier.distance(&straight);
        match self.courier.deliver(&straight, &parcel, patience).await {
            Ok(response) => self.passed(datacenter, response),
            Err(Undelivered::Unsure(reason)) => Err(Failure::Unsure(reason)),
            Err(Undelivered::Over(failure)) => Err(failure),
            Err(Undelivered::NotSent | Undelivered::Strange) => Err(Failure::Unreachable),
        }
    }

    /// Through the datacenters that may reach it, nearest first, one after the other.
    async fn around(
        &self,
        datacenter: &Datacenter,
        detours: &[Datacenter],
        parcel: &Parcel,
    ) -> Result<Response<FarBody>, Failure> {
        let mut left: Vec<Candidate> = detours.iter().flat_map(|dc| self.roster.gateways(dc)).collect();
        let patience = FIRST_ANSWER_MAX.mul_f64(1.0 - DIRECT_PART);
        let ends = Instant::now() + patience + self.courier.distance(&left);
        while !left.is_empty() && Instant::now() < ends {
            let span = ends - Instant::now();
            let response = match self.courier.deliver(&left, parcel, span).await {
                Ok(response) => response,
                Err(Undelivered::Unsure(reason)) => return Err(Failure::Unsure(reason)),
                Err(Undelivered::NotSent | Undelivered::Strange | Undelivered::Over(_)) => break,
            };
            let through = answered_by(&response);
            match Failure::in_response(&response) {
                None => return self.passed(datacenter, response),
                Some(_) => match through {
                    Some(through) => {
                        self.note_detour(&through, datacenter);
                        left.retain(|held| held.endpoint.datacenter != through);
                    }
                    None => break,
                },
            }
        }
        Err(Failure::Unreachable)
    }

    /// The third datacenters that are not known to be unable to help.
    fn detours(&self, known: Vec<Datacenter>, to: &Datacenter) -> Vec<Datacenter> {
        let now = Instant::now();
        let others = known.into_iter().filter(|dc| *dc != self.own && dc != to);
        let mut detours = self.detours.lock();
        detours.retain(|_, until| *until > now);
        others.filter(|dc| !detours.contains_key(&(dc.clone(), to.clone()))).collect()
    }

    fn note_detour(&self, through: &Datacenter, to: &Datacenter) {
        let mut detours = self.detours.lock();
        if detours.len() < DETOURS_MAX {
            detours.insert((through.clone(), to.clone()), Instant::now() + DETOUR_REST);
        }
    }

    /// An answer as it came, unless it says that the other side passed it on in vain.
    fn passed(
        &self,
        datacenter: &Datacenter,
        response: Response<FarBody>,
    ) -> Result<Response<FarBody>, Failure> {
        match Failure::in_response(&response) {
            Some(failure) => Err(failure),
            None => {
                self.courier.hear(datacenter);
                Ok(response)
            }
        }
    }
}

/// The datacenter that an answer says it comes from.
fn answered_by(response: &Response<FarBody>) -> Option<Datacenter> {
    let name = response.headers().get(parcel::FROM)?.to_str().ok()?;
    Datacenter::new(name).ok()
}
