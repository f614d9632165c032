//! From a packet to an answer. What we know is answered on the spot; what others know becomes an [`Errand`],
//! which the caller runs beside its loop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tribune_core::dns::{
    Answer, Code, Draft, Kind, Name, Plan, Prepared, Question, Subject, Transport, Zone, answer_found, needs,
    plan, plan_query,
};
use tribune_core::{Authority, Datacenter, State, Topic};

use crate::cache::{Cache, Key};
use crate::config::{Config, LiveConfig};
use crate::convert::{Query, Unreadable, unreadable_request};
use crate::rate::{Limiter, Verdict};
use crate::recurse;
use crate::source::{Found, Own, RemoteError, RemoteLookup, TopicLookup};

/// Most questions that wait for others at a time; further ones are answered SERVFAIL.
const ERRANDS_MAX: usize = 1024;
/// How long a client waits for an answer before it asks again; nothing is worth finding out later.
const ERRAND_TIME: Duration = Duration::from_secs(5);

/// Everything that answers questions, shared by all workers.
pub(crate) struct Handler {
    own: Own,
    /// What is known of our own datacenter where it is asked for.
    nothing: Arc<State>,
    remote: Arc<dyn RemoteLookup>,
    pub(crate) config: LiveConfig,
    limiter: Limiter,
    errands: Arc<Semaphore>,
    /// Our own addresses, which are never asked.
    addresses: Vec<SocketAddr>,
}

/// What a batch of questions is answered from.
pub(crate) struct Moment {
    pub(crate) config: Arc<Config>,
    state: Arc<State>,
    authority: Arc<Authority>,
    /// Seconds since 1970.
    now: u32,
}

/// What became of a packet.
pub(crate) enum Next {
    /// The answer has been written.
    Reply,
    /// It gets no answer.
    Silence,
    /// Others have to be asked first.
    Errand(Box<Errand>),
}

/// A question that others have to be asked about. It keeps its place among those that wait, so a flood of them ends
/// here and not in a queue of tasks.
pub(crate) struct Errand {
    packet: Vec<u8>,
    peer: SocketAddr,
    transport: Transport,
    config: Arc<Config>,
    authority: Arc<Authority>,
    task: Task,
    _place: OwnedSemaphorePermit,
}

enum Task {
    /// Pass the packet on as it is.
    Relay,
    /// Ask the servers of our own datacenter.
    AskOwn { question: Question, topic: Topic },
    /// Ask another datacenter, or have a prepared query executed.
    Ask { question: Question, datacenter: Datacenter, subject: Subject, unknown: Draft },
    /// Find the addresses of host names that are not ours.
    Follow { draft: Draft, names: Vec<Name>, kind: Kind },
}

impl Handler {
    pub(crate) fn new(
        own: Own,
        remote: Arc<dyn RemoteLookup>,
        config: LiveConfig,
        addresses: Vec<SocketAddr>,
    ) -> Self {
        let (nothing, errands) = (Arc::default(), Arc::new(Semaphore::new(ERRANDS_MAX)));
        Self { own, nothing, remote, config, limiter: Limiter::default(), errands, addresses }
    }

    /// Settings, state and time as they are now.
    pub(crate) fn moment(&self) -> Moment {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (state, authority) = match &self.own {
            Own::Held(source) => (source.state(), source.authority()),
            Own::Asked(lookup) => (self.nothing.clone(), lookup.authority()),
        };
        Moment { config: self.config.load(), state, authority, now: since_1970.as_secs() as u32 }
    }

