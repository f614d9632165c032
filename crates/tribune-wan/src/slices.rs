//! Slices of other nodes' states, kept: what DNS answers from where there is no catalog. What a prepared query finds is
//! kept in the same way.
//!
//! An entry is fetched once, whoever asks, and then followed by one blocking query while it is in use. While the
//! other side is away the last good slice answers, up to a bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tribune_core::query::Query;
use tribune_core::state::Record;
use tribune_core::{Datacenter, Folded, Index, State, Topic};

use crate::body::{self, FarBody, NotCollected};
use crate::exchange::Carrier;
use crate::failure::Failure;
use crate::flights::{Flights, Join};
use crate::forward::Forwarder;
use crate::parcel::{Kind, Parcel};
use crate::rpc::{
    self, ANSWER_BYTES_MAX, COLLECT_MAX, DeskError, Mark, QUERY_PATH, QueryAnswer, QueryQuestion, SLICE_PATH,
    SliceAnswer, SliceQuestion,
};
use crate::seeker::Finding;

/// How long the other side may stay silent about an entry; it is then asked again.
const WAIT: Duration = Duration::from_secs(30);
/// An entry that was not confirmed for longer than this has lost its other side.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Pause after a failed query; doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause after a failed query.
const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// Pause between two answers, so that a service that changes all the time costs little.
const CHANGES_APART: Duration = Duration::from_millis(50);

/// How slices are kept.
#[derive(Debug, Clone)]
pub struct SlicesConfig {
    /// How old a slice may be that answers while the other side is away (default 10 minutes).
    pub stale_max: Duration,
    /// A slice that nobody asks for is let go after this time (default 10 minutes).
    pub idle_max: Duration,
    /// Most slices kept (default 1024).
    pub entries_max: usize,
    /// Memory for them, in bytes as they travel (default 64 MiB).
    pub bytes_max: usize,
    /// How long a slice is waited for that is not there (default 3 seconds).
    pub fetch_timeout: Duration,
}

impl Default for SlicesConfig {
    fn default() -> Self {
        Self {
            stale_max: Duration::from_secs(600),
            idle_max: Duration::from_secs(600),
            entries_max: 1024,
            bytes_max: 64 << 20,
            fetch_timeout: Duration::from_secs(3),
        }
    }
}

/// A state with the records of one topic only.
#[derive(Debug, Clone)]
pub struct Slice {
    /// From which a blocking question goes on.
    pub index: Index,
    /// The records.
    pub state: Arc<State>,
    /// What it is a slice of besides, when a prepared query was asked for.
    found: Option<Found>,
    bytes: usize,
}

/// What a prepared query found, beside the records.
#[derive(Debug, Clone)]
struct Found {
    query: Option<Arc<Query>>,
    datacenter: Datacenter,
    mark: Mark,
}

/// A slice that is at hand.
#[derive(Debug, Clone)]
pub(crate) struct AtHand {
    pub(crate) state: Arc<State>,
    /// Whether the other side still answers, as far as known.
    pub(crate) is_current: bool,
}

/// Why there is no slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// There is no such datacenter.
    #[error("no such datacenter is known")]
    Unknown,
    /// It cannot be reached now, or did not answer in time.
    #[error("the datacenter does not answer")]
    Unreachable,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wanted {
    Topic(Topic),
    /// What the prepared query of this id or name finds.
    Query(Folded),
}

type Key = (Datacenter, Wanted);

/// Kept slices. Clones are cheap and share everything; the last one takes the tasks along that follow entries.
#[derive(Clone)]
pub struct Slices(Arc<Inner>);

struct Inner {
    carrier: Arc<dyn Carrier>,
    table: Arc<Mutex<Table>>,
    flights: Flights<Result<Slice, SliceError>>,
    followers: Mutex<JoinSet<()>>,
    config: SlicesConfig,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    slice: Slice,
    confirmed: Instant,
    /// Whether the last question failed.
    is_lost: bool,
    last_use: Instant,
    /// Ends with the entry, together with the question it has open.
    follower: AbortHandle,
}

impl Table {
    fn remove(&mut self, key: &Key) {
        if let Some(gone) = self.entries.remove(key) {
            gone.follower.abort();
            self.bytes -= gone.slice.bytes;
        }
    }

