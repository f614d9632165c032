//! Reads and writes of one datacenter on behalf of requests: consistency, blocking, shared answers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tribune_api::headers;
use tribune_api::params::{Consistency, WaitLimits};
use tribune_api::{ApiError, Layout};
use tribune_core::{Authority, Command, Index, Outcome, State};
use tribune_raft::Replica;

use crate::answers::{Answer, Answers, Shown, Slot};
use crate::error::Error;
use crate::limits::RENDERED_BYTES_MAX;
use crate::question::Question;
use crate::reading::{Jitter, Reading};
use crate::reply::Reply;

pub(crate) const INDEX: HeaderName = HeaderName::from_static(headers::INDEX);
const KNOWN_LEADER: HeaderName = HeaderName::from_static(headers::KNOWN_LEADER);
const LAST_CONTACT: HeaderName = HeaderName::from_static(headers::LAST_CONTACT);
pub(crate) const EFFECTIVE_CONSISTENCY: HeaderName = HeaderName::from_static(headers::EFFECTIVE_CONSISTENCY);
const CACHE: HeaderName = HeaderName::from_static(headers::CACHE);
const AGE: HeaderName = HeaderName::from_static(headers::AGE);

/// How questions about the datacenter are answered.
#[derive(Debug, Clone)]
pub struct DatacenterConfig {
    /// The datacenter's name.
    pub name: tribune_core::Datacenter,
    /// Makes catalog and health reads that name no mode stale, up to this far behind the leader. `None`: they
    /// ask the leader.
    pub discovery_max_stale: Option<Duration>,
    /// Whether reads may ask for the cache with `?cached`; without it they are answered as if they had not.
    pub use_cache: bool,
    /// How long blocking queries wait.
    pub waits: WaitLimits,
    /// The node that is asked: it stands behind `near=_agent`, and sessions belong to it whose requests name none.
    /// `None` leaves lists as they are, and no session can be made.
    pub node: Option<tribune_core::NodeName>,
    /// Determines the random additions to the waits of blocking queries.
    pub seed: u64,
    /// Memory for rendered answers, in bytes.
    pub rendered_bytes_max: u64,
    /// Shortest time to live of a session.
    pub session_ttl_min: Duration,
    /// Longest value of a key, in bytes.
    pub value_bytes_max: usize,
    /// Longest body of a transaction, in bytes.
    pub txn_bytes_max: usize,
}

impl DatacenterConfig {
    /// The defaults for this datacenter.
    pub fn new(name: tribune_core::Datacenter, seed: u64) -> Self {
        Self {
            name,
            discovery_max_stale: None,
            use_cache: true,
            waits: WaitLimits::default(),
            node: None,
            seed,
            rendered_bytes_max: RENDERED_BYTES_MAX,
            session_ttl_min: tribune_api::session::TTL_MIN,
            value_bytes_max: tribune_api::kv::VALUE_BYTES_MAX,
            txn_bytes_max: tribune_api::kv::VALUE_BYTES_MAX,
        }
    }
}

/// What the handlers of catalog, health and status share.
#[derive(Debug)]
pub(crate) struct Datacenter {
    pub(crate) config: DatacenterConfig,
    pub(crate) replica: Replica,
    answers: Answers,
    jitter: Jitter,
}

impl Datacenter {
    pub(crate) fn new(replica: Replica, config: DatacenterConfig) -> Self {
        let answers = Answers::new(config.rendered_bytes_max);
        let jitter = Jitter::new(config.seed);
        Self { config, replica, answers, jitter }
    }

    /// The datacenter's name as bodies show it.
    pub(crate) fn name(&self) -> &str {
        self.config.name.as_str()
    }

    /// The wait with its random addition.
    pub(crate) fn stretch(&self, wait: Duration) -> Duration {
        self.jitter.stretch(wait)
    }

    /// Any number.
    pub(crate) fn chance(&self) -> u64 {
        self.jitter.draw()
    }

    /// A state as current as the reading wants it.
    pub(crate) async fn read(&self, reading: &Reading) -> Result<Arc<State>, Error> {
        let mode = match reading.consistency {
            Consistency::Default if reading.cached => tribune_raft::Consistency::Stale,
            Consistency::Default => tribune_raft::Consistency::Default,
            Consistency::Consistent => tribune_raft::Consistency::Consistent,
            Consistency::Stale if self.too_stale(reading.max_stale) => tribune_raft::Consistency::Default,
            Consistency::Stale => tribune_raft::Consistency::Stale,
        };
        Ok(self.replica.read(mode).await?)
    }

    fn too_stale(&self, max_stale: Option<Duration>) -> bool {
        max_stale.is_some_and(|bound| self.replica.contact().last_contact.is_none_or(|age| age > bound))
    }

