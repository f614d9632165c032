//! A node without sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tower::ServiceExt;
use tribune_api::agent::{AgentSelf, Member, Metrics, Version};
use tribune_core::lease::Renewal;
use tribune_core::{Authority, Command, Datacenter, Index, Node, NodeName, Outcome, Pairs, State, Topic};
use tribune_http::{
    DatacenterConfig, Host, HostError, HttpService, LogLevel, NodeConfig, Presentation, datacenter_router,
    event_router, node_router,
};
use tribune_local::{Catalog, CatalogError, Definitions, LocalAgent, Running, StoreAt};
use tribune_raft::{LeaderService, Replica, ServerInfo, Storage};

use crate::event::Post;
use crate::operator::Others;

/// How long a condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node with everything behind its API.
pub(crate) struct TestNode {
    pub(crate) http: HttpService,
    pub(crate) others: Arc<Others>,
    _agent: Running,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

struct OwnCatalog(Replica);

#[async_trait]
impl Catalog for OwnCatalog {
    async fn state(&self) -> Result<Arc<State>, CatalogError> {
        Ok(self.0.state())
    }

    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError> {
        let proposed = self.0.propose(&Authority::unrestricted(), command).await;
        proposed.map_err(|error| CatalogError::Unavailable(error.to_string()))
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        self.0.changed(topic, after, until).await
    }
}

/// A leader that renews whatever it is asked for.
struct Renewals;

#[async_trait]
impl LeaderService for Renewals {
    async fn ask(&self, question: Bytes) -> Result<Bytes, String> {
        assert!(Renewal::asked(&question).is_some());
        Ok(Bytes::from_static(Renewal::Renewed.word().as_bytes()))
    }
}

/// A process that has nothing to tell but its name.
struct Process;

#[async_trait]
impl Host for Process {
    fn about(&self) -> AgentSelf {
        let mut about = AgentSelf::default();
        about.config.node_name = "n1".to_owned();
        about
    }

    fn members(&self, wan: bool) -> Vec<Member> {
        let member = Member { name: "n1".to_owned(), ..Member::default() };
        if wan { Vec::new() } else { vec![member] }
    }

    fn version(&self) -> Version {
        Version { human_version: "1.2.3".to_owned(), ..Version::default() }
    }

    fn machine(&self) -> BTreeMap<String, Value> {
        BTreeMap::new()
    }

    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    fn prometheus(&self) -> Option<String> {
        None
    }

    fn monitor(&self, level: LogLevel, json: bool) -> mpsc::Receiver<Bytes> {
        let (lines, receiver) = mpsc::channel(4);
        lines.try_send(Bytes::from(format!("{level:?} {json}\n"))).unwrap();
        lines.try_send(Bytes::from("second\n")).unwrap();
        receiver
    }

    async fn reload(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn join(&self, address: &str, _: bool) -> Result<(), HostError> {
        Err(HostError::Failed(format!("nobody answers at {address}")))
    }

    async fn leave(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn force_leave(&self, node: &str, _: bool, _: bool) -> Result<(), HostError> {
        Err(HostError::Failed(format!("agent: No node found with name '{node}'")))
    }
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with(Presentation::default(), |_| {}).await
    }

    pub(crate) async fn with(presentation: Presentation, change: impl FnOnce(&mut DatacenterConfig)) -> Self {
        // Other tests of this process may have chosen the same provider before.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let name = NodeName::new("n1").unwrap();
        let server = ServerInfo {
            id: "11111111-2222-3333-4444-555555555555".to_owned(),
            name: name.clone(),
            address: "127.0.0.1:8300".parse().unwrap(),
        };
        let config =
            tribune_raft::Config { bootstrap: true, ..tribune_raft::Config::new(Storage::Memory, server) };
        let replica = Replica::start(config).await.unwrap();
        let node = Node {
            name: name.clone(),
            id: "".into(),
            address: "127.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::from(vec![("rack".into(), "a".into())]),
        };
        let local = tribune_local::Config::new(node, StoreAt::Memory);
        let catalog = Arc::new(OwnCatalog(replica.clone()));
        let (agent, running) = LocalAgent::start(local, catalog, Definitions::default()).await.unwrap();
        replica.set_leader_service(Arc::new(Renewals));
        let mut config = DatacenterConfig::new(Datacenter::new("dc1").unwrap(), 7);
        config.node = Some(name.clone());
        change(&mut config);
        let others = Arc::new(Others::default());
        let node = NodeConfig { name, waits: config.waits, seed: 7 };
        let router = node_router(agent, Arc::new(Process), node).merge(datacenter_router(
            replica,
            others.clone(),
            config,
        ));
        let router = router.merge(event_router(Arc::new(Post::default())));
        Self { http: router.into_service(presentation), others, _agent: running }
    }

    pub(crate) async fn ask(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let request: Request<Full<Bytes>> = request.body(Full::new(body.into())).unwrap();
        let response =
            tokio::time::timeout(PATIENCE, self.http.clone().oneshot(request)).await.unwrap().unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.ask(Request::get(uri), "").await
    }

    pub(crate) async fn put(&self, uri: &str, body: &str) -> Answer {
        self.ask(Request::put(uri), body.to_owned()).await
    }

    pub(crate) async fn delete(&self, uri: &str) -> Answer {
        self.ask(Request::delete(uri), "").await
    }

    /// Puts and expects that it was taken.
    pub(crate) async fn done(&self, uri: &str, body: &str) {
        let answer = self.put(uri, body).await;
        assert_eq!(answer.status, 200, "{uri}: {}", answer.text());
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn index(&self) -> u64 {
        self.headers["x-consul-index"].to_str().unwrap().parse().unwrap()
    }

    /// Status and body at once.
    pub(crate) fn said(&self) -> (u16, &str) {
        (self.status, self.text())
    }
}
