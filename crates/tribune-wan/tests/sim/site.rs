//! A datacenter's own truth: its state, when each version of it began, and the HTTP service that tells of it. All
//! gateways of a datacenter answer from it, as if they had agreed.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tower::Service;
use tribune_core::{
    Command, Datacenter, Deregistration, Index, InstanceId, Node, NodeName, Outcome, Pairs, Registration,
    ServiceInstance, ServiceName, State, Target, Topic, Weights,
};
use tribune_wan::{Desk, DeskError, FarBody, far_body};

use crate::oracle::Oracle;

/// The service that everybody asks for.
pub(crate) const SERVICE: &str = "web";
/// Where its version is told.
pub(crate) const SERVICE_PATH: &str = "/v1/health/service/web";
/// A question that is answered at once, whatever happens elsewhere.
pub(crate) const LOCAL_PATH: &str = "/v1/status/leader";
/// Where writes go; what follows is the number of the write.
pub(crate) const WRITE_PATH: &str = "/v1/kv/";
/// What a datacenter without a leader says.
pub(crate) const NO_LEADER: &str = "No cluster leader";
/// Longest time a slow datacenter takes to answer, or to write.
const SLOW_MAX_MS: u64 = 2_500;
/// So many instances there are at most beside the one that tells the version.
const OTHERS: u64 = 3;

/// A datacenter. All its gateways share it.
pub(crate) struct Site {
    pub(crate) name: Datacenter,
    pub(crate) number: usize,
    ledger: Mutex<Ledger>,
    changed: Notify,
    oracle: Arc<Oracle>,
}

struct Ledger {
    state: Arc<State>,
    /// When each version began.
    versions: Vec<Instant>,
    dice: StdRng,
    is_slow: bool,
    /// Since when there is no leader, or when there last was none.
    leaderless: Option<(Instant, Option<Instant>)>,
}

impl Site {
    pub(crate) fn new(number: usize, seed: u64, oracle: Arc<Oracle>) -> Arc<Self> {
        let ledger = Ledger {
            state: Arc::new(State::default()),
            versions: Vec::new(),
            dice: StdRng::seed_from_u64(seed ^ (0x517e << 8) ^ number as u64),
            is_slow: false,
            leaderless: None,
        };
        let name = Datacenter::new(format!("dc{number}")).unwrap();
        let site = Self { name, number, ledger: Mutex::new(ledger), changed: Notify::new(), oracle };
        site.change();
        Arc::new(site)
    }

    /// Begins the next version.
    pub(crate) fn change(&self) {
        let mut ledger = self.ledger.lock();
        let version = ledger.versions.len() as u64;
        let mut state = State::clone(&ledger.state);
        let mut commands = vec![self.registration("main", version)];
        match version % OTHERS {
            0 => commands.extend((1..OTHERS).map(|other| self.deregistration(&format!("other{other}")))),
            other => commands.push(self.registration(&format!("other{other}"), version)),
        }
        for command in &commands {
            state.apply(Index(state.index().0 + 1), command);
        }
        ledger.state = Arc::new(state);
        ledger.versions.push(Instant::now());
        drop(ledger);
        self.changed.notify_waiters();
    }

    pub(crate) fn version(&self) -> u64 {
        self.ledger.lock().versions.len() as u64 - 1
    }

    /// The version that was the newest one at a time.
    pub(crate) fn version_at(&self, time: Instant) -> u64 {
        let ledger = self.ledger.lock();
        (ledger.versions.partition_point(|begun| *begun <= time) as u64).saturating_sub(1)
    }

    /// How many instances a version has.
    pub(crate) fn instances(version: u64) -> u32 {
        1 + u32::try_from(version % OTHERS).unwrap()
    }

    pub(crate) fn set_slow(&self, is_slow: bool) {
        self.ledger.lock().is_slow = is_slow;
    }

    pub(crate) fn set_leaderless(&self, is_leaderless: bool) {
        let mut ledger = self.ledger.lock();
        ledger.leaderless = match ledger.leaderless {
            held @ Some((_, None)) if is_leaderless => held,
            Some((since, None)) => Some((since, Some(Instant::now()))),
            _ if is_leaderless => Some((Instant::now(), None)),
            held => held,
        };
    }

    /// Whether there was no leader at some time since.
    pub(crate) fn was_leaderless_since(&self, time: Instant) -> bool {
        let leaderless = self.ledger.lock().leaderless;
        leaderless.is_some_and(|(_, until)| until.is_none_or(|until| until >= time))
    }

    fn is_leaderless(&self) -> bool {
        matches!(self.ledger.lock().leaderless, Some((_, None)))
    }

    fn pause(&self) -> Duration {
        let mut ledger = self.ledger.lock();
        let most = if ledger.is_slow { SLOW_MAX_MS } else { 3 };
        Duration::from_millis(ledger.dice.random_range(0..most))
    }