    /// Lets the slices go that are unused for longest until there is room.
    fn make_room(&mut self, config: &SlicesConfig) {
        while self.bytes > config.bytes_max || self.entries.len() > config.entries_max {
            let oldest =
                self.entries.iter().min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
    }

    fn put(&mut self, key: Key, slice: Slice, follower: AbortHandle, config: &SlicesConfig, now: Instant) {
        self.remove(&key);
        self.bytes += slice.bytes;
        self.entries.insert(key, Entry { slice, confirmed: now, is_lost: false, last_use: now, follower });
        self.make_room(config);
    }

    fn update(&mut self, key: &Key, slice: Slice, config: &SlicesConfig, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        (entry.confirmed, entry.is_lost) = (now, false);
        // Whoever has prepared an answer from the slice keeps it while the slice is the same.
        if slice.index != entry.slice.index || slice.mark() != entry.slice.mark() {
            self.bytes = self.bytes - entry.slice.bytes + slice.bytes;
            entry.slice = slice;
            self.make_room(config);
        }
    }

    fn lose(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.is_lost = true;
        }
    }

    /// What there is, to go on from; `None`, and no entry any more, when nobody uses it.
    fn next(&mut self, key: &Key, idle_max: Duration, now: Instant) -> Option<(Index, Option<Mark>)> {
        let entry = self.entries.get(key)?;
        if now.saturating_duration_since(entry.last_use) > idle_max {
            self.remove(key);
            return None;
        }
        Some((entry.slice.index, entry.slice.mark().cloned()))
    }

    /// The slice, and whether the other side still answers.
    fn peek(&mut self, key: &Key, stale_max: Duration, now: Instant) -> Option<(&Slice, bool)> {
        let entry = self.entries.get_mut(key)?;
        entry.last_use = now;
        let age = now.saturating_duration_since(entry.confirmed);
        if age > SILENCE_MAX {
            if age > stale_max {
                return None;
            }
            metrics::counter!("tribune.wan.stale_slices").increment(1);
        }
        Some((&entry.slice, age <= SILENCE_MAX && !entry.is_lost))
    }
}

impl Slice {
    fn mark(&self) -> Option<&Mark> {
        self.found.as_ref().map(|found| &found.mark)
    }

    /// What a prepared query found in or for `datacenter`.
    fn finding(&self, datacenter: &Datacenter) -> Finding {
        let (query, place) = match &self.found {
            Some(found) => (found.query.clone(), &found.datacenter),
            None => (None, datacenter),
        };
        Finding { query, datacenter: place.clone(), state: self.state.clone() }
    }
}

impl Forwarder {
    /// Kept slices of other datacenters, for DNS.
    pub fn slices(&self, config: SlicesConfig) -> Slices {
        Slices::new(self.carrier(), config)
    }
}

impl Slices {
    pub(crate) fn new(carrier: Arc<dyn Carrier>, config: SlicesConfig) -> Self {
        let (table, flights, followers) = (Arc::default(), Flights::new(), Mutex::default());
        Self(Arc::new(Inner { carrier, table, flights, followers, config }))
    }

    /// The slice if it is at hand and young enough; neither waits nor asks.
    pub fn peek(&self, datacenter: &Datacenter, topic: &Topic) -> Option<Arc<State>> {
        self.at_hand(datacenter, topic).map(|held| held.state)
    }

    /// The same, with word of whether the other side still answers.
    pub(crate) fn at_hand(&self, datacenter: &Datacenter, topic: &Topic) -> Option<AtHand> {
        let key = (datacenter.clone(), Wanted::Topic(topic.clone()));
        self.held(&key, |slice, is_current| AtHand { state: slice.state.clone(), is_current })
    }

    /// The slice, fetched if it is not at hand.
    pub async fn fetch(&self, datacenter: &Datacenter, topic: &Topic) -> Result<Arc<State>, SliceError> {
        if let Some(state) = self.peek(datacenter, topic) {
            return Ok(state);
        }
        let key = (datacenter.clone(), Wanted::Topic(topic.clone()));
        self.fly(key).await.map(|slice| slice.state)
    }

    /// What a prepared query of `datacenter` finds, if that is at hand and young enough; neither waits nor asks.
    pub fn peek_query(&self, datacenter: &Datacenter, name: &str) -> Option<Finding> {
        let key = (datacenter.clone(), Wanted::Query(Folded::new(name)));
        self.held(&key, |slice, _| slice.finding(datacenter))
    }

