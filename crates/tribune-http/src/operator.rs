//! `/v1/operator/…`, and what only the assembled server can do for it and for its neighbours: ask other servers,
//! change the agreement, look at the servers' health, handle keys.

mod autopilot;
mod errand;
mod keyring;
mod raft;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tribune_core::autopilot::Report;
use tribune_core::coordinate::Coordinate;
use tribune_core::{Datacenter, Index};

use crate::host::HostError;
use crate::router::Router;

pub use errand::{Answered, Errand};
pub(crate) use errand::{Office, at_datacenter, at_leader};

/// The server behind the API of the datacenter; the program implements it. Methods that say "on the leader" are
/// called there only: the API sends a request that needs them to the leader first.
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    /// Whether this server leads its datacenter.
    fn leads(&self) -> bool;

    /// Has the leader answer a request, whatever the answer. [`HostError::Failed`] with Consul's text when there
    /// is no leader or it cannot be reached.
    async fn ask_leader(&self, errand: Errand) -> Result<Answered, HostError>;

    /// Has any server of another datacenter answer a request.
    async fn ask_datacenter(&self, datacenter: &Datacenter, errand: Errand) -> Result<Answered, HostError>;

    /// All known datacenters, this one included, the nearest first; those without a known distance come last.
    fn datacenters(&self) -> Vec<Distance>;

    /// Whether another datacenter is known to have no instance of a service that is passing or warning. `false`
    /// when that is not certain.
    fn lacks(&self, datacenter: &Datacenter, service: &str) -> bool;

    /// The agreement as this server knows it.
    fn raft(&self) -> RaftConfiguration;

    /// Puts a server out of the agreement, dead or alive. On the leader.
    async fn remove_peer(&self, id: &str) -> Result<(), HostError>;

    /// Hands the leadership to this server, or to the one that is furthest. On the leader.
    async fn transfer_leader(&self, to: Option<&str>) -> Result<(), HostError>;

    /// How the servers are, as [`tribune_core::autopilot::Autopilot`] last found them; `None` before its first
    /// round. On the leader.
    fn health(&self) -> Option<Report>;

    /// Does something with the keys of gossip on all members of all pools, or with `local_only` of the LAN pool.
    /// Gives each pool, the WAN pool first.
    async fn keyring(
        &self,
        operation: &KeyringOperation,
        options: KeyringOptions,
    ) -> Result<Vec<PoolKeys>, HostError>;

    /// Where the servers of all datacenters lie, as this server measures it.
    fn servers_located(&self) -> Vec<ServerLocated>;
}

/// A datacenter and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distance {
    /// Which.
    pub datacenter: Datacenter,
    /// The median of the round trips to its servers, zero for this one; `None` while none was measured.
    pub round_trip: Option<Duration>,
}

/// The agreement of a datacenter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftConfiguration {
    /// All servers with a part in it.
    pub servers: Vec<RaftServer>,
    /// Where in the log it was made; zero when that is not known.
    pub index: Index,
}

/// A server in the agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftServer {
    /// Its stable id.
    pub id: String,
    /// Its node name; `None` when no member has its id.
    pub node: Option<String>,
    /// Where other servers reach it, `ip:port`.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether its vote counts.
    pub voter: bool,
    /// Its last entry, as far as this server knows.
    pub last_index: Option<Index>,
}

/// What to do with keys. Keys are given as they are written: base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringOperation {
    /// Tell which there are.
    List,
    /// Add one with which packets can be read.
    Install(String),
    /// Make one of those the one that packets are written with.
    Use(String),
    /// Forget one.
    Remove(String),
}

/// How to do it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyringOptions {
    /// How many other members pass an answer on, 0 to 5.
    pub relay_factor: u8,
    /// Only in the pool of this datacenter.
    pub local_only: bool,
}

/// The keys of one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolKeys {
    /// Whether it is the pool of all servers of all datacenters.
    pub wan: bool,
    /// The datacenter that was asked.
    pub datacenter: String,
    /// What went wrong, by member.
    pub messages: BTreeMap<String, String>,
    /// How many members have each key.
    pub keys: BTreeMap<String, usize>,
    /// How many members write with each key.
    pub primary_keys: BTreeMap<String, usize>,
    /// How many members were asked.
    pub nodes: usize,
}

/// A server and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerLocated {
    /// Its datacenter.
    pub datacenter: Datacenter,
    /// Its node name, without the datacenter.
    pub node: String,
    /// Its place among the servers of all datacenters.
    pub coordinate: Coordinate,
}

pub(crate) fn routes(office: &Arc<Office>) -> Router {
    raft::routes(office).merge(autopilot::routes(office)).merge(keyring::routes(office))
}
