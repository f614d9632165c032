//! What a prepared query finds, for those who ask by DNS: the instances of this datacenter, else those of the first
//! other one that has any.
//!
//! ```text
//!  own state ─ some ─▶ found here
//!      ╰─ none ─▶ the other datacenters in the order of the query ─▶ kept slice, else asked ─ some ─▶ found there
//!                      ╰─ past those that were silent a moment ago, where nothing is to be waited for
//! ```
//!
//! Datacenters are asked a few at a time and never for long: a DNS client does not wait. One that is silent and may
//! have instances makes "nobody has any" unknown, which is an error and no answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use futures::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tribune_core::query::{Query, failover, finds};
use tribune_core::state::Record;
use tribune_core::{Authority, Datacenter, Folded, Index, State, Topic};

use crate::forward::Forwarder;
use crate::rpc::{Desk, Mark, QueryAnswer};
use crate::slices::{AtHand, SliceError, Slices};
use crate::summary::Summaries;

/// How long all other datacenters together may take; less than a client agent waits for its server.
const SEARCH_TIME: Duration = Duration::from_millis(2500);
/// How long one of them may take. A handshake over a long way fits in.
const DATACENTER_TIME: Duration = Duration::from_millis(1500);
/// How many of them are asked at the same time.
const ASKED_AT_ONCE: usize = 4;
/// How long questions go past a datacenter that was silent; then one of them tries it again.
const SILENT_REST: Duration = Duration::from_secs(5);
/// How soon those who follow a query hear of changes in other datacenters.
const LOOK_ELSEWHERE: Duration = Duration::from_secs(1);

/// What a prepared query found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The query, filled in; none when there is no such query.
    pub query: Option<Arc<Query>>,
    /// Where the instances are; the datacenter of the query when there are none.
    pub datacenter: Datacenter,
    /// Records of that datacenter, the service among them.
    pub state: Arc<State>,
}

/// Executes prepared queries. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Seeker(Arc<Inner>);

struct Inner {
    own: Datacenter,
    desk: Arc<dyn Desk>,
    others: Option<Others>,
}

/// The other datacenters.
struct Others {
    forwarder: Forwarder,
    slices: Slices,
    summaries: Summaries,
    /// Which were silent, and when. Holds only datacenters that are known.
    silent: Mutex<HashMap<Datacenter, Instant>>,
}

/// What is known without anybody else.
enum Sight {
    /// All there is to know.
    Whole(Finding),
    /// Nothing is here, and the query goes on elsewhere.
    Partly(Arc<Query>, Arc<State>),
}

impl Seeker {
    /// Looks only into datacenter `own`.
    pub fn new(own: Datacenter, desk: Arc<dyn Desk>) -> Self {
        Self(Arc::new(Inner { own, desk, others: None }))
    }

    /// Looks into the other datacenters as well. `slices` and `summaries` are those of `forwarder`.
    pub fn with_others(
        own: Datacenter,
        desk: Arc<dyn Desk>,
        forwarder: Forwarder,
        slices: Slices,
        summaries: Summaries,
    ) -> Self {
        let others = Others { forwarder, slices, summaries, silent: Mutex::default() };
        Self(Arc::new(Inner { own, desk, others: Some(others) }))
    }

    /// What the query of this id or name finds, if that is known already; neither waits nor asks.
    pub fn peek(&self, name: &str) -> Option<Finding> {
        let (query, state) = match self.0.look(name) {
            Sight::Whole(finding) => return Some(finding),
            Sight::Partly(query, state) => (query, state),
        };
        let others = self.0.others.as_ref()?;
        let topic = topic(&query);
        let mut all_known = true;
        for datacenter in others.candidates(&self.0.own, &query) {
            match others.slices.at_hand(&datacenter, &topic) {
                Some(held) if held.is_current => {
                    if has_instances(&held.state, &query) {
                        return Some(Finding { query: Some(query), datacenter, state: held.state });
                    }
                }
                _ if others.was_silent(&datacenter) => all_known = false,
                _ => return None,
            }
        }
        all_known.then(|| Finding { query: Some(query), datacenter: self.0.own.clone(), state })
    }

