//! A world of nodes: who can be reached, how long that takes, and what each answers. Everything sent is noted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tribune_core::{
    Command, Datacenter, Index, InstanceId, Node, NodeName, Outcome, Pairs, Registration, ServiceInstance,
    ServiceName, State, Topic, Weights,
};
use tribune_net::{Endpoint, PeerIdentity, PeerRole};
use tribune_wan::{
    Candidate, Desk, DeskError, ExchangeConfig, FarBody, Forwarder, Gateway, Road, RoadError, Roster,
    RpcService, far_body,
};

pub(crate) fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

/// The way to one node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Link {
    /// It answers after this time.
    Up(Duration),
    /// Nothing comes back.
    Cut,
    /// Connections are refused at once.
    Closed,
    /// Requests arrive; answers get lost after a while.
    OneWay,
}

type Serve = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<FarBody>> + Send + Sync>;

#[derive(Clone)]
struct Place {
    name: String,
    datacenter: Datacenter,
    serve: Serve,
}

/// What was sent to whom.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) to: String,
    pub(crate) uri: String,
    pub(crate) headers: http::HeaderMap,
}

#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    places: HashMap<SocketAddr, Place>,
    /// By who goes and where to; `*` for anybody.
    links: HashMap<(String, String), Link>,
    sent: Vec<Sent>,
    /// Questions that somebody waits for.
    open: usize,
}

/// A question from when it is sent until it is answered or given up.
struct Open(World);

impl Open {
    fn new(world: &World) -> Self {
        world.0.lock().unwrap().open += 1;
        Self(world.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().open -= 1;
    }
}

impl World {
    /// Puts a node into the world that answers so.
    pub(crate) fn put<F, R>(&self, datacenter: &str, name: &str, serve: F)
    where
        F: Fn(Request<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<FarBody>> + Send + 'static,
    {
        let mut inside = self.0.lock().unwrap();
        let address = SocketAddr::from(([10, 0, 0, 1], 1000 + inside.places.len() as u16));
        let serve: Serve = Arc::new(move |request| Box::pin(serve(request)));
        inside.places.insert(address, Place { name: name.into(), datacenter: dc(datacenter), serve });
    }

    /// A node that answers every question with its name, after `delay`; knocks at once.
    pub(crate) fn put_echo(&self, datacenter: &str, name: &'static str, delay: Duration) {
        self.put(datacenter, name, move |request: Request<Bytes>| async move {
            if request.uri().path() != "/rpc/knock" {
                tokio::time::sleep(delay).await;
            }
            answer(&format!("{name} {}", request.uri()))
        });
    }

    /// How node or datacenter `to` is reached by everybody.
    pub(crate) fn link(&self, to: &str, link: Link) {
        self.link_between("*", to, link);
    }

    /// How `to` is reached from datacenter `from`.
    pub(crate) fn link_between(&self, from: &str, to: &str, link: Link) {
        self.0.lock().unwrap().links.insert((from.into(), to.into()), link);
    }

    /// What was sent, without knocks.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        let all = self.0.lock().unwrap().sent.clone();
        all.into_iter().filter(|sent| !sent.uri.starts_with("/rpc/knock")).collect()
    }

    /// How many questions are open now.
    pub(crate) fn open(&self) -> usize {
        self.0.lock().unwrap().open
    }

    /// The roads of a node in datacenter `from`.
    pub(crate) fn roads(&self, from: &str) -> Arc<dyn Road> {
        Arc::new(Roads { world: self.clone(), from: from.into() })
    }

    /// What a node in datacenter `own` knows of the others: everybody.
    pub(crate) fn roster(&self, own: &str) -> Arc<dyn Roster> {
        Arc::new(Everybody { world: self.clone(), own: dc(own) })
    }

    pub(crate) fn forwarder(&self, own: &str) -> Forwarder {
        self.forwarder_with(own, ExchangeConfig::default())
    }

    pub(crate) fn forwarder_with(&self, own: &str, config: ExchangeConfig) -> Forwarder {
        Forwarder::new(dc(own), self.roads(own), self.roster(own), config)
    }

