//! A server as a gateway of its datacenter: the pool of all servers and the port on which other datacenters call,
//! everything over mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tribune_core::Datacenter;
use tribune_gossip::{Address, Carrier, CarrierError, EXCHANGE_BYTES_MAX, Pool, Running};
use tribune_net::{Acceptor, Dialer, Endpoint, Limits, Tls};
use tribune_wan::{
    Candidate, Desk, Forwarder, Road as _, RoadError, Roster, Seeker, Slices, SlicesConfig, Summaries,
    TwoWayRoad, far_body,
};

use super::door::Door;
use super::gate::Gate;
use super::outbound::Outbound;
use super::security::Security;
use super::{Sight, StartError, gossip, translate};
use crate::settings::Settings;

/// Where packets and exchanges of the pool arrive.
pub(super) const PACKET_PATH: &str = "/gossip/packet";
pub(super) const EXCHANGE_PATH: &str = "/gossip/exchange";

/// How long a packet may be on its way; the pool has given it up by then.
const PACKET_TIME: Duration = Duration::from_secs(3);
/// How long an exchange may take; the pool bounds it more tightly.
const EXCHANGE_TIME: Duration = Duration::from_secs(10);

/// How the ways to a datacenter are.
pub(crate) struct DatacenterLink {
    pub(crate) datacenter: Datacenter,
    /// Its servers that take requests, and how many of them answer.
    pub(crate) gateways: usize,
    pub(crate) gateways_up: usize,
    /// How long the quickest of those takes.
    pub(crate) round_trip: Option<Duration>,
    /// When anything last came from there.
    pub(crate) last_answer: Option<Instant>,
}

/// The outward side: this server among the servers of all datacenters.
#[derive(Clone)]
pub(crate) struct Federation {
    pub(crate) pool: Pool,
    pub(super) own: Datacenter,
    pub(crate) forwarder: Forwarder,
    /// What DNS knows of the other datacenters.
    pub(super) slices: Slices,
    /// Executes prepared queries for DNS.
    pub(super) seeker: Seeker,
    /// Where services are alive.
    pub(crate) summaries: Summaries,
    /// Connections that servers of other datacenters opened carry requests back to them.
    road: TwoWayRoad,
    dialer: Dialer,
}

impl Federation {
    /// Joins nobody yet: starts the pool and the roads.
    pub(super) async fn start(
        sight: &Sight<'_>,
        lan: &Pool,
        desk: Arc<dyn Desk>,
        (security, tls): (&Security, Tls),
    ) -> Result<(Self, Running), StartError> {
        let settings = sight.settings;
        let dialer = security.wan_dialer(tls.clone(), true);
        let road = TwoWayRoad::new(dialer.clone());
        let carrier = WanCarrier {
            known: road.clone(),
            unknown: security.wan_dialer(tls, false),
            own: settings.datacenter.clone(),
        };
        let (pool, running) = gossip::wan(sight, lan, Arc::new(carrier)).await?;
        let roster = Arc::new(WanRoster { pool: pool.clone(), own: settings.datacenter.clone() });
        let config = translate::exchange(settings);
        let forwarder = Forwarder::new(settings.datacenter.clone(), Arc::new(road.clone()), roster, config);
        let own = settings.datacenter.clone();
        let summaries = Summaries::new(own.clone(), desk.clone(), forwarder.clone());
        let slices = forwarder.slices(SlicesConfig::default());
        let seeker =
            Seeker::with_others(own.clone(), desk, forwarder.clone(), slices.clone(), summaries.clone());
        Ok((Self { pool, own, forwarder, slices, seeker, summaries, road, dialer }, running))
    }

    /// How the ways to each other datacenter are.
    pub(crate) fn links(&self) -> Vec<DatacenterLink> {
        let known = self.forwarder.datacenters();
        let others = known.into_iter().filter(|datacenter| *datacenter != self.own);
        let link = |datacenter: Datacenter| {
            let links = self.forwarder.links(&datacenter);
            let answering = links.iter().filter(|link| link.is_open);
            DatacenterLink {
                gateways: links.len(),
                gateways_up: answering.clone().count(),
                round_trip: answering.filter_map(|link| link.round_trip).min(),
                last_answer: self.forwarder.heard(&datacenter),
                datacenter,
            }
        };
        others.map(link).collect()
    }