    /// The same, asked for if it is not at hand: a server of `datacenter` executes the query, which may lead it to
    /// other datacenters.
    pub async fn fetch_query(&self, datacenter: &Datacenter, name: &str) -> Result<Finding, SliceError> {
        if let Some(finding) = self.peek_query(datacenter, name) {
            return Ok(finding);
        }
        let key = (datacenter.clone(), Wanted::Query(Folded::new(name)));
        self.fly(key).await.map(|slice| slice.finding(datacenter))
    }

    fn held<T>(&self, key: &Key, of: impl FnOnce(&Slice, bool) -> T) -> Option<T> {
        let mut table = self.0.table.lock();
        let held = table.peek(key, self.0.config.stale_max, Instant::now());
        held.map(|(slice, is_current)| of(slice, is_current))
    }

    async fn fly(&self, key: Key) -> Result<Slice, SliceError> {
        let name: Arc<str> = format!("{}\n{:?}", key.0, key.1).into();
        let inner = Arc::downgrade(&self.0);
        let fly = move || async move {
            match inner.upgrade() {
                Some(inner) => inner.fetch(key).await,
                None => Err(SliceError::Unreachable),
            }
        };
        let flight = self.0.flights.share(&name, Join::Any, fly);
        let fetched = tokio::time::timeout(self.0.config.fetch_timeout, flight).await;
        fetched.unwrap_or(Err(SliceError::Unreachable))
    }

    /// How many slices are kept, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        let table = self.0.table.lock();
        (table.entries.len(), table.bytes)
    }
}

impl Inner {
    async fn fetch(&self, key: Key) -> Result<Slice, SliceError> {
        let asked = first(&*self.carrier, &key).await;
        let slice = match asked {
            Ok(Ok(slice)) => slice,
            Err(Failure::Unknown) => return Err(SliceError::Unknown),
            Ok(Err(error)) => return Err(unreachable(&key, &error)),
            Err(error) => return Err(unreachable(&key, &error)),
        };
        let fetched = slice.clone();
        let follower = Follower {
            carrier: self.carrier.clone(),
            table: self.table.clone(),
            config: self.config.clone(),
            key: key.clone(),
        };
        let mut followers = self.followers.lock();
        while followers.try_join_next().is_some() {}
        // The follower looks for its entry first of all, which therefore must be there when it may look.
        let mut table = self.table.lock();
        let follower = followers.spawn(follower.run());
        table.put(key, slice, follower, &self.config, Instant::now());
        Ok(fetched)
    }
}

fn unreachable(key: &Key, error: &dyn std::error::Error) -> SliceError {
    tracing::debug!(datacenter = %key.0, wanted = ?key.1, %error, "no slice could be had");
    SliceError::Unreachable
}

/// Follows one entry until nobody uses it.
struct Follower {
    carrier: Arc<dyn Carrier>,
    table: Arc<Mutex<Table>>,
    config: SlicesConfig,
    key: Key,
}