    /// The same; other datacenters are asked when it is not known.
    pub async fn find(&self, name: &str) -> Result<Finding, SliceError> {
        let (query, state) = match self.0.look(name) {
            Sight::Whole(finding) => return Ok(finding),
            Sight::Partly(query, state) => (query, state),
        };
        let found = match &self.0.others {
            Some(others) => others.search(&self.0.own, &query).await?,
            None => None,
        };
        let (datacenter, state) = found.unwrap_or((self.0.own.clone(), state));
        Ok(Finding { query: Some(query), datacenter, state })
    }

    /// What a query finds as soon as it is not what `known` is the mark of, or at `until`.
    pub(crate) async fn answer(
        &self,
        name: &str,
        known: Option<&Mark>,
        until: Instant,
    ) -> Result<QueryAnswer, SliceError> {
        let mut has_waited = false;
        loop {
            // Taken before looking, so that a change in between is no change missed.
            let before = self.0.desk.state();
            let finding = self.find(name).await?;
            let topics = topics(finding.query.as_deref(), &before);
            let mark = self.mark(&finding, &topics);
            let is_news = known.is_none_or(|known| {
                // Servers may see the other datacenters differently: that alone is told once in a while. A server that
                // is behind another has no news.
                let is_elsewhere = mark.elsewhere != known.elsewhere && has_waited;
                mark.index > known.index || (mark.index == known.index && is_elsewhere)
            });
            if is_news || Instant::now() >= until {
                return Ok(answer_of(finding, mark));
            }
            let look = if self.is_settled(&finding) { until } else { Instant::now() + LOOK_ELSEWHERE };
            self.changed(topics, look.min(until)).await;
            has_waited = true;
        }
    }

    /// Whether other datacenters cannot change what was found.
    fn is_settled(&self, Finding { query, datacenter, state }: &Finding) -> bool {
        let goes_on = |query: &Arc<Query>| {
            query.service.fails_over() && (*datacenter != self.0.own || !has_instances(state, query))
        };
        self.0.others.is_none() || !query.as_ref().is_some_and(goes_on)
    }

    fn mark(&self, finding: &Finding, topics: &[(Topic, Index)]) -> Mark {
        let index = topics.iter().map(|(_, index)| *index).max().unwrap_or_default();
        let elsewhere = finding.query.as_ref().filter(|_| finding.datacenter != self.0.own);
        let there = |query: &Arc<Query>| finding.state.index_of(&topic(query));
        Mark { index, elsewhere: elsewhere.map(|query| (finding.datacenter.clone(), there(query))) }
    }

    /// Waits until one of the topics has changed.
    async fn changed(&self, topics: Vec<(Topic, Index)>, until: Instant) {
        let waits = topics.into_iter().map(|(topic, after)| -> BoxFuture<'_, ()> {
            async move {
                self.0.desk.changed(&topic, after, until).await;
            }
            .boxed()
        });
        select_all(waits).await;
    }
}

impl Inner {
    fn look(&self, name: &str) -> Sight {
        let state = self.desk.state();
        let own = |query, state| Finding { query, datacenter: self.own.clone(), state };
        let Some(query) = state.find_query(name).map(|found| Arc::new(found.value)) else {
            return Sight::Whole(own(None, Arc::default()));
        };
        if has_instances(&state, &query) || self.others.is_none() || !query.service.fails_over() {
            return Sight::Whole(own(Some(query), state));
        }
        Sight::Partly(query, state)
    }
}

impl Others {
    /// The datacenters to ask, in this order. One that is known to have nothing is left out.
    fn candidates(&self, own: &Datacenter, query: &Query) -> Vec<Datacenter> {
        let mut order = failover(&query.service, own, &self.forwarder.distances());
        if !query.service.counts_critical() {
            order.retain(|datacenter| !self.summaries.lacks(datacenter, &query.service.service));
        }
        order
    }

