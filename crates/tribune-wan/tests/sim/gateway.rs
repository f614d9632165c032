//! One gateway: the pool of all servers, the forwarder and everything around it, put together as `tribune` does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tribune_core::Datacenter;
use tribune_gossip::{Address, Carrier, CarrierError, Config, Pool, Running, Status, Timing};
use tribune_net::Endpoint;
use tribune_wan::{
    Candidate, DcLayer, DcService, ExchangeConfig, FarBody, Forwarder, Gateway, Road, RoadError, Roster,
    RpcService, Slices, SlicesConfig, Summaries, far_body,
};

use crate::fate::Fate;
use crate::network::{Network, Serve};
use crate::site::{Api, Site};

const PACKET_PATH: &str = "/gossip/packet";
const EXCHANGE_PATH: &str = "/gossip/exchange";
/// As in the program.
const PACKET_TIME: Duration = Duration::from_secs(3);
const EXCHANGE_TIME: Duration = Duration::from_secs(10);
/// How often a gateway that sees nobody tries to join somebody.
const REJOIN: Duration = Duration::from_secs(2);
/// How old a slice may be: less than usual, so that a run is long enough to come to the end of it.
pub(crate) const SLICE_STALE_MAX: Duration = Duration::from_secs(50);

/// A gateway that runs. It ends with this.
pub(crate) struct Alive {
    pub(crate) pool: Pool,
    pub(crate) forwarder: Forwarder,
    pub(crate) layer: DcService<Api>,
    pub(crate) slices: Slices,
    pub(crate) summaries: Summaries,
    pub(crate) fate: Arc<Fate>,
    _running: Running,
    _tasks: JoinSet<()>,
}

/// Where a gateway is, and what it is made from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) site: Arc<Site>,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    /// Whom it joins.
    pub(crate) others: Vec<SocketAddr>,
    pub(crate) seed: u64,
}

impl Plan {
    /// Starts the gateway for the `life`th time.
    pub(crate) async fn start(&self, network: &Network, life: u64) -> Alive {
        let own = self.site.name.clone();
        let fate = Arc::new(Fate::default());
        let plug = Arc::new(Plug { network: network.clone(), here: self.address, fate: fate.clone() });
        let mut config = Config::new(
            format!("{}.{own}", self.name),
            format!("id-{}", self.name),
            own.clone(),
            self.address,
        );
        config.timing = Timing::wan();
        (config.seed, config.generation) = (self.seed.wrapping_add(life), life);
        let (pool, running) = tribune_gossip::wan(config, plug.clone()).await.expect("a pool starts");
        let roster = Arc::new(WanRoster { pool: pool.clone(), own: own.clone() });
        let exchange = ExchangeConfig { seed: self.seed ^ life, ..ExchangeConfig::default() };
        let forwarder = Forwarder::new(own.clone(), plug, roster, exchange);
        let summaries = Summaries::new(own.clone(), self.site.clone(), forwarder.clone());
        let rpc = RpcService::new(own.clone(), self.site.clone(), Some(forwarder.clone()));
        let layer = DcLayer::new(own.clone()).with_forwarder(forwarder.clone());
        let layer = layer.with_summaries(summaries.clone()).layer(Api(self.site.clone()));
        let slices = forwarder.slices(SlicesConfig { stale_max: SLICE_STALE_MAX, ..SlicesConfig::default() });
        let gateway = Gateway::new(own.clone(), Api(self.site.clone()), rpc, forwarder.clone());
        network.connect(self.address, &own, serve(pool.clone(), gateway));
        let mut tasks = JoinSet::new();
        let follower = summaries.clone();
        tasks.spawn(async move { follower.follow().await });
        tasks.spawn(stay_joined(pool.clone(), self.others.clone()));
        Alive { pool, forwarder, layer, slices, summaries, fate, _running: running, _tasks: tasks }
    }
}

impl Alive {
    /// How much longer than at ordinary distances a sign of life may take from the nearest gateway among these
    /// datacenters: three round trips, as far as one is known, and never more than two seconds.
    pub(crate) fn distance<'a>(&self, datacenters: impl Iterator<Item = &'a Datacenter>) -> Duration {
        let members = self.pool.members();
        let told = |address| members.iter().find(|member| member.address == address)?.round_trip;
        let links = datacenters.flat_map(|datacenter| self.forwarder.links(datacenter));
        let known = links.filter_map(|link| told(link.endpoint.address).or(link.round_trip));
        (known.min().unwrap_or_default() * 3).min(Duration::from_secs(2))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.fate.end();
    }
}

/// Joins somebody whenever nobody is there.
async fn stay_joined(pool: Pool, others: Vec<SocketAddr>) {
    loop {
        if pool.members().iter().filter(|member| member.status == Status::Alive).count() <= 1 {
            pool.join(&others).await;
        }
        sleep(REJOIN).await;
    }
}

/// What arrives: gossip goes to the pool, everything else through the gateway.
fn serve(pool: Pool, gateway: Gateway<Api>) -> Serve {
    Arc::new(move |request: Request<Bytes>| {
        let (pool, gateway) = (pool.clone(), gateway.clone());
        Box::pin(async move {
            match request.uri().path() {
                PACKET_PATH => {
                    pool.receive_packet(request.body());
                    whole(Bytes::new())
                }
                EXCHANGE_PATH => whole(pool.receive_exchange(request.into_body()).await),
                _ => match gateway.oneshot(request.map(Full::new)).await {
                    Ok(response) => response.map(far_body),
                    Err(never) => match never {},
                },
            }
        })
    })
}

fn whole(bytes: Bytes) -> Response<FarBody> {
    Response::new(far_body(Full::new(bytes)))
}

/// A gateway's access to the network, until it ends.
struct Plug {
    network: Network,
    here: SocketAddr,
    fate: Arc<Fate>,
}

impl Plug {
    async fn send(
        &self,
        to: SocketAddr,
        expected: Option<&Datacenter>,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        tokio::select! {
            biased;
            () = self.fate.over() => futures::future::pending().await,
            answered = self.network.ask((self.here, to), expected, request, deadline) => answered,
        }
    }

    async fn gossip(
        &self,
        to: &Address,
        path: &str,
        bytes: Bytes,
        time: Duration,
    ) -> Result<Bytes, RoadError> {
        let request = Request::post(path).body(bytes).expect("a request");
        let deadline = Instant::now() + time;
        let response = self.send(to.socket, to.datacenter.as_ref(), request, deadline).await?;
        let body = response.into_body().collect().await;
        Ok(body.map_err(|error| RoadError::Lost(error.to_string()))?.to_bytes())
    }
}

#[async_trait]
impl Road for Plug {
    async fn send(
        &self,
        to: &Endpoint,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        Plug::send(self, to.address, Some(&to.datacenter), request, deadline).await
    }
}

#[async_trait]
impl Carrier for Plug {
    async fn packet(&self, to: &Address, bytes: Bytes) {
        if !self.network.is_lost() {
            drop(self.gossip(to, PACKET_PATH, bytes, PACKET_TIME).await);
        }
    }

    async fn exchange(&self, to: &Address, bytes: Bytes) -> Result<Bytes, CarrierError> {
        let answered = self.gossip(to, EXCHANGE_PATH, bytes, EXCHANGE_TIME).await;
        answered.map_err(|error| CarrierError(error.to_string()))
    }
}

/// The gateways as the pool knows them, told as `tribune` does.
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