impl Follower {
    async fn run(self) {
        let (mut pause, mut is_lost) = (PAUSE_MIN, false);
        loop {
            let now = Instant::now();
            let next = self.table.lock().next(&self.key, self.config.idle_max, now);
            let Some((index, mark)) = next else { return };
            let asked = match is_lost {
                // Whether the other side is there again is to be known now, not when something changes.
                true => first(&*self.carrier, &self.key).await,
                false => newer(&*self.carrier, &self.key, index, mark).await,
            };
            is_lost = !matches!(asked, Ok(Ok(_)));
            match asked {
                Ok(Ok(slice)) => {
                    pause = PAUSE_MIN;
                    self.table.lock().update(&self.key, slice, &self.config, Instant::now());
                    tokio::time::sleep(CHANGES_APART).await;
                }
                // The datacenter has gone, or the slice has become too long to be sent again and again.
                Err(Failure::Unknown | Failure::Refused(StatusCode::PAYLOAD_TOO_LARGE, _)) => {
                    self.table.lock().remove(&self.key);
                    return;
                }
                Ok(Err(_)) | Err(_) => {
                    self.table.lock().lose(&self.key);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Asks for what is there now.
async fn first(
    carrier: &dyn Carrier,
    (datacenter, wanted): &Key,
) -> Result<Result<Slice, DeskError>, Failure> {
    match wanted {
        Wanted::Topic(topic) => request(carrier, datacenter, topic, Index(0), Duration::ZERO, false).await,
        Wanted::Query(name) => execute(carrier, datacenter, name, None).await,
    }
}

/// Asks for what is newer than what was there.
async fn newer(
    carrier: &dyn Carrier,
    (datacenter, wanted): &Key,
    index: Index,
    mark: Option<Mark>,
) -> Result<Result<Slice, DeskError>, Failure> {
    match wanted {
        // A topic that never changed has no index; one is the first there is.
        Wanted::Topic(topic) => request(carrier, datacenter, topic, index.max(Index(1)), WAIT, false).await,
        Wanted::Query(name) => execute(carrier, datacenter, name, mark).await,
    }
}

/// Asks a datacenter for a slice.
pub(crate) async fn ask(
    carrier: &dyn Carrier,
    datacenter: &Datacenter,
    topic: &Topic,
    after: Index,
    wait: Duration,
    fresh: bool,
) -> Result<Slice, DeskError> {
    request(carrier, datacenter, topic, after, wait, fresh).await?
}

async fn request(
    carrier: &dyn Carrier,
    datacenter: &Datacenter,
    topic: &Topic,
    after: Index,
    wait: Duration,
    fresh: bool,
) -> Result<Result<Slice, DeskError>, Failure> {
    let question = SliceQuestion { topic: topic.clone(), index: after, wait_ms: millis(wait), fresh };
    let kind = if after > Index(0) { Kind::Wait(wait) } else { Kind::Read };
    let parcel = Parcel::internal(SLICE_PATH, rpc::pack(&question)?, kind);
    let body = collected(carrier.carry(datacenter, parcel).await?).await?;
    let answer: Result<SliceAnswer, DeskError> = rpc::unpack(&body)?;
    Ok(answer.and_then(|answer| {
        let state = state_of(answer.records)?;
        Ok(Slice { index: answer.index, state, found: None, bytes: body.len() })
    }))
}

/// Has a server of a datacenter execute a prepared query, at once or when it finds something else than it did.
async fn execute(
    carrier: &dyn Carrier,
    datacenter: &Datacenter,
    name: &Folded,
    known: Option<Mark>,
) -> Result<Result<Slice, DeskError>, Failure> {
    let kind = if known.is_some() { Kind::Wait(WAIT) } else { Kind::Read };
    let question = QueryQuestion { name: name.as_str().to_owned(), known, wait_ms: millis(WAIT) };
    let parcel = Parcel::internal(QUERY_PATH, rpc::pack(&question)?, kind);
    let body = collected(carrier.carry(datacenter, parcel).await?).await?;
    let answer: Result<QueryAnswer, DeskError> = rpc::unpack(&body)?;
    Ok(answer.and_then(|answer| {
        let state = state_of(answer.records)?;
        let QueryAnswer { mark, query, datacenter, .. } = answer;
        let index = mark.index;
        let found = Some(Found { query: query.map(Arc::new), datacenter, mark });
        Ok(Slice { index, state, found, bytes: body.len() })
    }))
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn state_of(records: Vec<Record>) -> Result<Arc<State>, DeskError> {
    State::from_records(records)
        .map(Arc::new)
        .map_err(|error| DeskError::Unavailable(format!("another node sent a slice that is none: {error}")))
}

async fn collected(response: Response<FarBody>) -> Result<Bytes, Failure> {
    let status = response.status();
    let body = body::collect(response.into_body(), ANSWER_BYTES_MAX, COLLECT_MAX).await.map_err(broken)?;
    if !status.is_success() {
        return Err(Failure::refused(status, String::from_utf8_lossy(&body).into_owned()));
    }
    Ok(body)
}

fn broken(error: NotCollected) -> Failure {
    let (status, reason) = match error {
        NotCollected::TooLong => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {ANSWER_BYTES_MAX} bytes"))
        }
        NotCollected::Broken(reason) => (StatusCode::BAD_GATEWAY, reason),
    };
    Failure::refused(status, format!("the answer of another node is of no use: {reason}"))
}
