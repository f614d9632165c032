//! Where services are alive: how many instances each datacenter has of each service, and how healthy they are.
//! Every other datacenter is followed by one blocking question, which brings what has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tribune_api::{ApiError, Layout, json};
use tribune_core::state::Tally;
use tribune_core::{Authority, Datacenter, Folded, Index};

use crate::body::{self, FarBody};
use crate::exchange::Carrier;
use crate::failure::Failure;
use crate::forward::Forwarder;
use crate::parcel::{Kind, Parcel};
use crate::rpc::{self, ANSWER_BYTES_MAX, COLLECT_MAX, Desk, SUMMARY_PATH, SummaryAnswer, SummaryQuestion};

/// How often the list of datacenters is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the other side may stay silent; it is then asked again.
const WAIT: Duration = Duration::from_secs(30);
/// Pause between two answers: what changes more often is told together.
const CHANGES_APART: Duration = Duration::from_secs(1);
/// Longest pause after failed questions.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Most services remembered of one datacenter.
const SERVICES_MAX: usize = 200_000;
/// Most datacenters that are followed.
const DATACENTERS_MAX: usize = 256;

/// A service in one datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// Its instances there.
    pub tally: Tally,
    /// How old this knowledge is; zero of our own datacenter.
    pub age: Duration,
}

/// What is known of all datacenters. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Summaries(Arc<Shared>);

struct Shared {
    own: Datacenter,
    desk: Arc<dyn Desk>,
    forwarder: Forwarder,
    others: Mutex<HashMap<Datacenter, Known>>,
}

/// What is known of one other datacenter.
#[derive(Debug)]
struct Known {
    index: Index,
    confirmed: Instant,
    /// Whether a question stands there.
    is_live: bool,
    services: HashMap<Folded, Tally>,
}

impl Summaries {
    /// Nothing is known of others until [`Summaries::follow`] runs.
    pub fn new(own: Datacenter, desk: Arc<dyn Desk>, forwarder: Forwarder) -> Self {
        Self(Arc::new(Shared { own, desk, forwarder, others: Mutex::default() }))
    }

    /// Where a service is, our own datacenter first, the others by name. Datacenters without an instance are left
    /// out.
    pub fn of(&self, service: &str) -> Vec<Presence> {
        let shared = &*self.0;
        let here =
            Presence { datacenter: shared.own.clone(), tally: self.here(service), age: Duration::ZERO };
        let (key, now) = (Folded::new(service), Instant::now());
        let mut found: Vec<Presence> = {
            let others = shared.others.lock();
            let there = others.iter().filter_map(|(datacenter, known)| {
                let (datacenter, tally) = (datacenter.clone(), *known.services.get(&key)?);
                let heard = shared.forwarder.heard(&datacenter).filter(|_| known.is_live);
                let confirmed = heard.map_or(known.confirmed, |heard| heard.max(known.confirmed));
                Some(Presence { datacenter, tally, age: now.saturating_duration_since(confirmed) })
            });
            there.collect()
        };
        found.sort_by(|a, b| a.datacenter.cmp(&b.datacenter));
        if here.tally.total() > 0 {
            found.insert(0, here);
        }
        found
    }

    /// Whether another datacenter is known to have no instance of the service that is passing or warning: it has
    /// told so, and a question about changes stands there.
    pub fn lacks(&self, datacenter: &Datacenter, service: &str) -> bool {
        let others = self.0.others.lock();
        // What did not fit is not known to be absent.
        let known = others.get(datacenter).filter(|it| it.is_live && it.services.len() < SERVICES_MAX);
        known.is_some_and(|known| {
            let tally = known.services.get(&Folded::new(service));
            tally.is_none_or(|tally| tally.passing + tally.warning == 0)
        })
    }

    fn here(&self, service: &str) -> Tally {
        let (state, authority) = (self.0.desk.state(), Authority::unrestricted());
        Tally::of(state.view(&authority).instances(service).map(|instance| instance.status()))
    }