    fn was_silent(&self, datacenter: &Datacenter) -> bool {
        let since = self.silent.lock().get(datacenter).copied();
        since.is_some_and(|since| since.elapsed() < SILENT_REST)
    }

    fn note(&self, datacenter: &Datacenter, is_silent: bool) {
        let mut silent = self.silent.lock();
        match is_silent {
            true => _ = silent.insert(datacenter.clone(), Instant::now()),
            false => _ = silent.remove(datacenter),
        }
    }

    /// The first datacenter that has instances, and its slice of the service. What is kept of one that does not answer
    /// any more is the last resort.
    async fn search(
        &self,
        own: &Datacenter,
        query: &Query,
    ) -> Result<Option<(Datacenter, Arc<State>)>, SliceError> {
        let topic = topic(query);
        let (deadline, mut resort, mut is_unsure) = (Instant::now() + SEARCH_TIME, None, false);
        let asked = self.candidates(own, query).into_iter().map(|datacenter| self.ask(datacenter, &topic));
        let mut answers = stream::iter(asked).buffered(ASKED_AT_ONCE);
        loop {
            match timeout_at(deadline, answers.next()).await {
                Ok(None) => break,
                Ok(Some((datacenter, Ok(AtHand { state, is_current })))) => {
                    if has_instances(&state, query) {
                        if is_current {
                            return Ok(Some((datacenter, state)));
                        }
                        resort.get_or_insert((datacenter, state));
                    }
                    is_unsure |= !is_current;
                }
                Ok(Some((_, Err(SliceError::Unknown)))) => {}
                Ok(Some((_, Err(SliceError::Unreachable)))) => is_unsure = true,
                Err(_) => {
                    is_unsure = true;
                    break;
                }
            }
        }
        if resort.is_none() && is_unsure {
            return Err(SliceError::Unreachable);
        }
        Ok(resort)
    }

    /// What one datacenter has of the service.
    async fn ask(&self, datacenter: Datacenter, topic: &Topic) -> (Datacenter, Result<AtHand, SliceError>) {
        if let Some(held) = self.slices.at_hand(&datacenter, topic) {
            self.note(&datacenter, !held.is_current);
            return (datacenter, Ok(held));
        }
        let asked = timeout(DATACENTER_TIME, self.slices.fetch(&datacenter, topic)).await;
        let asked = asked.unwrap_or(Err(SliceError::Unreachable));
        if let Err(error) = &asked {
            tracing::debug!(%datacenter, %error, "a prepared query goes past a datacenter");
        }
        self.note(&datacenter, asked == Err(SliceError::Unreachable));
        (datacenter, asked.map(|state| AtHand { state, is_current: true }))
    }
}

fn topic(query: &Query) -> Topic {
    Topic::Service(Folded::new(&query.service.service))
}

/// What a finding depends on in the datacenter of the query, as it stands in `state`.
fn topics(query: Option<&Query>, state: &State) -> Vec<(Topic, Index)> {
    let mut topics = vec![Topic::Queries];
    topics.extend(query.map(topic));
    topics.extend(query.and_then(|query| query.service.near_node()).map(|_| Topic::Coordinates));
    topics.into_iter().map(|topic| (topic.clone(), state.index_of(&topic))).collect()
}

fn has_instances(state: &State, query: &Query) -> bool {
    let authority = Authority::unrestricted();
    finds(state.view(&authority), &query.service)
}

fn answer_of(finding: Finding, mark: Mark) -> QueryAnswer {
    let Finding { query, datacenter, state } = finding;
    let records: Vec<Record> = match &query {
        Some(query) => state.query_slice(&query.service),
        None => State::default().slice(&Topic::Queries),
    };
    // With what a query is executed, and when it ends, concerns its own servers only.
    let plain = |query: &Query| Query { token: "".into(), session: "".into(), ..query.clone() };
    QueryAnswer { mark, query: query.as_deref().map(plain), datacenter, records }
}
