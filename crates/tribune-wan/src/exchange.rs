//! Answers to requests of clients: kept ones, shared ones, or ones that are fetched for this request alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use tribune_api::headers::{self, CacheControl};
use tribune_api::params::routed_path;
use tribune_api::{ApiError, Query};
use tribune_core::Datacenter;

use crate::body::{self, FarBody, NotCollected};
use crate::cache::{Answer, ForwardCache};
use crate::failure::Failure;
use crate::flights::{Flights, Join};
use crate::parcel::{self, Kind, Parcel};
use crate::refresh::Refresher;

/// Longest answer that is shared or kept, in bytes; longer ones are streamed to each client.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Within this time an answer that has begun must be here in full.
const COLLECT_MAX: Duration = Duration::from_secs(30);
/// Questions that may be answered from the cache; for others `?cached` has no meaning.
const CACHEABLE: [&str; 4] = ["/v1/catalog/", "/v1/health/", "/v1/query/", "/v1/tribune/"];
/// Answers that are never shared: each is a world of its own.
const UNSHARED: [&str; 2] = ["/v1/snapshot", "/v1/agent/"];
/// Questions whose answer may depend on where the client is.
const PLACED: &str = "/v1/query/";
/// For whom a proxy asks.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Said of all answers of a node that translates addresses of other datacenters.
pub const TRANSLATES: HeaderName = HeaderName::from_static("x-consul-translate-addresses");
/// Parameters that say how to answer, not what.
const MANNER: [&str; 5] = ["index", "wait", "cached", "token", "dc"];

/// Fetches from elsewhere.
#[async_trait]
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Brings the parcel to its datacenter and the answer back.
    async fn carry(&self, datacenter: &Datacenter, parcel: Parcel) -> Result<Response<FarBody>, Failure>;

    /// When anything last came from there.
    fn heard(&self, datacenter: &Datacenter) -> Option<Instant>;
}

/// How answers are fetched and kept.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Memory for kept answers, in bytes (default 64 MiB).
    pub cache_bytes_max: usize,
    /// Whether `?cached` is honoured (`http_config.use_cache`).
    pub use_cache: bool,
    /// How old an answer may be that is given because no newer one can be had, to clients that say nothing about it
    /// (default 10 minutes).
    pub stale_max: Duration,
    /// Whether answers about the catalog and health are kept for such a moment even when nobody asked for the cache:
    /// for a client agent, which has nothing else.
    pub keeps_discovery: bool,
    /// Most entries that are kept fresh at a time (default 256).
    pub kept_fresh_max: usize,
    /// An entry that nobody uses for this long is no longer kept fresh (default 10 minutes).
    pub idle_max: Duration,
    /// Whether answers about other datacenters give the addresses tagged `wan`, and all answers say so
    /// (`translate_wan_addrs`; default no).
    pub translates: bool,
    /// What chance is drawn from: which of several like nodes is asked, and how long one rests. Random by default; a
    /// simulation sets it.
    pub seed: u64,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
            use_cache: true,
            stale_max: Duration::from_secs(600),
            keeps_discovery: false,
            kept_fresh_max: 256,
            idle_max: Duration::from_secs(600),
            translates: false,
            seed: rand::random(),
        }
    }
}

/// Why a shared answer is none.
#[derive(Debug, Clone, PartialEq)]
enum Missed {
    Failure(Failure),
    /// Longer than what is shared: to be streamed to each client.
    TooLong,
}

type Shared = Result<Arc<Answer>, Missed>;

/// Answers from elsewhere, for all clients of this node.
pub(crate) struct Exchange {
    carrier: Arc<dyn Carrier>,
    cache: Arc<Mutex<ForwardCache>>,
    flights: Flights<Shared>,
    refresher: Refresher,
    config: ExchangeConfig,
}

/// What a request asks and what its sender accepts.
#[derive(Debug)]
struct Question {
    key: Arc<str>,
    manner: Manner,
    /// Whether an answer may be given when no newer one can be had.
    is_discovery: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Showing every write before it.
    Fresh,
    /// Whatever the other side has, waiting for something newer or not.
    Any,
    /// A kept answer will do, within these bounds.
    Cached(CacheControl),
}

