//! What nodes ask one another beside the HTTP API: a slice of the state, what a prepared query finds, a command to be
//! written, the tallies of services, and whether anybody is there. Bodies are msgpack.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tribune_core::query::Query;
use tribune_core::state::{Record, Tally};
use tribune_core::{Authority, Command, Datacenter, Folded, Index, Outcome, ServiceName, State, Topic};

use crate::body::{FarBody, whole};
use crate::courier::KNOCK_PATH;
use crate::failure::{Failure, text};
use crate::forward::Forwarder;
use crate::parcel::{self, Kind, Parcel};
use crate::seeker::Seeker;

/// Everything that is asked here begins with this.
pub(crate) const RPC_PREFIX: &str = "/rpc/";
pub(crate) const SLICE_PATH: &str = "/rpc/slice";
pub(crate) const QUERY_PATH: &str = "/rpc/query";
pub(crate) const PROPOSE_PATH: &str = "/rpc/propose";
pub(crate) const SUMMARY_PATH: &str = "/rpc/summary";

/// Longest answer, in bytes; a slice beyond it is refused rather than cut.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Within this time an answer that has begun must be here in full.
pub(crate) const COLLECT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for something newer.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a server answers from: its own part in the agreement of its datacenter.
#[async_trait]
pub trait Desk: Send + Sync + 'static {
    /// The newest state this server has.
    fn state(&self) -> Arc<State>;

    /// A state at least as new as every write that was acknowledged before.
    async fn read(&self) -> Result<Arc<State>, DeskError>;

    /// The state once `topic` has an index above `after`, or whatever there is at `until`.
    async fn changed(&self, topic: &Topic, after: Index, until: Instant) -> Arc<State>;

    /// Has a command written.
    async fn propose(&self, command: Command) -> Result<Outcome, DeskError>;
}

/// Why a datacenter could not be asked or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum DeskError {
    /// Nobody leads the datacenter at present. Nothing was written.
    #[error("No cluster leader")]
    NoLeader,
    /// The answer was lost: it may or may not have been written.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// No server could be reached, or none accepted it. Nothing was written.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Failure> for DeskError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsure(reason) => Self::Unknown(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Asks for the records of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SliceQuestion {
    pub(crate) topic: Topic,
    /// Answer only what is newer than this; zero answers at once.
    pub(crate) index: Index,
    pub(crate) wait_ms: u64,
    /// Whether the answer must show every write that was acknowledged before.
    pub(crate) fresh: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SliceAnswer {
    /// From which the next question goes on.
    pub(crate) index: Index,
    pub(crate) records: Vec<Record>,
}

/// Has a prepared query executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueryQuestion {
    /// Its id or name.
    pub(crate) name: String,
    /// Answer only what differs from this; nothing answers at once.
    pub(crate) known: Option<Mark>,
    pub(crate) wait_ms: u64,
}

/// By which the findings of a query are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// When something last changed in the datacenter of the query that the finding depends on.
    pub(crate) index: Index,
    /// The datacenter that it failed over to, and when the service last changed there.
    pub(crate) elsewhere: Option<(Datacenter, Index)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryAnswer {
    pub(crate) mark: Mark,
    /// The query, filled in; none when there is no such query.
    pub(crate) query: Option<Query>,
    /// Where the instances are.
    pub(crate) datacenter: Datacenter,
    pub(crate) records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SummaryQuestion {
    pub(crate) index: Index,
    pub(crate) wait_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SummaryAnswer {
    pub(crate) index: Index,
    /// Whether what is not named is not there.
    pub(crate) whole: bool,
    pub(crate) changed: Vec<(ServiceName, Tally)>,
    pub(crate) gone: Vec<Folded>,
}

/// Packs a message.
pub(crate) fn pack<T: Serialize>(message: &T) -> Result<Bytes, Failure> {
    let packed = rmp_serde::to_vec_named(message);
    packed.map(Bytes::from).map_err(|error| {
        Failure::refused(StatusCode::INTERNAL_SERVER_ERROR, format!("an answer cannot be packed: {error}"))
    })
}

/// Unpacks a message of another node.
pub(crate) fn unpack<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Failure> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        Failure::refused(
            StatusCode::BAD_REQUEST,
            format!("another node speaks in a way unknown here: {error}"),
        )
    })
}

/// Answers what nodes ask a server of its datacenter. Clones are cheap.
#[derive(Clone)]
pub struct RpcService {
    own: Datacenter,
    desk: Arc<dyn Desk>,
    forwarder: Option<Forwarder>,
    seeker: Seeker,
}

impl RpcService {
    /// The service of a server in datacenter `own`. With a forwarder, questions of this datacenter's agents about
    /// other datacenters are passed on.
    pub fn new(own: Datacenter, desk: Arc<dyn Desk>, forwarder: Option<Forwarder>) -> Self {
        let seeker = Seeker::new(own.clone(), desk.clone());
        Self { own, desk, forwarder, seeker }
    }

    /// Has prepared queries fail over as `seeker` does; without, they find only what is in this datacenter.
    #[must_use]
    pub fn with_seeker(self, seeker: Seeker) -> Self {
        Self { seeker, ..self }
    }