    /// Answers one packet into `out`, which must be empty.
    pub(crate) fn answer(
        &self,
        moment: &Moment,
        cache: &mut Cache,
        packet: &[u8],
        from: (SocketAddr, Transport),
        out: &mut Vec<u8>,
    ) -> Next {
        let (peer, transport) = from;
        let verdict = match transport {
            Transport::Udp => self.limiter.judge(&moment.config.rate_limit, peer.ip(), moment.now),
            Transport::Tcp => Verdict::Send,
        };
        if verdict != Verdict::Send {
            metrics::counter!("dns.rate_limited").increment(1);
        }
        if verdict == Verdict::Drop {
            return Next::Silence;
        }
        let query = match Query::read(packet, peer, transport) {
            Ok(query) => query,
            Err(Unreadable::Ignore) => return Next::Silence,
            Err(Unreadable::Error(code)) => {
                let prepared = Prepared::of_code(code);
                let request = unreadable_request(packet, transport);
                prepared.render(request, &moment.config.zone, 0).write(moment.now, out);
                return Next::Reply;
            }
        };
        let reply = Reply { moment, query: &query, transport, client: peer.ip() };
        if verdict == Verdict::Slip {
            let prepared = Prepared::of_code(Code::NoError);
            reply.rendered(&prepared).advise_tcp().write(moment.now, out);
            return Next::Reply;
        }
        if query.edns.as_ref().is_some_and(|edns| edns.version != 0) {
            return reply.code(Code::BadVers, out);
        }
        self.answer_query(&reply, cache, packet, peer, out)
    }

    fn answer_query(
        &self,
        reply: &Reply<'_>,
        cache: &mut Cache,
        packet: &[u8],
        peer: SocketAddr,
        out: &mut Vec<u8>,
    ) -> Next {
        let Reply { moment, query, transport, .. } = *reply;
        cache.keep_for(&moment.config);
        let key = Key::new(query.name(), query.kind);
        let task = match &self.own {
            Own::Held(_) => {
                if let Some(prepared) = cache.get(&key, &moment.state) {
                    return reply.prepared(prepared, out);
                }
                let Some(question) = query.to_question() else { return reply.code(Code::FormErr, out) };
                self.decide(reply, (cache, &key), question, &moment.state, out)
            }
            Own::Asked(lookup) => {
                let Some(question) = query.to_question() else { return reply.code(Code::FormErr, out) };
                self.decide_without_catalog(lookup.as_ref(), reply, (cache, &key), question, out)
            }
        };
        let task = match task {
            Ok(next) => return next,
            Err(task) => task,
        };
        let Ok(place) = self.errands.clone().try_acquire_owned() else {
            metrics::counter!("dns.overloaded").increment(1);
            return reply.code(Code::ServFail, out);
        };
        Next::Errand(Box::new(Errand {
            packet: packet.to_vec(),
            peer,
            transport,
            config: moment.config.clone(),
            authority: moment.authority.clone(),
            task: *task,
            _place: place,
        }))
    }

    /// Answers from what is at hand of what the servers know, or says what has to be done first.
    fn decide_without_catalog(
        &self,
        lookup: &dyn TopicLookup,
        reply: &Reply<'_>,
        (cache, key): (&mut Cache, &Key),
        question: Question,
        out: &mut Vec<u8>,
    ) -> Result<Next, Box<Task>> {
        let moment = reply.moment;
        if let Some(asked) = plan_query(&question, &moment.config.zone) {
            return self.carry_out(asked, reply, (cache, key), question, &moment.state, out);
        }
        let state = match needs(&question, &moment.config.zone) {
            None => moment.state.clone(),
            Some(topic) => match lookup.peek(&topic) {
                Some(state) => state,
                None => return Err(Box::new(Task::AskOwn { question, topic })),
            },
        };
        if let Some(prepared) = cache.get(key, &state) {
            return Ok(reply.prepared(prepared, out));
        }
        self.decide(reply, (cache, key), question, &state, out)
    }

    /// Answers from `state`, or says what has to be done first.
    fn decide(
        &self,
        reply: &Reply<'_>,
        kept: (&mut Cache, &Key),
        question: Question,
        state: &State,
        out: &mut Vec<u8>,
    ) -> Result<Next, Box<Task>> {
        let plan = plan(&question, state.view(&reply.moment.authority), &reply.moment.config.zone);
        self.carry_out(plan, reply, kept, question, state, out)
    }

