//! The federation of one seed: ten datacenters with their gateways, clients in each, and what must come true when
//! everything is mended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tribune_gossip::Status;

use crate::chaos;
use crate::client::Client;
use crate::gateway::{Alive, Plan};
use crate::network::Network;
use crate::oracle::Oracle;
use crate::site::{SERVICE, SERVICE_PATH, Site};

const DATACENTERS: usize = 10;
/// How many clients each of them has.
const CLIENTS: usize = 2;
/// Until everybody knows everybody for the first time.
const BEGINNING: Duration = Duration::from_secs(30);
/// How long everything goes wrong, in simulated time.
pub(crate) const CHAOS: Duration = Duration::from_secs(60);
/// How long clients may take to end: the longest question.
const CLIENTS_END: Duration = Duration::from_secs(120);
/// Within this time after everything is mended, all know all.
const MEMBERS_AGAIN: Duration = Duration::from_secs(30);
/// Within this time after that, every datacenter is answered from every gateway.
const ANSWERS_AGAIN: Duration = Duration::from_secs(5);
/// Within this time after that, what is known without asking is right too.
const SUMMARIES_AGAIN: Duration = Duration::from_secs(40);
/// Others find out within this time that a gateway knows them now: the longest rest until they knock again.
const UNAWARE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether something has come true.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) network: Network,
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) plans: Vec<Plan>,
    alive: Mutex<BTreeMap<usize, Arc<Alive>>>,
    lives: Mutex<BTreeMap<usize, u64>>,
    /// When a gateway of each datacenter last did not know everybody.
    unaware: Mutex<BTreeMap<usize, Instant>>,
    is_calm: AtomicBool,
}

/// What came of a seed.
pub(crate) struct Outcome {
    pub(crate) broken: Option<String>,
    pub(crate) summary: String,
    /// The hash of all that happened.
    pub(crate) trace: String,
}

/// Runs a seed, with so much time for everything to go wrong.
pub(crate) fn run(seed: u64, chaos: Duration, is_loud: bool) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().unwrap().block_on(async move {
        let world = Arc::new(World::new(seed, is_loud));
        tokio::select! {
            biased;
            // Not even a moment longer: what goes in circles would not end.
            () = world.oracle.is_broken.over() => {}
            () = live(&world, chaos) => {}
        }
        let (summary, trace) = world.oracle.summary();
        Outcome { broken: world.oracle.broken(), summary, trace }
    })
}

async fn live(world: &Arc<World>, chaos: Duration) {
    let mut dice = StdRng::seed_from_u64(world.seed ^ 0xc1a5);
    let mut tasks = JoinSet::new();
    for number in 0..world.plans.len() {
        world.start(number).await;
    }
    let network = world.network.clone();
    tasks.spawn(async move { network.keep_alive().await });
    let watched = world.clone();
    tasks.spawn(async move { watched.watch().await });
    world.within(BEGINNING, "all know all at the beginning", || world.all_know_all()).await;
    for site in &world.sites {
        tasks.spawn(change(site.clone(), world.clone()));
    }
    let mut clients = JoinSet::new();
    for client in 0..DATACENTERS * CLIENTS {
        clients.spawn(Client::new(world.clone(), client as u64, client % DATACENTERS).run());
    }
    chaos::rage(world, &mut dice, Instant::now() + chaos).await;
    world.oracle.note("the chaos ends");
    world.count_failed();
    chaos::mend(world).await;
    converge(world).await;
    world.is_calm.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(CLIENTS_END, async {
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    });
    world.oracle.expect(ended.await.is_ok(), || "a client waits for ever".to_owned());
    tasks.shutdown().await;
    world.alive.lock().clear();
    world.network.close().await;
}

/// Things change in every datacenter, with pauses.
async fn change(site: Arc<Site>, world: Arc<World>) {
    let mut dice = StdRng::seed_from_u64(world.seed ^ (site.number as u64) << 40);
    loop {
        sleep(Duration::from_millis(dice.random_range(100..8_000))).await;
        site.change();
    }
}