impl Exchange {
    pub(crate) fn new(carrier: Arc<dyn Carrier>, config: ExchangeConfig) -> Self {
        let cache = Arc::new(Mutex::new(ForwardCache::new(config.cache_bytes_max)));
        let refresher = Refresher::new(config.kept_fresh_max, config.idle_max);
        Self { carrier, cache, flights: Flights::new(), refresher, config }
    }

    /// The answer for a client from its own datacenter.
    pub(crate) async fn answer(&self, datacenter: &Datacenter, parcel: Parcel) -> Response<FarBody> {
        let answered = self.try_answer(datacenter, parcel).await;
        let mut response = answered.unwrap_or_else(|failure| failure.to_response());
        // The one that is asked says it, not the one that knows.
        match self.config.translates {
            true => _ = response.headers_mut().insert(TRANSLATES, HeaderValue::from_static("true")),
            false => _ = response.headers_mut().remove(TRANSLATES),
        }
        response
    }

    /// The answer for a client from another datacenter.
    pub(crate) async fn answer_from_afar(
        &self,
        datacenter: &Datacenter,
        parcel: Parcel,
    ) -> Response<FarBody> {
        let parcel = if self.config.translates { parcel.for_wan_addresses() } else { parcel };
        self.answer(datacenter, parcel).await
    }

    async fn try_answer(
        &self,
        datacenter: &Datacenter,
        parcel: Parcel,
    ) -> Result<Response<FarBody>, Failure> {
        let Some(question) = self.question(datacenter, &parcel)? else {
            return self.pass(datacenter, parcel).await;
        };
        match question.manner {
            Manner::Cached(control) => self.cached(datacenter, parcel, question, control).await,
            Manner::Fresh => self.shared(datacenter, parcel, question, Join::BeforeDeparture).await,
            Manner::Any => self.shared(datacenter, parcel, question, Join::Any).await,
        }
    }

    /// For one client alone, streamed through.
    async fn pass(&self, datacenter: &Datacenter, parcel: Parcel) -> Result<Response<FarBody>, Failure> {
        let response = self.carrier.carry(datacenter, parcel).await?;
        let (mut head, body) = response.into_parts();
        head.headers = parcel::for_the_next_hop(head.headers);
        Ok(Response::from_parts(head, body::streamed(body)))
    }

    /// For all who ask the same.
    async fn shared(
        &self,
        datacenter: &Datacenter,
        parcel: Parcel,
        question: Question,
        join: Join,
    ) -> Result<Response<FarBody>, Failure> {
        match self.fetch(datacenter, &parcel, &question, join).await {
            Ok(answer) => Ok(respond(&answer)),
            Err(Missed::TooLong) => self.pass(datacenter, parcel).await,
            Err(Missed::Failure(failure)) if question.is_discovery => {
                let any_age = CacheControl::default();
                self.last_good(datacenter, &question.key, &any_age).ok_or(failure)
            }
            Err(Missed::Failure(failure)) => Err(failure),
        }
    }

    /// A kept answer where the client accepts it; else a new one, which is kept.
    async fn cached(
        &self,
        datacenter: &Datacenter,
        mut parcel: Parcel,
        question: Question,
        control: CacheControl,
    ) -> Result<Response<FarBody>, Failure> {
        // What the client accepts is decided here; the other side is asked for what it has.
        parcel.headers.remove(header::CACHE_CONTROL);
        let heard = self.carrier.heard(datacenter);
        let kept = self.cache.lock().fresh(&question.key, &control, Instant::now(), heard);
        if let Some((answer, age)) = kept {
            metrics::counter!("tribune.wan.cache_hits").increment(1);
            self.keep_fresh(datacenter, &parcel, &question.key);
            return Ok(hit(&answer, age));
        }
        metrics::counter!("tribune.wan.cache_misses").increment(1);
        match self.fetch(datacenter, &parcel, &question, Join::Any).await {
            Ok(answer) if answer.is_no_answer() => {
                Ok(self.last_good(datacenter, &question.key, &control).unwrap_or_else(|| respond(&answer)))
            }
            // Who was asked had nobody to ask, and does not know what this client accepts.
            Ok(answer) if !answer.age.is_zero() => {
                self.last_good(datacenter, &question.key, &control).ok_or(Failure::Unreachable)
            }
            Ok(answer) => {
                if answer.status == StatusCode::OK {
                    self.keep_fresh(datacenter, &parcel, &question.key);
                }
                Ok(miss(respond(&answer)))
            }
            Err(Missed::TooLong) => self.pass(datacenter, parcel).await.map(miss),
            Err(Missed::Failure(failure)) => {
                self.last_good(datacenter, &question.key, &control).ok_or(failure)
            }
        }
    }

