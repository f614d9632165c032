//! Exchanges with other members: what is asked, and what happens with the answer. They run beside the loop, in a
//! bounded number, each with a deadline, and report back to it.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IteratorRandom;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info};

use super::Engine;
use super::answering::Held;
use crate::alarm::Alarm;
use crate::carrier::Address;
use crate::member::{Key, Peer};
use crate::pool::Contacted;
use crate::wire::{Answer, Purpose, Request};

/// Most exchanges under way at a time.
const ERRANDS_MAX: usize = 128;

/// A full exchange may take this many times as long as a question about life and death.
const SYNC_PATIENCE: u32 = 10;

/// Failed members tried again at a time: the one that failed last, and others by chance.
const RECONNECTS_AT_ONCE: usize = 2;

/// Addresses tried at a time when nobody else is left.
const SEEDS_AT_ONCE: usize = 3;

/// Rounds of gossip that news is given before the state is exchanged once more.
const CATCH_UP_ROUNDS: u32 = 10;

/// Members asked for in one fetch.
const FETCH_MAX: usize = 256;

/// An exchange under way.
pub(super) enum Errand {
    /// First words with whoever listens at an address.
    Contact { address: SocketAddr, reply: Option<oneshot::Sender<Result<Contacted, String>>> },
    /// Full exchange with a known member.
    Sync { peer: Peer },
    /// Does this suspected member live?
    Verify { peer: Peer, incarnation: u16, last: bool },
    /// Does the holder of a name or an id live, which somebody else wants?
    Judge { holder: Peer, held: Box<Held> },
    /// Facts are asked for.
    Fetch,
    /// Facts are told.
    Tell,
}

/// An exchange that is over.
pub(super) struct Finished {
    errand: Errand,
    answer: Result<Answer, String>,
    took: Duration,
}

impl Engine {
    /// Sends somebody a question. Gives the errand back when too many are under way.
    pub(super) fn dispatch(
        &mut self,
        errand: Errand,
        to: Address,
        request: Request,
        wait: Duration,
    ) -> Option<Errand> {
        if self.errands.len() >= ERRANDS_MAX {
            metrics::counter!("memberlist.queue.dropped", "network" => self.shared.network).increment(1);
            return Some(errand);
        }
        let speaker = self.shared.speaker.clone();
        self.errands.spawn(async move {
            let start = Instant::now();
            let answer = speaker.ask(&to, &request, wait).await;
            Finished { errand, answer, took: start.elapsed() }
        });
        None
    }

    /// An exchange is over.
    pub(super) fn finished(&mut self, finished: Finished, now: Instant) {
        let Finished { errand, answer, took } = finished;
        match errand {
            Errand::Contact { address, reply } => self.contacted(address, reply, answer, now),
            Errand::Sync { peer } => {
                metrics::histogram!("memberlist.pushPullNode", "network" => self.shared.network)
                    .record(took.as_secs_f64() * 1000.0);
                let outcome = self.synced(answer, now);
                if let Err(reason) = outcome {
                    debug!(address = %peer.address, %reason, "no full exchange");
                }
            }
            Errand::Verify { peer, incarnation, last } => {
                self.verified((peer, incarnation, last), pong(answer), now);
            }
            Errand::Judge { holder, held } => {
                let lives = pong(answer).is_ok_and(|peer| peer == holder);
                self.judged(holder, lives, *held, now);
            }
            Errand::Fetch => {
                self.fetching = false;
                if let Ok(Answer::Facts { facts }) = answer {
                    let mut bulletin = self.bulletin.lock();
                    for facts in facts {
                        bulletin.take_facts(facts);
                    }
                }
            }
            Errand::Tell => {
                if let Err(reason) = answer {
                    debug!(%reason, "what another member lacks was not told");
                }
            }
        }
    }

    /// Speaks with whoever listens at an address.
    pub(super) fn contact(
        &mut self,
        address: SocketAddr,
        purpose: Purpose,
        reply: Option<oneshot::Sender<Result<Contacted, String>>>,
        now: Instant,
    ) {
        let request = Request::Sync(Box::new(self.sync_request(purpose, now)));
        let to = Address { socket: address, datacenter: None };
        let errand = Errand::Contact { address, reply };
        let refused = self.dispatch(errand, to, request, self.sync_patience());
        if let Some(Errand::Contact { reply: Some(reply), .. }) = refused {
            let _ = reply.send(Err("too many exchanges are under way; try again".into()));
        }
    }

    fn contacted(
        &mut self,
        address: SocketAddr,
        reply: Option<oneshot::Sender<Result<Contacted, String>>>,
        answer: Result<Answer, String>,
        now: Instant,
    ) {
        let outcome = self.synced(answer, now);
        match &outcome {
            Ok(Contacted::Joined) => {
                self.remember_seed(address);
                self.plan_catch_up(now);
                info!(%address, members = self.roster.active(), "joined");
            }
            Ok(Contacted::Own) => {}
            Err(reason) => debug!(%address, %reason, "not joined"),
        }
        if let Some(reply) = reply {
            let _ = reply.send(outcome);
        }
    }