    /// Puts a server with a whole gateway into the world, in front of `inner`.
    pub(crate) fn put_server<S>(&self, datacenter: &'static str, name: &str, desk: Arc<Shelf>, inner: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<FarBody>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let forwarder = self.forwarder(datacenter);
        let rpc = RpcService::new(dc(datacenter), desk, Some(forwarder.clone()));
        let gateway = Gateway::new(dc(datacenter), inner, rpc, forwarder);
        self.put(datacenter, name, move |request: Request<Bytes>| {
            let gateway = gateway.clone();
            async move {
                let (head, body) = request.into_parts();
                let request = Request::from_parts(head, Full::new(body));
                let response = gateway.oneshot(request).await.unwrap();
                response.map(far_body)
            }
        });
    }
}

struct Roads {
    world: World,
    from: String,
}

impl Roads {
    fn way(&self, to: &Endpoint) -> (Place, Link) {
        let inside = self.world.0.lock().unwrap();
        let place = inside.places[&to.address].clone();
        let ends =
            [(self.from.clone(), place.name.clone()), (self.from.clone(), place.datacenter.to_string())];
        let anybody = [("*".into(), place.name.clone()), ("*".into(), place.datacenter.to_string())];
        let link =
            ends.iter().chain(&anybody).find_map(|end: &(String, String)| inside.links.get(end)).copied();
        (place, link.unwrap_or(Link::Up(Duration::from_millis(1))))
    }
}

#[async_trait]
impl Road for Roads {
    async fn send(
        &self,
        to: &Endpoint,
        mut request: Request<Bytes>,
        _deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        let (place, link) = self.way(to);
        assert_eq!(place.datacenter, to.datacenter);
        let delay = match link {
            Link::Closed => return Err(RoadError::NotSent("connection refused".into())),
            Link::Cut => return futures::future::pending().await,
            Link::Up(delay) => delay,
            Link::OneWay => Duration::from_millis(1),
        };
        let sent = Sent {
            to: place.name.clone(),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
        };
        self.world.0.lock().unwrap().sent.push(sent);
        let _open = Open::new(&self.world);
        let (role, datacenter) = (PeerRole::Server, dc(&self.from));
        request.extensions_mut().insert(PeerIdentity { role, datacenter, expires: UNIX_EPOCH });
        tokio::time::sleep(delay).await;
        let is_knock = request.uri().path() == "/rpc/knock";
        let response = (place.serve)(request).await;
        if self.way(to).1 == Link::Cut {
            return futures::future::pending().await;
        }
        if link == Link::OneWay && !is_knock {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Err(RoadError::Lost("the connection broke".into()));
        }
        Ok(response)
    }
}

struct Everybody {
    world: World,
    own: Datacenter,
}

impl Roster for Everybody {
    fn gateways(&self, datacenter: &Datacenter) -> Vec<Candidate> {
        let inside = self.world.0.lock().unwrap();
        let there = inside.places.iter().filter(|(_, place)| place.datacenter == *datacenter);
        let candidate = |(address, place): (&SocketAddr, &Place)| Candidate {
            name: place.name.clone(),
            endpoint: Endpoint { address: *address, datacenter: datacenter.clone() },
            round_trip: None,
        };
        there.map(candidate).collect()
    }

    fn datacenters(&self) -> Vec<Datacenter> {
        let inside = self.world.0.lock().unwrap();
        let mut all: Vec<Datacenter> = inside.places.values().map(|place| place.datacenter.clone()).collect();
        all.push(self.own.clone());
        all.sort();
        all.dedup();
        all
    }
}

pub(crate) fn answer(text: &str) -> Response<FarBody> {
    Response::new(far_body(Full::new(Bytes::from(text.to_owned()))))
}

/// Status, headers and body of an answer.
pub(crate) async fn read<B>(response: Response<B>) -> (u16, http::HeaderMap, String)
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

/// A GET of datacenter `to` through `forwarder`.
pub(crate) async fn ask(forwarder: &Forwarder, to: &str, uri: &str) -> (u16, http::HeaderMap, String) {
    read(forwarder.answer(&dc(to), get(uri)).await).await
}

/// A datacenter's state, as its servers have it.
#[derive(Default)]
pub(crate) struct Shelf {
    state: Mutex<Arc<State>>,
    changed: tokio::sync::Notify,
    pub(crate) refuses: Mutex<Option<DeskError>>,
}

impl Shelf {
    pub(crate) fn apply(&self, command: &Command) -> Outcome {
        let mut held = self.state.lock().unwrap();
        let mut state = State::clone(&held);
        let outcome = state.apply(Index(state.index().0 + 1), command).outcome;
        *held = Arc::new(state);
        drop(held);
        self.changed.notify_waiters();
        outcome
    }

    /// Puts an instance of `service` on a node of its own.
    pub(crate) fn register(&self, service: &str, node: &str) {
        self.apply(&registration(service, node));
    }
}

pub(crate) fn registration(service: &str, node: &str) -> Command {
    Command::Register(Box::new(Registration {
        node: Node {
            name: NodeName::new(node).unwrap(),
            id: Default::default(),
            address: "10.1.2.3".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        },
        skip_node_update: false,
        service: Some(ServiceInstance {
            id: InstanceId::new(service).unwrap(),
            name: ServiceName::new(service).unwrap(),
            tags: Box::default(),
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

#[async_trait]
impl Desk for Shelf {
    fn state(&self) -> Arc<State> {
        self.state.lock().unwrap().clone()
    }

    async fn read(&self) -> Result<Arc<State>, DeskError> {
        let refusal = self.refuses.lock().unwrap().clone();
        match refusal {
            Some(error) => Err(error),
            None => Ok(self.state()),
        }
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        loop {
            let changed = self.changed.notified();
            let state = self.state();
            if state.index_of(topic) > after || tokio::time::timeout_at(until, changed).await.is_err() {
                return self.state();
            }
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, DeskError> {
        let refusal = self.refuses.lock().unwrap().clone();
        match refusal {
            Some(error) => Err(error),
            None => Ok(self.apply(&command)),
        }
    }
}