    /// Takes calls of other datacenters until `stop`.
    pub(super) fn serve(
        &self,
        (listener, tls): (TcpListener, Tls),
        (settings, door): (&Settings, Door),
        desk: Arc<dyn Desk>,
        tasks: &mut JoinSet<&'static str>,
        stop: CancellationToken,
    ) -> Result<(), StartError> {
        let acceptor = Acceptor::new(listener, Limits::nodes());
        let acceptor =
            acceptor.with_reverse(Arc::new(self.road.clone())).with_tls(tls, Security::wan_auth())?;
        let (summaries, stopped) = (self.summaries.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = summaries.follow() => {}
            }
            "the summaries of other datacenters"
        });
        let gate = Gate::new(settings.datacenter.clone(), door, desk, self);
        let outbound = Outbound {
            own: settings.datacenter.clone(),
            pool: self.pool.clone(),
            dialer: self.dialer.clone(),
            arrivals: gate.arrivals(),
            gate: gate.clone(),
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = outbound.run() => {}
            }
            "the connections for requests of other datacenters"
        });
        tasks.spawn(async move {
            acceptor.serve(gate, stop.cancelled_owned()).await;
            "the port between datacenters"
        });
        Ok(())
    }
}

/// Carries the gossip between servers of all datacenters over HTTP/2.
struct WanCarrier {
    /// To servers whose datacenter is known.
    known: TwoWayRoad,
    /// To addresses of which nothing is known yet but that a server of the federation must be there.
    unknown: Dialer,
    own: Datacenter,
}

impl WanCarrier {
    async fn send(
        &self,
        to: &Address,
        path: &'static str,
        bytes: Bytes,
        time: Duration,
    ) -> Result<Bytes, RoadError> {
        let deadline = Instant::now() + time;
        let lost = |why: String| RoadError::Lost(why);
        let request =
            Request::post(path).body(bytes).map_err(|error| RoadError::NotSent(error.to_string()))?;
        let response = match &to.datacenter {
            Some(datacenter) => {
                let endpoint = Endpoint { address: to.socket, datacenter: datacenter.clone() };
                self.known.send(&endpoint, request, deadline).await?
            }
            None => {
                let endpoint = Endpoint { address: to.socket, datacenter: self.own.clone() };
                self.unknown.send(&endpoint, request, deadline).await?.map(far_body)
            }
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), EXCHANGE_BYTES_MAX).collect();
        let body = timeout_at(deadline, body)
            .await
            .map_err(|_| lost("the answer did not end in time".to_owned()))?;
        let body = body.map_err(|error| lost(error.to_string()))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(RoadError::NotSent(String::from_utf8_lossy(&body).into_owned()))
    }
}

#[async_trait]
impl Carrier for WanCarrier {
    async fn packet(&self, to: &Address, bytes: Bytes) {
        if let Err(error) = self.send(to, PACKET_PATH, bytes, PACKET_TIME).await {
            tracing::trace!(to = %to.socket, %error, "a packet was lost");
        }
    }

    async fn exchange(&self, to: &Address, bytes: Bytes) -> Result<Bytes, CarrierError> {
        self.send(to, EXCHANGE_PATH, bytes, EXCHANGE_TIME)
            .await
            .map_err(|error| CarrierError(error.to_string()))
    }
}

/// The servers of other datacenters, as the pool knows them.
struct WanRoster {
    pool: Pool,
    own: Datacenter,
}

impl Roster for WanRoster {
    fn gateways(&self, datacenter: &Datacenter) -> Vec<Candidate> {
        let candidate = |member: tribune_gossip::Member| Candidate {
            name: member.name,
            endpoint: Endpoint { address: member.address, datacenter: member.datacenter },
            round_trip: member.round_trip,
        };
        self.pool.members_in(datacenter).into_iter().map(candidate).collect()
    }

    fn datacenters(&self) -> Vec<Datacenter> {
        let mut all = self.pool.datacenters();
        all.insert(self.own.clone());
        all.into_iter().collect()
    }
}