    /// The last good answer, when no newer one can be had.
    fn last_good(
        &self,
        datacenter: &Datacenter,
        key: &str,
        control: &CacheControl,
    ) -> Option<Response<FarBody>> {
        let (heard, age_max) = (self.carrier.heard(datacenter), self.config.stale_max);
        let (answer, age) = self.cache.lock().fallback(key, control, age_max, Instant::now(), heard)?;
        metrics::counter!("tribune.wan.stale_answers").increment(1);
        let mut response = hit(&answer, age);
        let behind = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        response.headers_mut().insert(headers::LAST_CONTACT, HeaderValue::from(behind));
        response.headers_mut().insert(headers::KNOWN_LEADER, HeaderValue::from_static("false"));
        Some(response)
    }

    /// Fetches an answer for all who ask the same; it is kept before anybody has it, if it is to be kept.
    async fn fetch(
        &self,
        datacenter: &Datacenter,
        parcel: &Parcel,
        question: &Question,
        join: Join,
    ) -> Shared {
        let key = question.key.clone();
        let accepts = match question.manner {
            Manner::Cached(control) => Some(control),
            Manner::Fresh | Manner::Any => None,
        };
        let is_kept = question.is_discovery || accepts.is_some();
        let cache = is_kept.then(|| self.cache.clone());
        let (carrier, datacenter, parcel) = (self.carrier.clone(), datacenter.clone(), parcel.clone());
        // Those who wait for something newer wait with others who know as much.
        let flight_key: Arc<str> = match parcel.kind {
            Kind::Wait(_) | Kind::Stand(_) => format!("{key}\n{}", parcel.query).into(),
            Kind::Read | Kind::Write => key.clone(),
        };
        let fly = move || async move {
            // Another flight may have landed since the asker looked.
            if let (Some(cache), Some(control)) = (&cache, accepts) {
                let heard = carrier.heard(&datacenter);
                let kept = cache.lock().fresh(&key, &control, Instant::now(), heard);
                if let Some((answer, _)) = kept {
                    return Ok(answer);
                }
            }
            let answer = fetch(&*carrier, &datacenter, &parcel).await?;
            if let Some(cache) = cache.filter(|_| answer.status == StatusCode::OK) {
                cache.lock().put(&key, answer.clone(), Instant::now());
            }
            Ok(answer)
        };
        self.flights.share(&flight_key, join, fly).await
    }

    fn keep_fresh(&self, datacenter: &Datacenter, parcel: &Parcel, key: &Arc<str>) {
        self.refresher.keep(&self.carrier, &self.cache, datacenter, parcel, key);
    }

    /// What the request asks, if the answer may be shared at all.
    fn question(&self, datacenter: &Datacenter, parcel: &Parcel) -> Result<Option<Question>, Failure> {
        let unshared = UNSHARED.iter().any(|prefix| parcel.path.starts_with(prefix));
        if parcel.method != Method::GET || unshared || !parcel.body.is_empty() {
            return Ok(None);
        }
        let query = Query::parse(&parcel.query)?;
        let may_be_cached = CACHEABLE.iter().any(|prefix| parcel.path.starts_with(prefix));
        let wants_cached = query.flag("cached") && !query.flag("consistent");
        let waits = matches!(parcel.kind, Kind::Wait(_));
        let manner = if wants_cached && may_be_cached && self.config.use_cache && !waits {
            Manner::Cached(cache_control(&parcel.headers)?)
        } else if waits || query.flag("stale") || query.text("max_stale").is_some() {
            Manner::Any
        } else {
            Manner::Fresh
        };
        let key = key(datacenter, parcel, &query, matches!(manner, Manner::Cached(_)));
        let is_discovery =
            self.config.keeps_discovery && may_be_cached && !waits && !query.flag("consistent");
        Ok(Some(Question { key, manner, is_discovery }))
    }
}