    /// Answers as planned from `state`, or says what has to be done first.
    fn carry_out(
        &self,
        plan: Plan,
        reply: &Reply<'_>,
        (cache, key): (&mut Cache, &Key),
        question: Question,
        state: &State,
        out: &mut Vec<u8>,
    ) -> Result<Next, Box<Task>> {
        let Reply { moment, client, .. } = *reply;
        let recurses = moment.config.recurses_for(client);
        match plan {
            Plan::Answer(draft) => {
                let names = draft.outside_names();
                if moment.config.recursors.is_empty() || names.is_empty() {
                    let prepared = Arc::new(Prepared::from(&draft));
                    cache.put(key, prepared.clone(), draft.depends, state);
                    return Ok(reply.prepared(&prepared, out));
                }
                if !recurses {
                    return Ok(reply.prepared(&Prepared::from(&draft), out));
                }
                Err(Box::new(Task::Follow { draft, names, kind: question.kind }))
            }
            Plan::Ask { datacenter, subject, unknown } => {
                let Some(found) = self.remote.peek(&datacenter, &subject) else {
                    return Err(Box::new(Task::Ask { question, datacenter, subject, unknown }));
                };
                self.pass_on(reply, (cache, key), question, (&subject, &found), out)
            }
            Plan::Unmapped(_) | Plan::Elsewhere if recurses => Err(Box::new(Task::Relay)),
            Plan::Unmapped(draft) => Ok(reply.prepared(&Prepared::from(&draft), out)),
            Plan::Elsewhere => {
                metrics::counter!("dns.refused").increment(1);
                Ok(reply.code(Code::Refused, out))
            }
            Plan::NotImplemented => Ok(reply.code(Code::NotImp, out)),
        }
    }

    /// Answers from what others have.
    fn pass_on(
        &self,
        reply: &Reply<'_>,
        (cache, key): (&mut Cache, &Key),
        question: Question,
        (subject, found): (&Subject, &Found),
        out: &mut Vec<u8>,
    ) -> Result<Next, Box<Task>> {
        let (config, authority) = (&reply.moment.config, &reply.moment.authority);
        // What a prepared query finds depends on more than one state: on the query, and on who has instances.
        let is_kept = !matches!(subject, Subject::Query(_));
        let key = key.elsewhere();
        if is_kept && let Some(prepared) = cache.get(&key, &found.state) {
            return Ok(reply.prepared(prepared, out));
        }
        let Some(draft) = answer_elsewhere(config, authority, &question, found) else {
            return Ok(reply.code(Code::ServFail, out));
        };
        let names = draft.outside_names();
        if !names.is_empty() && config.recurses_for(reply.client) {
            return Err(Box::new(Task::Follow { draft, names, kind: question.kind }));
        }
        let prepared = Arc::new(Prepared::from(&draft));
        if is_kept && (names.is_empty() || config.recursors.is_empty()) {
            cache.put(&key, prepared.clone(), draft.depends, &found.state);
        }
        Ok(reply.prepared(&prepared, out))
    }

    /// Runs an errand to its answer; `None` when the packet cannot be answered after all.
    pub(crate) async fn run(&self, errand: Box<Errand>) -> Option<Vec<u8>> {
        match tokio::time::timeout(ERRAND_TIME, self.fulfil(&errand)).await {
            Ok(Outcome::Packet(packet)) => Some(packet),
            Ok(Outcome::Draft(draft)) => self.reply_to(&errand, &Prepared::from(&draft)),
            Ok(Outcome::Failed) | Err(_) => self.reply_to(&errand, &Prepared::of_code(Code::ServFail)),
        }
    }

    async fn fulfil(&self, errand: &Errand) -> Outcome {
        match &errand.task {
            Task::Relay => self.relay(errand).await,
            Task::AskOwn { question, topic } => self.ask_own(errand, question, topic).await,
            Task::Ask { question, datacenter, subject, unknown } => {
                match self.remote.fetch(datacenter, subject).await {
                    Ok(found) => {
                        let (config, authority) = (&errand.config, &errand.authority);
                        match answer_elsewhere(config, authority, question, &found) {
                            Some(draft) => self.complete(errand, draft, question.kind).await,
                            None => Outcome::Failed,
                        }
                    }
                    Err(RemoteError::Unknown) => Outcome::Draft(unknown.clone()),
                    Err(RemoteError::Unreachable) => Outcome::Failed,
                }
            }
            Task::Follow { draft, names, kind } => self.follow(errand, draft.clone(), names, *kind).await,
        }
    }

