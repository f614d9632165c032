//! A catalog for tests: the real state machine behind the trait, with a lock instead of a log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tribune_core::{Authority, Command, Index, Node, NodeName, Outcome, Pairs, State, Status, Topic};
use tribune_local::{Catalog, CatalogError};

pub(crate) const NODE: &str = "n1";

pub(crate) struct Datacenter {
    state: Mutex<State>,
    newest: watch::Sender<Arc<State>>,
    pub(crate) leaderless: AtomicBool,
    pub(crate) writes: AtomicU64,
}

impl Datacenter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            newest: watch::Sender::new(Arc::default()),
            leaderless: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        })
    }

    pub(crate) fn apply(&self, command: &Command) -> Outcome {
        let mut state = self.state.lock().unwrap();
        let next = Index(state.index().0 + 1);
        let outcome = state.apply(next, command).outcome;
        self.newest.send_replace(Arc::new(state.clone()));
        outcome
    }

    /// The status of a check of this node in the catalog.
    pub(crate) fn status(&self, check: &str) -> Option<Status> {
        let state = self.newest.borrow().clone();
        let authority = Authority::unrestricted();
        state.view(&authority).node(NODE)?.check(check).map(|check| check.check.value.status)
    }

    pub(crate) fn has_service(&self, id: &str) -> bool {
        let state = self.newest.borrow().clone();
        let authority = Authority::unrestricted();
        state.view(&authority).node(NODE).is_some_and(|node| node.instance(id).is_some())
    }

    /// Waits until the catalog is as wished for.
    pub(crate) async fn eventually(&self, what: &str, wished: impl Fn(&Self) -> bool) {
        let mut changes = self.newest.subscribe();
        let until = Instant::now() + std::time::Duration::from_secs(300);
        while !wished(self) {
            let waited = timeout_at(until, changes.changed()).await;
            assert!(waited.is_ok(), "never came to pass: {what}");
        }
    }
}

#[async_trait]
impl Catalog for Datacenter {
    async fn state(&self) -> Result<Arc<State>, CatalogError> {
        Ok(self.newest.borrow().clone())
    }

    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError> {
        tokio::task::yield_now().await;
        if self.leaderless.load(Ordering::Relaxed) {
            return Err(CatalogError::NoLeader);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(self.apply(&command))
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        let mut changes = self.newest.subscribe();
        let newer = changes.wait_for(|state| state.index_of(topic) > after);
        match timeout_at(until, newer).await {
            Ok(Ok(state)) => state.clone(),
            _ => self.newest.borrow().clone(),
        }
    }
}

pub(crate) fn node() -> Node {
    Node {
        name: NodeName::new(NODE).unwrap(),
        id: "11111111-2222-3333-4444-555555555555".into(),
        address: "10.0.0.1".into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
    }
}
