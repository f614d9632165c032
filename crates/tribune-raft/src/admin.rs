//! Who belongs to the agreement, and changing it step by step. Every step is carried out by the leader; another
//! server passes it on.

mod saved;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tribune_core::Index;

use crate::config::ServerInfo;
use crate::error::Error;
use crate::replica::Replica;
use crate::transport::{Method, TransportError};
use crate::types::{ServerNode, consensus_id};
use crate::wire::{Order, Ordered};

pub use saved::Saved;

/// What a leader needs beyond the hold timeout for a step: a new server may have to catch up first.
const STEP_PATIENCE: Duration = Duration::from_secs(30);

/// Why a step was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AdminError {
    /// This server has a log already: it belongs to a cluster.
    #[error("this server belongs to a cluster already; only servers with empty data directories found one")]
    Initialised,
    /// The list of servers cannot be what was meant.
    #[error("{0}")]
    Invalid(String),
    /// No server with this id belongs to the cluster.
    #[error("no server with the id {0} belongs to the cluster")]
    NoSuchServer(String),
    /// Too few servers would be left that can be reached: nothing could be agreed upon any more.
    #[error("{0}")]
    BreaksQuorum(String),
    /// The server has not caught up with the log.
    #[error("server {id} lags {lag} entries behind; wait until it has caught up")]
    Lags {
        /// Which one.
        id: String,
        /// By how much.
        lag: u64,
    },
    /// Another change is under way.
    #[error("another change of the membership is under way; try again when it is done")]
    InProgress,
    /// No leader was found in time. Nothing was changed.
    #[error("no leader was found within {0:?}: nothing was changed, try again")]
    NoLeader(Duration),
    /// The step may or may not be taken yet. Look at the servers before repeating it.
    #[error("the outcome is unknown, it may still come into effect: {0}")]
    Unknown(String),
    /// This replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

impl From<Error> for AdminError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoLeader(waited) => Self::NoLeader(waited),
            Error::Stopped(reason) => Self::Stopped(reason),
            Error::Unknown(reason) => Self::Unknown(reason),
            other @ (Error::Denied | Error::Busy | Error::TooLong(_) | Error::DiskFull { .. }) => {
                Self::Invalid(other.to_string())
            }
        }
    }
}

/// A server as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Who it is.
    pub server: ServerInfo,
    /// Whether its vote counts.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// How long ago it last answered the leader; zero for the leader itself, `None` when it has not answered
    /// this leader yet.
    pub last_contact: Option<Duration>,
    /// The last entry known to be in its log.
    pub last_index: Index,
    /// The term of that entry.
    pub last_term: u64,
    /// Whether it has lost entries that it had confirmed: it must be put out and taken in anew.
    pub forgetful: bool,
}

/// Changes who takes part. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Admin(Replica);

impl Admin {
    pub(crate) fn new(replica: Replica) -> Self {
        Self(replica)
    }

    /// Founds the cluster with these servers as its voters. All of them should be told so, with the same list in
    /// any order; those that are not are taken in by the others. Refused by a server that has a log.
    pub async fn bootstrap(&self, servers: &[ServerInfo]) -> Result<(), AdminError> {
        let members: BTreeMap<u64, ServerNode> =
            servers.iter().map(|server| (consensus_id(&server.id), server.into())).collect();
        if members.len() != servers.len() {
            return Err(AdminError::Invalid("two of the servers have the same id".to_owned()));
        }
        let inner = &self.0.0;
        if !members.contains_key(&inner.id) {
            return Err(AdminError::Invalid(
                "this server is not in the list of those it shall found".to_owned(),
            ));
        }
        let initialised = inner.raft.is_initialized().await.map_err(|_| self.0.stopped_error())?;
        let ids: Vec<String> = servers.iter().map(|server| server.id.clone()).collect();
        let cluster = inner.identity.founded_by(&ids);
        if initialised || !["", &*cluster].contains(&inner.identity.cluster()) {
            return Err(AdminError::Initialised);
        }
        self.0.join(&cluster).await.map_err(|reason| AdminError::Stopped(reason.to_string()))?;
        match inner.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(AdminError::Initialised),
            Err(RaftError::APIError(error)) => Err(AdminError::Invalid(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(self.0.stopped_error().into()),
        }
    }

    /// Takes a server in without a vote: it gets everything and is counted for nothing. One that is in already
    /// gets the name and address given.
    pub async fn add_learner(&self, server: ServerInfo) -> Result<(), AdminError> {
        self.order(Order::AddLearner(server)).await.map(drop)
    }

    /// Gives a server that has caught up a vote.
    pub async fn promote(&self, id: &str) -> Result<(), AdminError> {
        self.order(Order::Promote(id.to_owned())).await.map(drop)
    }

    /// Takes a server's vote; it goes on getting everything.
    pub async fn demote(&self, id: &str) -> Result<(), AdminError> {
        self.order(Order::Demote(id.to_owned())).await.map(drop)
    }

    /// Lets a server go, whether it is still there or not.
    pub async fn remove(&self, id: &str) -> Result<(), AdminError> {
        self.order(Order::Remove(id.to_owned())).await.map(drop)
    }

    /// Makes this voter lead, or the one that is furthest ahead. Returns once it does.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<(), AdminError> {
        self.order(Order::Transfer(to.map(str::to_owned))).await.map(drop)
    }

    /// All servers as the leader sees them, sorted by id.
    pub async fn progress(&self) -> Result<Vec<Progress>, AdminError> {
        match self.order(Order::Progress).await? {
            Ordered::Progress(progress) => Ok(progress),
            Ordered::Done | Ordered::Failed(_) => Err(AdminError::Unknown("another answer came".to_owned())),
        }
    }

    /// Carries an order out here or where the leader is.
    async fn order(&self, order: Order) -> Result<Ordered, AdminError> {
        let hold = self.0.0.config.rpc_hold_timeout;
        let deadline = Instant::now() + hold;
        loop {
            let outcome = match self.0.leader_elsewhere() {
                None => self.0.carry_out(&order).await,
                Some(leader) => {
                    let until = Instant::now() + hold + STEP_PATIENCE;
                    let called = self.0.0.caller.call(&leader, Method::Admin, &order, until).await;
                    called.unwrap_or_else(|error| match error {
                        TransportError::Unreachable(_) | TransportError::Refused(_) => {
                            Ordered::Failed(AdminError::NoLeader(hold))
                        }
                        TransportError::Lost(reason) => Ordered::Failed(AdminError::Unknown(reason)),
                    })
                }
            };
            match outcome {
                Ordered::Failed(AdminError::NoLeader(_)) => self.0.pause(deadline).await?,
                Ordered::Failed(error) => return Err(error),
                done => return Ok(done),
            }
        }
    }
}