    /// Answers a request below `/rpc/` from a node of this datacenter.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<FarBody>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let parcel = match parcel::collect(request).await {
            Ok(parcel) => parcel,
            Err(failure) => return failure.to_peer(),
        };
        let elsewhere = parcel::named_datacenter(&parcel.query)
            .and_then(|name| Datacenter::new(name.to_lowercase()).ok())
            .filter(|named| *named != self.own);
        let answered = match (elsewhere, &self.forwarder) {
            (None, _) => self.here(&parcel).await,
            (Some(_), None) => Err(Failure::Unknown),
            (Some(_), _) if parcel.path == PROPOSE_PATH => {
                let text = "commands are written in the datacenter of their agent only";
                Err(Failure::refused(StatusCode::FORBIDDEN, text))
            }
            (Some(datacenter), Some(forwarder)) => {
                let kind = waiting_kind(&parcel);
                forwarder.carrier().carry(&datacenter, Parcel { kind, ..parcel }).await
            }
        };
        answered.unwrap_or_else(|failure| failure.to_peer())
    }

    /// Answers from this datacenter.
    pub(crate) async fn here(&self, parcel: &Parcel) -> Result<Response<FarBody>, Failure> {
        let body = &parcel.body;
        match parcel.path.as_str() {
            KNOCK_PATH => Ok(text(StatusCode::OK, String::new())),
            SLICE_PATH => self.slice(unpack(body)?).await.and_then(packed),
            SUMMARY_PATH => self.summary(unpack(body)?).await.and_then(packed),
            QUERY_PATH => {
                let QueryQuestion { name, known, wait_ms } = unpack(body)?;
                let until = Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
                let found = self.seeker.answer(&name, known.as_ref(), until).await;
                packed(found.map_err(|error| DeskError::Unavailable(error.to_string())))
            }
            PROPOSE_PATH => {
                let command: Command = unpack(body)?;
                packed(self.desk.propose(command).await)
            }
            other => Err(Failure::refused(
                StatusCode::NOT_FOUND,
                format!("no such request between nodes: {other}"),
            )),
        }
    }

    async fn slice(&self, question: SliceQuestion) -> Result<Result<SliceAnswer, DeskError>, Failure> {
        let mut state = match question.fresh {
            true => match self.desk.read().await {
                Ok(state) => state,
                Err(error) => return Ok(Err(error)),
            },
            false => self.desk.state(),
        };
        let mut watched = watched(&question.topic, &state);
        if question.index > Index(0) && state.index_of(&watched) <= question.index {
            let wait = Duration::from_millis(question.wait_ms).min(WAIT_MAX);
            state = self.desk.changed(&watched, question.index, Instant::now() + wait).await;
            watched = self::watched(&question.topic, &state);
        }
        Ok(Ok(SliceAnswer { index: state.index_of(&watched), records: state.slice(&question.topic) }))
    }

    async fn summary(&self, question: SummaryQuestion) -> Result<SummaryAnswer, Failure> {
        let mut state = self.desk.state();
        if question.index > Index(0) && state.index_of(&Topic::Catalog) <= question.index {
            let wait = Duration::from_millis(question.wait_ms).min(WAIT_MAX);
            state = self.desk.changed(&Topic::Catalog, question.index, Instant::now() + wait).await;
        }
        let authority = Authority::unrestricted();
        // Whoever knows more than this server has followed another one: it is told everything.
        let known = Some(question.index).filter(|index| *index <= state.index());
        let changes = known.and_then(|index| state.tallies_after(index, &authority));
        let whole = changes.is_none() || question.index == Index(0);
        let changes = match changes {
            Some(changes) => changes,
            None => state.tallies_after(Index(0), &authority).unwrap_or_default(),
        };
        let index = state.index_of(&Topic::Catalog);
        Ok(SummaryAnswer { index, whole, changed: changes.changed, gone: changes.gone })
    }
}

/// The topic that tells when a slice has changed: a node that is not there may be named by its id, which any change
/// of nodes can bring about.
fn watched(topic: &Topic, state: &State) -> Topic {
    match topic {
        Topic::Node(key) if state.view(&Authority::unrestricted()).node(key.as_str()).is_none() => {
            Topic::Nodes
        }
        topic => topic.clone(),
    }
}

/// How long a question may wait that is passed on.
pub(crate) fn waiting_kind(parcel: &Parcel) -> Kind {
    let wait_ms = match parcel.path.as_str() {
        SLICE_PATH => {
            unpack::<SliceQuestion>(&parcel.body).ok().filter(|it| it.index > Index(0)).map(|it| it.wait_ms)
        }
        SUMMARY_PATH => {
            unpack::<SummaryQuestion>(&parcel.body).ok().filter(|it| it.index > Index(0)).map(|it| it.wait_ms)
        }
        QUERY_PATH => {
            unpack::<QueryQuestion>(&parcel.body).ok().filter(|it| it.known.is_some()).map(|it| it.wait_ms)
        }
        KNOCK_PATH => None,
        _ => return Kind::Write,
    };
    wait_ms.map_or(Kind::Read, |wait| Kind::Wait(Duration::from_millis(wait).min(WAIT_MAX)))
}

fn packed<T: Serialize>(answer: T) -> Result<Response<FarBody>, Failure> {
    let bytes = pack(&answer)?;
    if bytes.len() > ANSWER_BYTES_MAX {
        let text =
            format!("the answer would be {} bytes, more than the {ANSWER_BYTES_MAX} allowed", bytes.len());
        return Err(Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(Response::new(whole(bytes)))
}