    /// Follows all other datacenters; does not end. What it has started ends when this is dropped.
    pub async fn follow(&self) {
        let mut followers = JoinSet::new();
        let mut followed: HashMap<Datacenter, AbortHandle> = HashMap::new();
        loop {
            let mut wanted = self.0.forwarder.datacenters();
            wanted.retain(|datacenter| *datacenter != self.0.own);
            wanted.truncate(DATACENTERS_MAX);
            followed.retain(|datacenter, follower| {
                let stays = wanted.contains(datacenter) && !follower.is_finished();
                if !stays {
                    follower.abort();
                    self.0.others.lock().remove(datacenter);
                }
                stays
            });
            for datacenter in wanted {
                let start = || followers.spawn(follow_one(self.0.clone(), datacenter.clone()));
                followed.entry(datacenter.clone()).or_insert_with(start);
            }
            while followers.try_join_next().is_some() {}
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The answer to `GET /v1/tribune/services/<name>/datacenters`.
    pub(crate) fn respond(&self, service: &str, layout: Layout) -> Response<FarBody> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shown<'a> {
            datacenter: &'a str,
            passing: u32,
            warning: u32,
            critical: u32,
            age_seconds: u64,
        }
        let presences = self.of(service);
        let shown: Vec<Shown<'_>> = presences
            .iter()
            .map(|presence| Shown {
                datacenter: presence.datacenter.as_str(),
                passing: presence.tally.passing,
                warning: presence.tally.warning,
                critical: presence.tally.critical,
                age_seconds: presence.age.as_secs(),
            })
            .collect();
        let json: Result<Vec<u8>, ApiError> = json::to_vec(&shown, layout);
        match json {
            Ok(json) => {
                let mut response = Response::new(body::whole(Bytes::from(json)));
                let value = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, value);
                response
            }
            Err(error) => Failure::from(error).to_response(),
        }
    }
}

async fn follow_one(shared: Arc<Shared>, datacenter: Datacenter) {
    let carrier = shared.forwarder.carrier();
    let mut pause = CHANGES_APART;
    loop {
        let index = shared.others.lock().get(&datacenter).map_or(Index(0), |known| known.index);
        match ask(&*carrier, &datacenter, index).await {
            Ok(answer) => {
                pause = CHANGES_APART;
                shared.note(&datacenter, answer);
            }
            Err(error) => {
                tracing::debug!(%datacenter, %error, "the summary of a datacenter could not be had");
                let heard = shared.forwarder.heard(&datacenter);
                if let Some(known) = shared.others.lock().get_mut(&datacenter).filter(|known| known.is_live) {
                    known.is_live = false;
                    known.confirmed = heard.map_or(known.confirmed, |heard| heard.max(known.confirmed));
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

impl Shared {
    fn note(&self, datacenter: &Datacenter, answer: SummaryAnswer) {
        let now = Instant::now();
        let mut others = self.others.lock();
        let fresh = || Known { index: Index(0), confirmed: now, is_live: true, services: HashMap::new() };
        let known = others.entry(datacenter.clone()).or_insert_with(fresh);
        if answer.whole {
            known.services.clear();
        }
        for gone in answer.gone {
            known.services.remove(&gone);
        }
        for (name, tally) in answer.changed {
            if known.services.len() < SERVICES_MAX {
                known.services.insert(name.folded(), tally);
            }
        }
        // Zero asks for everything at once; a datacenter without anything must be waited for all the same.
        known.index = answer.index.max(Index(1));
        (known.confirmed, known.is_live) = (now, true);
    }
}

async fn ask(carrier: &dyn Carrier, datacenter: &Datacenter, index: Index) -> Result<SummaryAnswer, Failure> {
    let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
    let question = SummaryQuestion { index, wait_ms };
    let kind = if index > Index(0) { Kind::Stand(WAIT) } else { Kind::Read };
    let parcel = Parcel::internal(SUMMARY_PATH, rpc::pack(&question)?, kind);
    let response = carrier.carry(datacenter, parcel).await?;
    let status = response.status();
    let body = body::collect(response.into_body(), ANSWER_BYTES_MAX, COLLECT_MAX).await;
    let unusable = |reason: String| Failure::refused(StatusCode::BAD_GATEWAY, reason);
    let body = body.map_err(|error| unusable(format!("the summary is of no use: {error:?}")))?;
    if !status.is_success() {
        return Err(unusable(String::from_utf8_lossy(&body).into_owned()));
    }
    rpc::unpack(&body)
}