    async fn relay(&self, errand: &Errand) -> Outcome {
        metrics::counter!("dns.recursion").increment(1);
        match recurse::relay(&errand.config, &self.addresses, &errand.packet, errand.transport).await {
            Some(packet) => Outcome::Packet(packet),
            None => {
                metrics::counter!("dns.recursion_failed").increment(1);
                Outcome::Failed
            }
        }
    }

    /// Finds what is behind host names of others, for those who may have it found.
    async fn complete(&self, errand: &Errand, draft: Draft, kind: Kind) -> Outcome {
        let names = draft.outside_names();
        if names.is_empty() || !errand.config.recurses_for(errand.peer.ip()) {
            return Outcome::Draft(draft);
        }
        self.follow(errand, draft, &names, kind).await
    }

    async fn follow(&self, errand: &Errand, mut draft: Draft, names: &[Name], kind: Kind) -> Outcome {
        for name in names {
            let found = recurse::resolve(&errand.config, &self.addresses, name, kind).await;
            draft.supply(name, &found);
        }
        Outcome::Draft(draft)
    }

    /// Answers from what a server of our own datacenter sends.
    async fn ask_own(&self, errand: &Errand, question: &Question, topic: &Topic) -> Outcome {
        let Own::Asked(lookup) = &self.own else { return Outcome::Failed };
        let Ok(state) = lookup.fetch(topic).await else { return Outcome::Failed };
        let recurses = errand.config.recurses_for(errand.peer.ip());
        match plan(question, state.view(&errand.authority), &errand.config.zone) {
            Plan::Answer(draft) => self.complete(errand, draft, question.kind).await,
            Plan::Unmapped(_) if recurses => self.relay(errand).await,
            Plan::Unmapped(draft) => Outcome::Draft(draft),
            Plan::Ask { .. } | Plan::Elsewhere | Plan::NotImplemented => Outcome::Failed,
        }
    }

    fn reply_to(&self, errand: &Errand, prepared: &Prepared) -> Option<Vec<u8>> {
        let query = Query::read(&errand.packet, errand.peer, errand.transport).ok()?;
        let moment =
            Moment { config: errand.config.clone(), authority: errand.authority.clone(), ..self.moment() };
        let (transport, client) = (errand.transport, errand.peer.ip());
        let mut out = Vec::with_capacity(512);
        Reply { moment: &moment, query: &query, transport, client }.prepared(prepared, &mut out);
        Some(out)
    }
}

/// What came of an errand.
enum Outcome {
    Packet(Vec<u8>),
    Draft(Draft),
    Failed,
}

/// The answer from what others sent, in a zone moved to where it was found: names in the answer are of that datacenter.
fn answer_elsewhere(
    config: &Config,
    authority: &Authority,
    question: &Question,
    found: &Found,
) -> Option<Draft> {
    let view = found.state.view(authority);
    if found.datacenter == config.zone.datacenter {
        return answer_found(question, found.query.as_deref(), view, &config.zone);
    }
    let (datacenter, prefers_wan) = (found.datacenter.clone(), config.translate_wan_addrs);
    let zone = Zone { datacenter, prefers_wan, ..config.zone.clone() };
    answer_found(question, found.query.as_deref(), view, &zone)
}

/// One question and what its answer is written with.
#[derive(Clone, Copy)]
struct Reply<'a> {
    moment: &'a Moment,
    query: &'a Query<'a>,
    transport: Transport,
    client: IpAddr,
}

impl Reply<'_> {
    fn rendered<'p>(&'p self, prepared: &'p Prepared) -> Answer<'p> {
        let config = &self.moment.config;
        let request = self.query.request(self.transport, config.recurses_for(self.client));
        prepared.render(request, &config.zone, rand::random())
    }

    fn prepared(&self, prepared: &Prepared, out: &mut Vec<u8>) -> Next {
        let answer = self.rendered(prepared);
        if answer.dropped() > 0 {
            metrics::counter!("dns.truncated").increment(1);
        }
        answer.write(self.moment.now, out);
        Next::Reply
    }

    fn code(&self, code: Code, out: &mut Vec<u8>) -> Next {
        self.prepared(&Prepared::of_code(code), out)
    }
}

#[cfg(test)]
mod tests;