async fn converge(world: &Arc<World>) {
    let mended = Instant::now();
    world.within(MEMBERS_AGAIN, "all know all again", || world.all_know_all()).await;
    world.oracle.took("members again", mended.elapsed().as_millis());
    let ends = Instant::now() + ANSWERS_AGAIN;
    let asked =
        (0..world.plans.len()).flat_map(|gateway| (0..DATACENTERS).map(move |target| (gateway, target)));
    futures::future::join_all(asked.map(|(gateway, target)| async move {
        while world.oracle.broken().is_none() && !world.is_answered(gateway, target).await {
            let in_time = Instant::now() < ends;
            world.oracle.expect(in_time, || format!("gateway {gateway} is not answered by dc{target} again"));
            sleep(LOOK).await;
        }
    }))
    .await;
    world.oracle.took("answers again", mended.elapsed().as_millis());
    world.within(SUMMARIES_AGAIN, "all summaries are right again", || world.all_summaries_are_right()).await;
    world.oracle.took("summaries again", mended.elapsed().as_millis());
}

impl World {
    fn new(seed: u64, is_loud: bool) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x9a7e);
        let oracle = Arc::new(Oracle::new(is_loud));
        let network = Network::new(seed, oracle.clone());
        let sites: Vec<_> = (0..DATACENTERS).map(|number| Site::new(number, seed, oracle.clone())).collect();
        let mut plans = Vec::new();
        for site in &sites {
            for gateway in 0..dice.random_range(1..=2) {
                let address = SocketAddr::from(([10, 0, site.number as u8, gateway + 1], 8302));
                let name = format!("g{gateway}-{}", site.name);
                let seed = dice.random();
                plans.push(Plan { site: site.clone(), address, name, others: Vec::new(), seed });
            }
        }
        let all: Vec<SocketAddr> = plans.iter().map(|plan| plan.address).collect();
        for plan in &mut plans {
            let others = all.iter().filter(|other| **other != plan.address).copied();
            plan.others = others.collect();
            while plan.others.len() > 4 {
                let at = dice.random_range(0..plan.others.len());
                plan.others.remove(at);
            }
        }
        let (alive, lives, unaware) = (Mutex::default(), Mutex::default(), Mutex::default());
        let is_calm = AtomicBool::new(false);
        Self { seed, oracle, network, sites, plans, alive, lives, unaware, is_calm }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed) || self.oracle.broken().is_some()
    }

    /// The addresses of a datacenter's gateways.
    pub(crate) fn addresses(&self, site: usize) -> Vec<SocketAddr> {
        self.plans.iter().filter(|plan| plan.site.number == site).map(|plan| plan.address).collect()
    }

    pub(crate) fn is_alive(&self, gateway: usize) -> bool {
        self.alive.lock().contains_key(&gateway)
    }

    /// What distances may add to the time in which a gateway finds out that nobody reaches a datacenter: its own way
    /// there, its way to another datacenter, and the way from that one.
    pub(crate) fn distances(&self, gateway: &Alive, target: usize) -> Duration {
        let there = &self.sites[target].name;
        let others = self.sites.iter().map(|site| &site.name).filter(|name| *name != there);
        let alive = self.alive.lock();
        let onwards = alive.values().map(|other| other.distance([there].into_iter())).max();
        gateway.distance([there].into_iter()) + gateway.distance(others) + onwards.unwrap_or_default()
    }

    /// Whether a gateway of a datacenter has lately not known everybody: because it has no memory, and is cut off.
    pub(crate) fn was_unaware(&self, site: usize) -> bool {
        self.unaware.lock().get(&site).is_some_and(|last| last.elapsed() <= UNAWARE_MAX)
    }

    /// Notes who does not know everybody. Does not end.
    async fn watch(&self) {
        loop {
            for (number, gateway) in &*self.alive.lock() {
                if gateway.forwarder.datacenters().len() < DATACENTERS {
                    self.unaware.lock().insert(self.plans[*number].site.number, Instant::now());
                }
            }
            sleep(LOOK).await;
        }
    }

    pub(crate) async fn start(&self, gateway: usize) {
        let life = {
            let mut lives = self.lives.lock();
            let life = lives.entry(gateway).or_default();
            *life += 1;
            *life
        };
        self.oracle.note(&format!("gateway {gateway} runs for the {life}. time"));
        self.unaware.lock().insert(self.plans[gateway].site.number, Instant::now());
        let alive = self.plans[gateway].start(&self.network, life).await;
        self.alive.lock().insert(gateway, Arc::new(alive));
    }

    /// Ends a gateway at once. After a silent end not even its machine says anything.
    pub(crate) fn kill(&self, gateway: usize, is_silent: bool) {
        let Some(alive) = self.alive.lock().remove(&gateway) else { return };
        self.oracle.note(&format!("gateway {gateway} is killed, in silence: {is_silent}"));
        alive.fate.end();
        self.network.disconnect(self.plans[gateway].address, is_silent);
    }

    /// A gateway of a datacenter that runs.
    pub(crate) fn any_alive(&self, site: usize, dice: &mut StdRng) -> Option<Arc<Alive>> {
        let alive = self.alive.lock();
        let here: Vec<_> =
            alive.iter().filter(|(number, _)| self.plans[**number].site.number == site).collect();
        let at = dice.random_range(0..here.len().max(1));
        here.get(at).map(|(_, alive)| (*alive).clone())
    }

    /// Waits until something has come true, which it must within `most`.
    async fn within(&self, most: Duration, what: &str, holds: impl Fn() -> bool) {
        let ends = Instant::now() + most;
        while !holds() && self.oracle.broken().is_none() {
            self.oracle.expect(Instant::now() < ends, || format!("not within {most:?}: {what}"));
            sleep(LOOK).await;
        }
    }

    /// How many gateways are taken for dead by how many, when everything is mended.
    fn count_failed(&self) {
        for gateway in self.alive.lock().values() {
            let members = gateway.pool.members();
            for _ in members.iter().filter(|member| member.status == Status::Failed) {
                self.oracle.count("taken for dead");
            }
        }
    }

    fn all_know_all(&self) -> bool {
        let alive = self.alive.lock();
        alive.values().all(|gateway| {
            let members = gateway.pool.members();
            let living = members.iter().filter(|member| member.status == Status::Alive).count();
            living == self.plans.len() && gateway.forwarder.datacenters().len() == DATACENTERS
        })
    }

    /// Whether a plain question from a gateway is answered with the newest version there is.
    async fn is_answered(&self, gateway: usize, target: usize) -> bool {
        let Some(asked) = self.alive.lock().get(&gateway).cloned() else { return false };
        let site = &self.sites[target];
        let version = site.version();
        let uri = format!("{SERVICE_PATH}?dc={}", site.name);
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = match asked.layer.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else { return false };
        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        self.oracle.note(&format!("gateway {gateway} hears of dc{target}: {} {body}", head.status));
        let told = body.strip_prefix(&format!("{} ", site.name)).and_then(|told| told.parse::<u64>().ok());
        head.status == 200 && told.is_some_and(|told| told >= version)
    }

    /// Whether every gateway knows of all datacenters how many instances they have, and has known it of late.
    fn all_summaries_are_right(&self) -> bool {
        let alive = self.alive.lock();
        alive.values().all(|gateway| {
            let known = gateway.summaries.of(SERVICE);
            known.len() == DATACENTERS
                && known.iter().all(|presence| {
                    let site = self.sites.iter().find(|site| site.name == presence.datacenter);
                    site.is_some_and(|site| {
                        // What changes is told once a second.
                        let since = site.version_at(Instant::now() - Duration::from_secs(3));
                        let total = presence.tally.total();
                        (since..=site.version()).any(|version| Site::instances(version) == total)
                    })
                })
        })
    }
}
