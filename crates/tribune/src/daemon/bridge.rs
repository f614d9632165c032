//! The datacenter in the words of the crates that use it without knowing whether this node holds the catalog (a
//! server, with its replica) or asks for it (a client agent, with its uplink).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tribune_core::dns::Subject;
use tribune_core::{Authority, Command, Datacenter, Index, NodeName, Outcome, State, Topic};
use tribune_dns::{Found, RemoteError, RemoteLookup, Source, TopicLookup};
use tribune_local::{Catalog, CatalogError};
use tribune_raft::{Error, Replica};
use tribune_wan::{Desk, DeskError, Finding, Seeker, SliceError, Slices, Uplink};

use super::federation::Federation;

/// The catalog of a node that is a server itself.
pub(super) struct OwnCatalog {
    replica: Replica,
    authority: Authority,
}

impl OwnCatalog {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, authority: Authority::unrestricted() }
    }
}

#[async_trait]
impl Catalog for OwnCatalog {
    async fn state(&self) -> Result<Arc<State>, CatalogError> {
        self.replica.read(tribune_raft::Consistency::Default).await.map_err(for_agent)
    }

    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError> {
        self.replica.propose(&self.authority, command).await.map_err(for_agent)
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        self.replica.changed(topic, after, until).await
    }
}

fn for_agent(error: Error) -> CatalogError {
    from_desk(for_peers(error))
}

/// What a server answers other nodes from.
#[async_trait]
impl Desk for OwnCatalog {
    fn state(&self) -> Arc<State> {
        self.replica.state()
    }

    async fn read(&self) -> Result<Arc<State>, DeskError> {
        self.replica.read(tribune_raft::Consistency::Default).await.map_err(for_peers)
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        self.replica.changed(topic, after, until).await
    }

    async fn propose(&self, command: Command) -> Result<Outcome, DeskError> {
        self.replica.propose(&self.authority, command).await.map_err(for_peers)
    }
}

fn for_peers(error: Error) -> DeskError {
    match error {
        Error::NoLeader(_) => DeskError::NoLeader,
        Error::Unknown(why) => DeskError::Unknown(why),
        other => DeskError::Unavailable(other.to_string()),
    }
}

/// The catalog of a client agent: its own node's part of it, as the servers have it.
pub(super) struct FarCatalog {
    uplink: Uplink,
    own: Topic,
}

impl FarCatalog {
    pub(super) fn new(uplink: Uplink, node: &NodeName) -> Self {
        Self { uplink, own: Topic::Node(node.folded()) }
    }
}

#[async_trait]
impl Catalog for FarCatalog {
    async fn state(&self) -> Result<Arc<State>, CatalogError> {
        self.uplink.read(&self.own).await.map(|slice| slice.state).map_err(from_desk)
    }

    async fn propose(&self, command: Command) -> Result<Outcome, CatalogError> {
        self.uplink.propose(&command).await.map_err(from_desk)
    }

    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State> {
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            match self.uplink.changed(topic, after, wait).await {
                Ok(slice) => return slice.state,
                Err(_) if wait.is_zero() => return Arc::default(),
                // Without servers there is nothing new; whoever waits goes on waiting.
                Err(_) => tokio::time::sleep_until(until.min(Instant::now() + super::RETRY_PAUSE)).await,
            }
        }
    }
}

fn from_desk(error: DeskError) -> CatalogError {
    match error {
        DeskError::NoLeader => CatalogError::NoLeader,
        DeskError::Unknown(why) => CatalogError::Unknown(why),
        DeskError::Unavailable(why) => CatalogError::Unavailable(why),
    }
}

/// What DNS answers from on a server.
pub(super) struct OwnState {
    replica: Replica,
    authority: Arc<Authority>,
}

impl OwnState {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, authority: Arc::new(Authority::unrestricted()) }
    }
}

impl Source for OwnState {
    fn state(&self) -> Arc<State> {
        self.replica.state()
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }
}

/// What DNS answers from when others hold the catalog: slices of it, kept while they are asked for.
pub(super) struct FarStates {
    slices: Slices,
    own: Datacenter,
    /// Executes prepared queries, on a server.
    seeker: Option<Seeker>,
    authority: Arc<Authority>,
}

impl FarStates {
    /// The slices of a client agent in datacenter `own`.
    pub(super) fn of_agent(slices: Slices, own: Datacenter) -> Self {
        Self { slices, own, seeker: None, authority: Arc::new(Authority::unrestricted()) }
    }

    /// The slices of other datacenters on a server.
    pub(super) fn of_server(federation: &Federation) -> Self {
        let (slices, own) = (federation.slices.clone(), federation.own.clone());
        Self { seeker: Some(federation.seeker.clone()), ..Self::of_agent(slices, own) }
    }

    /// Who executes the prepared queries of this datacenter.
    fn seeker_of(&self, datacenter: &Datacenter) -> Option<&Seeker> {
        self.seeker.as_ref().filter(|_| *datacenter == self.own)
    }
}

#[async_trait]
impl TopicLookup for FarStates {
    fn peek(&self, topic: &Topic) -> Option<Arc<State>> {
        self.slices.peek(&self.own, topic)
    }

    async fn fetch(&self, topic: &Topic) -> Result<Arc<State>, RemoteError> {
        self.slices.fetch(&self.own, topic).await.map_err(for_dns)
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.clone()
    }
}

#[async_trait]
impl RemoteLookup for FarStates {
    fn peek(&self, datacenter: &Datacenter, subject: &Subject) -> Option<Found> {
        if let Subject::Query(name) = subject {
            return match self.seeker_of(datacenter) {
                Some(seeker) => seeker.peek(name).map(found),
                None => self.slices.peek_query(datacenter, name).map(found),
            };
        }
        let state = self.slices.peek(datacenter, &subject.topic()?)?;
        Some(Found::records(datacenter, state))
    }

    async fn fetch(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Found, RemoteError> {
        if let Subject::Query(name) = subject {
            let finding = match self.seeker_of(datacenter) {
                Some(seeker) => seeker.find(name).await,
                None => self.slices.fetch_query(datacenter, name).await,
            };
            if matches!(finding, Err(SliceError::Unreachable)) {
                metrics::counter!("dns.queries_unanswered").increment(1);
            }
            return finding.map(found).map_err(for_dns);
        }
        let Some(topic) = subject.topic() else { return Ok(Found::records(datacenter, Arc::default())) };
        let state = self.slices.fetch(datacenter, &topic).await.map_err(for_dns)?;
        Ok(Found::records(datacenter, state))
    }
}

fn found(Finding { datacenter, state, query }: Finding) -> Found {
    Found { datacenter, state, query }
}

fn for_dns(error: SliceError) -> RemoteError {
    match error {
        SliceError::Unknown => RemoteError::Unknown,
        SliceError::Unreachable => RemoteError::Unreachable,
    }
}