fn cache_control(headers: &HeaderMap) -> Result<CacheControl, ApiError> {
    match headers.get(header::CACHE_CONTROL).map(HeaderValue::to_str) {
        None => Ok(CacheControl::default()),
        Some(Ok(text)) => CacheControl::parse(text),
        Some(Err(_)) => Err(ApiError::bad_request("Invalid Cache-Control header.")),
    }
}

/// Everything the answer depends on. The order of parameters of different names is none of that.
fn key(datacenter: &Datacenter, parcel: &Parcel, query: &Query, is_cached: bool) -> Arc<str> {
    let mut pairs: Vec<(&str, &str)> = query.pairs().filter(|(name, _)| !MANNER.contains(name)).collect();
    pairs.sort_by_key(|(name, _)| *name);
    let header = |name: &str| parcel.headers.get(name).map(HeaderValue::as_bytes);
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
    let token = parcel::token(query, &parcel.headers);
    let encoding = text(header(header::ACCEPT_ENCODING.as_str()));
    let namespace = text(header(headers::NAMESPACE));
    // Elsewhere it changes nothing, and clients behind a proxy share their answers.
    let place = routed_path(&parcel.path).starts_with(PLACED).then(|| text(header(FORWARDED_FOR)));
    // Answers from a cache on the other side are not mixed with others.
    let path = &parcel.path;
    format!("{datacenter}\n{path}\n{pairs:?}\n{token:?}\n{encoding:?}\n{namespace:?}\n{place:?}\n{is_cached}")
        .into()
}

/// Fetches an answer in full. A read that breaks off is asked for once more.
async fn fetch(carrier: &dyn Carrier, datacenter: &Datacenter, parcel: &Parcel) -> Shared {
    let mut again = true;
    loop {
        let response = carrier.carry(datacenter, parcel.clone()).await.map_err(Missed::Failure)?;
        match collect(response).await {
            Ok(answer) => return Ok(Arc::new(answer)),
            Err(NotCollected::TooLong) => return Err(Missed::TooLong),
            Err(NotCollected::Broken(reason)) if again => {
                again = false;
                tracing::debug!(%datacenter, reason, "an answer broke off");
            }
            Err(NotCollected::Broken(reason)) => {
                let text = format!("rpc error making call: the answer broke off ({reason}); ask again");
                return Err(Missed::Failure(Failure::refused(StatusCode::INTERNAL_SERVER_ERROR, text)));
            }
        }
    }
}

/// Takes in an answer.
pub(crate) async fn collect(response: Response<FarBody>) -> Result<Answer, NotCollected> {
    let (head, body) = response.into_parts();
    if body.size_hint().lower() > ANSWER_BYTES_MAX as u64 {
        return Err(NotCollected::TooLong);
    }
    let body = body::collect(body, ANSWER_BYTES_MAX, COLLECT_MAX).await?;
    let headers = parcel::for_the_next_hop(head.headers);
    let index = headers.get(headers::INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
    let age = age(&headers);
    Ok(Answer { status: head.status, headers, body, index, age })
}

/// How old an answer is by its own account.
pub(crate) fn age(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(headers::AGE).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

fn respond(answer: &Answer) -> Response<FarBody> {
    let mut response = Response::new(body::whole(Bytes::clone(&answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().clone_from(&answer.headers);
    response
}

fn hit(answer: &Answer, age: Duration) -> Response<FarBody> {
    let mut response = respond(answer);
    response.headers_mut().insert(headers::CACHE, HeaderValue::from_static("HIT"));
    response.headers_mut().insert(headers::AGE, HeaderValue::from(age.as_secs()));
    response
}

fn miss(mut response: Response<FarBody>) -> Response<FarBody> {
    response.headers_mut().insert(headers::CACHE, HeaderValue::from_static("MISS"));
    response.headers_mut().remove(headers::AGE);
    response
}