    /// Answers a question, now or when its answer has changed.
    pub(crate) async fn answer<R>(
        &self,
        question: Question,
        reading: &Reading,
        state: Arc<State>,
        render: R,
    ) -> Result<Shared, Error>
    where
        R: Fn(&State) -> Result<Vec<u8>, ApiError>,
    {
        let slot = self.answers.slot(&question.key).await;
        let state_index = state.index();
        let (mut answer, was_there) = self.show(&slot, &question, state, &render).await?;
        let is_news = answer.index > reading.index && !answer.was_given_at(reading.index);
        if reading.index > Index(0) && !is_news {
            // A client that knows more than this server has not seen the answer that is shown here.
            let seen = (reading.index <= state_index).then(|| Arc::clone(&answer.text));
            let until = Instant::now() + self.jitter.stretch(reading.wait);
            loop {
                let after = answer.index.max(reading.index);
                let state = question.topics.changed(&self.replica, after, until).await;
                let changed = question.topics.index(&state) > after;
                (answer, _) = self.show(&slot, &question, state, &render).await?;
                // What a topic covers may change without a change of this answer: then nobody is told.
                let news = seen.as_ref().is_none_or(|seen| !seen.same_as(&answer.text));
                if !changed || news {
                    break;
                }
            }
        }
        Ok(Shared { slot, answer, was_there })
    }

    /// The answer at `state`, or at a newer one if somebody has asked with that already.
    async fn show<R>(
        &self,
        slot: &Arc<Slot>,
        question: &Question,
        mut state: Arc<State>,
        render: &R,
    ) -> Result<(Arc<Answer>, bool), Error>
    where
        R: Fn(&State) -> Result<Vec<u8>, ApiError>,
    {
        loop {
            let index = question.topics.index(&state);
            match self.answers.show(slot, index, &state, render).await? {
                Shown::Answer { answer, was_there } => return Ok((answer, was_there)),
                Shown::Outdated => state = self.replica.state(),
            }
        }
    }

    /// The reply that carries an answer, with everything a read says about itself.
    pub(crate) async fn reply(&self, shared: &Shared, reading: &Reading, takes_gzip: bool) -> Reply {
        let mut reply = self.answers.reply(&shared.slot, &shared.answer.text, takes_gzip).await;
        self.describe(&mut reply.headers, shared.answer.index, reading);
        if reading.cached {
            let found = if shared.was_there { "HIT" } else { "MISS" };
            reply.headers.insert(CACHE, HeaderValue::from_static(found));
            if shared.was_there {
                reply.headers.insert(AGE, HeaderValue::from_static("0"));
            }
        }
        reply
    }

    /// Puts into the headers what a read says about itself.
    pub(crate) fn describe(&self, reply: &mut HeaderMap, index: Index, reading: &Reading) {
        let contact = self.replica.contact();
        let known = if contact.known_leader { "true" } else { "false" };
        let behind = contact.last_contact.unwrap_or_default().as_millis();
        let behind = u64::try_from(behind).unwrap_or(u64::MAX);
        reply.insert(EFFECTIVE_CONSISTENCY, HeaderValue::from_static(reading.consistency.as_header()));
        reply.insert(INDEX, HeaderValue::from(index.0));
        reply.insert(KNOWN_LEADER, HeaderValue::from_static(known));
        reply.insert(LAST_CONTACT, HeaderValue::from(behind));
    }

    /// Has a command written; a refusal is an error.
    pub(crate) async fn apply(&self, authority: &Authority, command: Command) -> Result<(), Error> {
        match self.replica.propose(authority, command).await? {
            Outcome::Applied | Outcome::Unchanged | Outcome::Transacted { .. } => Ok(()),
            Outcome::Refused(refusal) => Err(ApiError::from(refusal).into()),
        }
    }

    /// Has a command written and answers `true`.
    pub(crate) async fn write(
        &self,
        authority: &Authority,
        command: Command,
        layout: Layout,
    ) -> Result<Reply, Error> {
        self.apply(authority, command).await?;
        Ok(Reply::json(&true, layout)?)
    }
}

/// An answer that others may have been given too.
pub(crate) struct Shared {
    slot: Arc<Slot>,
    answer: Arc<Answer>,
    was_there: bool,
}

impl Shared {
    /// The answer's bytes as they were rendered.
    pub(crate) fn bytes(&self) -> bytes::Bytes {
        self.answer.text.plain()
    }

    /// When the answer last changed.
    pub(crate) fn index(&self) -> Index {
        self.answer.index
    }
}

#[cfg(test)]
mod tests;