    fn registration(&self, node: &str, version: u64) -> Command {
        let name = format!("{}-{node}", self.name);
        Command::Register(Box::new(Registration {
            node: Node {
                name: NodeName::new(&name).unwrap(),
                id: Default::default(),
                address: "10.1.2.3".into(),
                tagged_addresses: Pairs::default(),
                meta: Pairs::default(),
            },
            skip_node_update: false,
            service: Some(ServiceInstance {
                id: InstanceId::new(SERVICE).unwrap(),
                name: ServiceName::new(SERVICE).unwrap(),
                tags: Box::new([format!("{version}").into()]),
                address: Default::default(),
                tagged_addresses: Pairs::default(),
                meta: Pairs::default(),
                port: 80,
                socket_path: Default::default(),
                weights: Weights::default(),
                enable_tag_override: false,
                connect_native: false,
            }),
            checks: Vec::new(),
        }))
    }

    fn deregistration(&self, node: &str) -> Command {
        let node = NodeName::new(format!("{}-{node}", self.name)).unwrap();
        Command::Deregister(Deregistration { node, target: Target::Node })
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<FarBody> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        if path == LOCAL_PATH {
            return text(StatusCode::OK, self.name.to_string());
        }
        sleep(self.pause()).await;
        let pairs: Vec<(&str, &str)> =
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let named = pairs.iter().find(|(name, _)| *name == "dc").map(|(_, value)| *value);
        let ours = named.is_none_or(|named| named == self.name.as_str());
        self.oracle.expect(ours, || format!("{} was asked {path}?{query}", self.name));
        let stale = pairs.iter().any(|(name, _)| *name == "stale");
        if self.is_leaderless() && !stale {
            return text(StatusCode::INTERNAL_SERVER_ERROR, NO_LEADER.to_owned());
        }
        match (&head.method, path.as_str()) {
            (&Method::GET, SERVICE_PATH) => self.tell(&pairs).await,
            (&Method::PUT, path) if path.starts_with(WRITE_PATH) => {
                let body = body.collect().await.unwrap().to_bytes();
                assert_eq!(
                    path.strip_prefix(WRITE_PATH).unwrap().as_bytes(),
                    body,
                    "a write arrives as it was sent"
                );
                self.oracle.applied(self.number, std::str::from_utf8(&body).unwrap().parse().unwrap());
                self.change();
                sleep(self.pause()).await;
                text(StatusCode::OK, format!("{} wrote", self.name))
            }
            _ => text(StatusCode::NOT_FOUND, format!("nothing at {path}")),
        }
    }

    /// The version, or the one after an index that is known already.
    async fn tell(&self, pairs: &[(&str, &str)]) -> Response<FarBody> {
        let value = |name: &str| pairs.iter().find(|(held, _)| *held == name).map(|(_, value)| *value);
        let topic = Topic::Service(tribune_core::Folded::new(SERVICE));
        let mut state = self.state();
        if let Some(index) = value("index").and_then(|index| index.parse().ok()) {
            let wait: u64 =
                value("wait").and_then(|wait| wait.strip_suffix('s')?.parse().ok()).unwrap_or(300);
            state = self.changed(&topic, Index(index), Instant::now() + Duration::from_secs(wait)).await;
        }
        let told = format!("{} {}", self.name, version_of(&state, self.name.as_str()).unwrap());
        let mut response = text(StatusCode::OK, told);
        response.headers_mut().insert("x-consul-index", state.index_of(&topic).0.into());
        response
    }
}

/// The version that a state, or a part of one, tells of; and that it is of this datacenter.
pub(crate) fn version_of(state: &State, datacenter: &str) -> Option<u64> {
    let authority = tribune_core::Authority::unrestricted();
    let view = state.view(&authority);
    let main = format!("{datacenter}-main");
    let told = view.instances(SERVICE).find(|instance| instance.node.value.name.as_str() == main)?;
    told.service.value.tags.first()?.parse().ok()
}

fn text(status: StatusCode, text: String) -> Response<FarBody> {
    let mut response = Response::new(far_body(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response
}

#[async_trait]
impl Desk for Site {
    fn state(&self) -> Arc<State> {
        self.ledger.lock().state.clone()
    }

    async fn read(&self) -> Result<Arc<State>, DeskError> {
        if self.is_leaderless() { Err(DeskError::NoLeader) } else { Ok(self.state()) }
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let state = self.state();
            if state.index_of(topic) > after || timeout_at(until, changed).await.is_err() {
                return self.state();
            }
        }
    }

    async fn propose(&self, _: Command) -> Result<Outcome, DeskError> {
        Err(DeskError::Unavailable("nobody proposes here".into()))
    }
}

/// The HTTP service of a datacenter, behind the layer and behind the gateway.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<Site>);

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<FarBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<FarBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let site = self.0.clone();
        Box::pin(async move { Ok(site.answer(request).await) })
    }
}