    /// Exchanges the full state with a random member.
    pub(super) fn sync(&mut self, now: Instant) {
        self.sync_with_anybody(now);
        let pause = self.timing.sync_after(self.roster.active());
        let pause = pause.mul_f64(self.rng.random_range(0.75..1.25));
        self.alarms.set(now + pause, Alarm::Sync);
    }

    /// An exchange brought members that were not known: there may be more. Another follows soon, with somebody
    /// else, until one brings nobody new; so a wave of joins is known everywhere long before the next interval.
    pub(super) fn plan_catch_up(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.catching_up, true) {
            let pause = self.timing.gossip_interval * CATCH_UP_ROUNDS;
            self.alarms.set(now + pause.mul_f64(self.rng.random_range(0.75..1.25)), Alarm::CatchUp);
        }
    }

    pub(super) fn catch_up(&mut self, now: Instant) {
        self.catching_up = false;
        self.sync_with_anybody(now);
    }

    fn sync_with_anybody(&mut self, now: Instant) {
        let chosen = self.foca.iter_members().choose(&mut self.rng).map(|member| *member.id());
        if let Some(peer) = chosen {
            self.sync_with(peer, Purpose::Periodic, now);
        }
    }

    /// Tries failed members again; and, when nobody else is left, every address that ever was one.
    pub(super) fn reconnect(&mut self, now: Instant) {
        for peer in self.failed_to_try() {
            self.sync_with(peer, Purpose::Reconnect, now);
        }
        if self.roster.active() <= 1 && !self.departure.begun {
            let seeds: Vec<SocketAddr> = self.seeds.iter().copied().sample(&mut self.rng, SEEDS_AT_ONCE);
            for seed in seeds {
                self.contact(seed, Purpose::Join, None, now);
            }
        }
        let pause = self.timing.reconnect_interval.mul_f64(self.rng.random_range(0.75..1.25));
        self.alarms.set(now + pause, Alarm::Reconnect);
    }

    fn failed_to_try(&mut self) -> Vec<Peer> {
        let bulletin = self.bulletin.lock();
        let leaving = |key: Key| bulletin.facts(key).is_some_and(|facts| facts.leaving);
        let failed = self.roster.iter().filter(|it| !it.active && !it.left && !leaving(it.peer.key));
        let mut failed: Vec<_> = failed.map(|it| (it.since, it.peer)).collect();
        drop(bulletin);
        failed.sort();
        let mut chosen: Vec<Peer> = failed.pop().map(|(_, peer)| peer).into_iter().collect();
        let others = failed.into_iter().map(|(_, peer)| peer);
        chosen.extend(others.sample(&mut self.rng, RECONNECTS_AT_ONCE - 1));
        chosen
    }

    fn sync_with(&mut self, peer: Peer, purpose: Purpose, now: Instant) {
        if self.departure.begun {
            return;
        }
        let request = Request::Sync(Box::new(self.sync_request(purpose, now)));
        let to = self.address(peer);
        self.dispatch(Errand::Sync { peer }, to, request, self.sync_patience());
    }

    pub(super) fn sync_patience(&self) -> Duration {
        self.timing.stream_timeout * SYNC_PATIENCE
    }

    /// Asks for the facts that are missing: in turns the member itself, and anybody.
    pub(super) fn fetch_missing(&mut self) {
        if self.fetching {
            return;
        }
        let bulletin = self.bulletin.lock();
        let unknown = self.roster.iter().filter(|it| it.active && bulletin.facts(it.peer.key).is_none());
        let mut missing: Vec<Key> = unknown.map(|it| it.peer.key).chain(bulletin.noticed()).collect();
        drop(bulletin);
        missing.retain(|key| self.roster.get(*key).is_some());
        let Some(first) = missing.first().copied() else { return };
        missing.truncate(FETCH_MAX);
        self.fetches += 1;
        let anybody = self.foca.iter_members().choose(&mut self.rng).map(|member| member.id().key);
        let whom = if self.fetches % 2 == 1 { Some(first) } else { anybody };
        self.fetch_from(whom.unwrap_or(first), missing);
    }

    pub(super) fn fetch_from(&mut self, whom: Key, keys: Vec<Key>) {
        let Some(peer) = self.roster.get(whom).map(|entry| entry.peer) else { return };
        let to = self.address(peer);
        let wait = self.timing.stream_timeout;
        self.fetching |= self.dispatch(Errand::Fetch, to, Request::Fetch { keys }, wait).is_none();
    }
}

fn pong(answer: Result<Answer, String>) -> Result<Peer, String> {
    match answer? {
        Answer::Pong { peer } => Ok(peer),
        _ => Err("the answer is to another question".into()),
    }
}
