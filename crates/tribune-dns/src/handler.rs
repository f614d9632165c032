//! From a packet to an answer. What we know is answered on the spot; what others know becomes an [`Errand`],
//! which the caller runs beside its loop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tribune_core::dns::{
    Answer, Code, Draft, Kind, Name, Plan, Prepared, Question, Subject, Transport, Zone, is_prepared_query,
    needs, plan,
};
use tribune_core::{Authority, Datacenter, State, Topic};

use crate::cache::{Cache, Key};
use crate::config::{Config, LiveConfig};
use crate::convert::{Query, Unreadable, unreadable_request};
use crate::rate::{Limiter, Verdict};
use crate::recurse;
use crate::source::{Own, RemoteError, RemoteLookup};

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
    /// Ask another datacenter.
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
                if is_prepared_query(&question, &moment.config.zone) {
                    metrics::counter!("dns.queries_unanswered").increment(1);
                    return reply.code(Code::ServFail, out);
                }
                let known = match needs(&question, &moment.config.zone) {
                    Some(topic) => lookup.peek(&topic).ok_or(topic),
                    None => Ok(moment.state.clone()),
                };
                match known {
                    Err(topic) => Err(Box::new(Task::AskOwn { question, topic })),
                    Ok(state) => {
                        if let Some(prepared) = cache.get(&key, &state) {
                            return reply.prepared(prepared, out);
                        }
                        self.decide(reply, (cache, &key), question, &state, out)
                    }
                }
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

    /// Answers from `state`, or says what has to be done first.
    fn decide(
        &self,
        reply: &Reply<'_>,
        (cache, key): (&mut Cache, &Key),
        question: Question,
        state: &State,
        out: &mut Vec<u8>,
    ) -> Result<Next, Box<Task>> {
        let Reply { moment, client, .. } = *reply;
        let recurses = moment.config.recurses_for(client);
        match plan(&question, state.view(&moment.authority), &moment.config.zone) {
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
                let Some(state) = self.remote.peek(&datacenter, &subject) else {
                    return Err(Box::new(Task::Ask { question, datacenter, subject, unknown }));
                };
                let key = key.elsewhere();
                if let Some(prepared) = cache.get(&key, &state) {
                    return Ok(reply.prepared(prepared, out));
                }
                let (config, authority) = (&moment.config, &moment.authority);
                match answer_elsewhere(config, authority, &question, &datacenter, &state) {
                    Some(draft) => {
                        let prepared = Arc::new(Prepared::from(&draft));
                        cache.put(&key, prepared.clone(), draft.depends, &state);
                        Ok(reply.prepared(&prepared, out))
                    }
                    None => Ok(reply.code(Code::ServFail, out)),
                }
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
                    Ok(state) => {
                        let (config, authority) = (&errand.config, &errand.authority);
                        let draft = answer_elsewhere(config, authority, question, datacenter, &state);
                        draft.map_or(Outcome::Failed, Outcome::Draft)
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
            Plan::Answer(draft) if recurses => {
                let names = draft.outside_names();
                self.follow(errand, draft, &names, question.kind).await
            }
            Plan::Unmapped(_) if recurses => self.relay(errand).await,
            Plan::Answer(draft) | Plan::Unmapped(draft) => Outcome::Draft(draft),
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

/// Plans again with what another datacenter sent, in a zone moved there: names in the answer are of that datacenter.
fn answer_elsewhere(
    config: &Config,
    authority: &Authority,
    question: &Question,
    datacenter: &Datacenter,
    state: &State,
) -> Option<Draft> {
    let prefers_wan = config.translate_wan_addrs;
    let zone = Zone { datacenter: datacenter.clone(), prefers_wan, ..config.zone.clone() };
    match plan(question, state.view(authority), &zone) {
        Plan::Answer(draft) => Some(draft),
        Plan::Ask { .. } | Plan::Unmapped(_) | Plan::Elsewhere | Plan::NotImplemented => None,
    }
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
