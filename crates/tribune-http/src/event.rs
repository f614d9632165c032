//! `/v1/event/…`: user events, sent to all agents of the datacenter and listed as this one has received them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use parking_lot::RwLock;
use regex::Regex;
use tokio::sync::watch;
use tokio::time::Instant;
use tribune_api::event::Event as Shown;
use tribune_api::params::WaitLimits;
use tribune_api::{ApiError, json};
use tribune_core::event::{Event, EventLog, InvalidEvent, pattern};

use crate::call::Call;
use crate::datacenter::INDEX;
use crate::error::Error;
use crate::host::HostError;
use crate::reply::Reply;
use crate::router::Router;

/// How long a list is waited for: Consul's ten minutes, whatever other questions wait.
const WAITS: WaitLimits = WaitLimits { default: Duration::from_secs(600), max: Duration::from_secs(600) };

/// What sends events and gathers those that arrive; the program implements it.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Sends an event to all agents of the datacenter. The id is given by whoever sends it; gives the event as it
    /// was sent. An event that is too large is refused with [`HostError::Failed`].
    async fn fire(&self, event: Event) -> Result<Event, HostError>;

    /// What has arrived.
    fn inbox(&self) -> &Inbox;
}

/// The events that this agent has received and that concern it. Clones share them.
#[derive(Debug, Clone)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: RwLock<EventLog>,
    count: watch::Sender<u64>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self(Arc::new(Shared { log: RwLock::default(), count: watch::Sender::new(0) }))
    }
}

impl Inbox {
    /// Takes an event that has arrived and concerns this agent, unless it is known already.
    pub fn take(&self, event: Event) {
        if self.0.log.write().push(event) {
            self.0.count.send_modify(|count| *count += 1);
        }
    }

    /// All of them, the oldest first.
    fn events(&self) -> Vec<Arc<Event>> {
        self.0.log.read().iter().cloned().collect()
    }
}

pub(crate) fn routes(events: &Arc<Door>) -> Router {
    Router::default().put("/v1/event/fire/", events, fire).get("/v1/event/list", events, list)
}

/// What the handlers share.
pub(crate) struct Door(pub(crate) Arc<dyn Events>);

async fn fire(door: Arc<Door>, call: Call) -> Result<Reply, Error> {
    call.query.refuse_foreign()?;
    let name = call.argument("Missing name")?;
    let text = |name| call.query.get(name).unwrap_or_default().to_owned();
    let event = Event {
        id: uuid::Uuid::new_v4().to_string().into(),
        name: name.into(),
        payload: call.body.to_vec(),
        node_filter: text("node"),
        service_filter: text("service"),
        tag_filter: text("tag"),
        ltime: 0,
    };
    event.check().map_err(refused)?;
    let sent = door.0.fire(event).await?;
    // The sender is not told when, as in Consul: it may not have arrived anywhere yet.
    let shown = Shown { ltime: 0, ..Shown::from(&sent) };
    Ok(Reply::json(&shown, call.layout)?)
}

fn refused(error: InvalidEvent) -> ApiError {
    match error {
        InvalidEvent::Nameless => ApiError::bad_request(error.to_string()),
        InvalidEvent::TagWithoutService | InvalidEvent::Pattern(..) => ApiError::server(error.to_string()),
    }
}

async fn list(door: Arc<Door>, call: Call) -> Result<Reply, Error> {
    let asked = call.query.read_options(WAITS)?.blocking;
    let wanted = Wanted::new(&call)?;
    let until = Instant::now() + asked.wait;
    let inbox = door.0.inbox();
    let mut news = inbox.0.count.subscribe();
    loop {
        news.mark_unchanged();
        let mut events = inbox.events();
        events.retain(|event| wanted.wants(event));
        // Without any event the index is not zero, which clients would take for "not blocking".
        let index = events.last().map_or(1, |event| event.index()).max(1);
        let waits = asked.index == index;
        if !waits || !matches!(tokio::time::timeout_at(until, news.changed()).await, Ok(Ok(()))) {
            let shown = events.iter().map(|event| Shown::from(event.as_ref()));
            let reply = Reply::bytes(json::list(shown, call.layout)?.into());
            return Ok(reply.with_header(INDEX, HeaderValue::from(index)));
        }
    }
}

/// Which events a list is about.
struct Wanted {
    name: Option<String>,
    node: Option<Regex>,
    service: Option<Regex>,
    tag: Option<Regex>,
}

impl Wanted {
    fn new(call: &Call) -> Result<Self, ApiError> {
        let pattern = |which| {
            let read = pattern(which, call.query.get(which).unwrap_or_default());
            read.map_err(|error| ApiError::bad_request(error.to_string()))
        };
        Ok(Self {
            name: call.query.text("name").map(str::to_owned),
            node: pattern("node")?,
            service: pattern("service")?,
            tag: pattern("tag")?,
        })
    }

    fn wants(&self, event: &Event) -> bool {
        let matches = |filter: &Option<Regex>, text: &str| filter.as_ref().is_none_or(|it| it.is_match(text));
        self.name.as_ref().is_none_or(|name| *name == event.name.as_str())
            && matches(&self.node, &event.node_filter)
            && matches(&self.service, &event.service_filter)
            && matches(&self.tag, &event.tag_filter)
    }
}
