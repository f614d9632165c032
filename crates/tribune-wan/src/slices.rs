//! Slices of other nodes' states, kept: what DNS answers from where there is no catalog.
//!
//! An entry is fetched once, whoever asks, and then followed by one blocking query while it is in use. While the
//! other side is away the last good slice answers, up to a bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tribune_core::{Datacenter, Index, State, Topic};

use crate::body::{self, NotCollected};
use crate::exchange::Carrier;
use crate::failure::Failure;
use crate::flights::{Flights, Join};
use crate::forward::Forwarder;
use crate::parcel::{Kind, Parcel};
use crate::rpc::{self, ANSWER_BYTES_MAX, COLLECT_MAX, DeskError, SLICE_PATH, SliceAnswer, SliceQuestion};

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
    bytes: usize,
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

type Key = (Datacenter, Topic);

/// Kept slices. Clones are cheap and share everything; the last one takes the tasks along that follow entries.
#[derive(Clone)]
pub struct Slices(Arc<Inner>);

struct Inner {
    carrier: Arc<dyn Carrier>,
    table: Arc<Mutex<Table>>,
    flights: Flights<Result<Arc<State>, SliceError>>,
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
        self.entries.insert(key, Entry { slice, confirmed: now, last_use: now, follower });
        self.make_room(config);
    }

    fn update(&mut self, key: &Key, slice: Slice, config: &SlicesConfig, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.confirmed = now;
        // Whoever has prepared an answer from the slice keeps it while the slice is the same.
        if slice.index != entry.slice.index {
            self.bytes = self.bytes - entry.slice.bytes + slice.bytes;
            entry.slice = slice;
            self.make_room(config);
        }
    }

    /// The index to go on from; `None`, and no entry any more, when nobody uses it.
    fn next_index(&mut self, key: &Key, idle_max: Duration, now: Instant) -> Option<Index> {
        let entry = self.entries.get(key)?;
        if now.saturating_duration_since(entry.last_use) > idle_max {
            self.remove(key);
            return None;
        }
        Some(entry.slice.index)
    }

    fn peek(&mut self, key: &Key, stale_max: Duration, now: Instant) -> Option<Arc<State>> {
        let entry = self.entries.get_mut(key)?;
        entry.last_use = now;
        let age = now.saturating_duration_since(entry.confirmed);
        if age > SILENCE_MAX {
            if age > stale_max {
                return None;
            }
            metrics::counter!("tribune.wan.stale_slices").increment(1);
        }
        Some(entry.slice.state.clone())
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
        let key = (datacenter.clone(), topic.clone());
        self.0.table.lock().peek(&key, self.0.config.stale_max, Instant::now())
    }

    /// The slice, fetched if it is not at hand.
    pub async fn fetch(&self, datacenter: &Datacenter, topic: &Topic) -> Result<Arc<State>, SliceError> {
        if let Some(state) = self.peek(datacenter, topic) {
            return Ok(state);
        }
        let name: Arc<str> = format!("{datacenter}\n{topic:?}").into();
        let (inner, key) = (Arc::downgrade(&self.0), (datacenter.clone(), topic.clone()));
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
    async fn fetch(&self, key: Key) -> Result<Arc<State>, SliceError> {
        let asked = request(&*self.carrier, &key.0, &key.1, Index(0), Duration::ZERO, false).await;
        let slice = match asked {
            Ok(Ok(slice)) => slice,
            Err(Failure::Unknown) => return Err(SliceError::Unknown),
            Ok(Err(error)) => return Err(unreachable(&key, &error)),
            Err(error) => return Err(unreachable(&key, &error)),
        };
        let state = slice.state.clone();
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
        Ok(state)
    }
}

fn unreachable(key: &Key, error: &dyn std::error::Error) -> SliceError {
    tracing::debug!(datacenter = %key.0, topic = ?key.1, %error, "no slice could be had");
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
        let mut pause = PAUSE_MIN;
        loop {
            let now = Instant::now();
            let index = self.table.lock().next_index(&self.key, self.config.idle_max, now);
            let Some(index) = index else { return };
            // A topic that never changed has no index; one is the first there is.
            let index = index.max(Index(1));
            match request(&*self.carrier, &self.key.0, &self.key.1, index, WAIT, false).await {
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
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
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
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let question = SliceQuestion { topic: topic.clone(), index: after, wait_ms, fresh };
    let kind = if after > Index(0) { Kind::Wait(wait) } else { Kind::Read };
    let parcel = Parcel::internal(SLICE_PATH, rpc::pack(&question)?, kind);
    let response = carrier.carry(datacenter, parcel).await?;
    let status = response.status();
    let body = body::collect(response.into_body(), ANSWER_BYTES_MAX, COLLECT_MAX).await.map_err(broken)?;
    if !status.is_success() {
        return Err(Failure::refused(status, String::from_utf8_lossy(&body).into_owned()));
    }
    let answer: Result<SliceAnswer, DeskError> = rpc::unpack(&body)?;
    Ok(answer.and_then(|answer| {
        let state = State::from_records(answer.records).map_err(|error| {
            DeskError::Unavailable(format!("another node sent a slice that is none: {error}"))
        })?;
        Ok(Slice { index: answer.index, state: Arc::new(state), bytes: body.len() })
    }))
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
