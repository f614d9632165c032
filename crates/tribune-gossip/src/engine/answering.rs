//! What others ask this node, and who may join.
//!
//! A newcomer that wants the name or the id of a member is refused if that member still lives: it is asked. A
//! holder that is gone, or whose address the newcomer now has, makes room.

use foca::{Member, State};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};
use tribune_core::Folded;

use super::Engine;
use super::errand::Errand;
use crate::member::{Facts, Key, Peer};
use crate::wire::{Answer, Purpose, Request, SyncAnswer, SyncRequest};

/// Members whose facts are given or asked for at once; more are asked for again. However large their tags are, they
/// fit a request together with all events.
const FACTS_AT_ONCE: usize = 256;

/// A request for a full exchange that waits for its answer.
pub(super) struct Held {
    pub(super) request: Box<SyncRequest>,
    /// It was written with a key that is no longer the primary one.
    pub(super) old_key: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What is thought of somebody who wants an exchange.
enum Judgement {
    Welcome,
    Refuse(String),
    /// First this member is asked whether it lives.
    Ask(Peer),
}

impl Engine {
    /// Answers a question of somebody else.
    pub(super) fn asked(
        &mut self,
        request: Request,
        old_key: bool,
        reply: oneshot::Sender<Answer>,
        now: Instant,
    ) {
        if self.departure.done {
            let _ = reply.send(Answer::Refused("this agent has left the pool".into()));
            return;
        }
        self.damping.hearing.heard(now);
        let answer = match request {
            Request::Sync(request) => return self.asked_sync(Held { request, old_key, reply }, now),
            Request::Ping { target, suspected } => self.asked_ping(target, suspected, now),
            Request::Fetch { keys } => {
                let bulletin = self.bulletin.lock();
                let known = keys.iter().take(FACTS_AT_ONCE).filter_map(|key| bulletin.facts(*key));
                Answer::Facts { facts: known.map(|facts| Facts::clone(facts)).collect() }
            }
            Request::Tell { facts, events } => {
                let mut bulletin = self.bulletin.lock();
                for facts in facts {
                    bulletin.take_facts(facts);
                }
                for event in events {
                    bulletin.take_event(event);
                }
                Answer::Noted
            }
            // The handle answers these itself.
            Request::Challenge | Request::Keyring { .. } => {
                Answer::Refused("not a question for members".into())
            }
        };
        let _ = reply.send(answer);
    }

    fn asked_ping(&mut self, target: Key, suspected: Option<u16>, now: Instant) -> Answer {
        if target != self.own().key {
            return Answer::Refused("another agent listens here".into());
        }
        if let Some(incarnation) = suspected {
            // Taken as if it had come in a packet: this node objects, to everybody.
            self.apply([Member::new(self.own(), incarnation, State::Suspect)], true, now);
        }
        Answer::Pong { peer: self.own() }
    }

    fn asked_sync(&mut self, held: Held, now: Instant) {
        match self.judge(&held.request) {
            Judgement::Welcome => self.welcome(held, now),
            Judgement::Refuse(reason) => self.turn_away(held, reason, now),
            Judgement::Ask(holder) => {
                let request = Request::Ping { target: holder.key, suspected: None };
                let to = self.address(holder);
                let errand = Errand::Judge { holder, held: Box::new(held) };
                if let Some(Errand::Judge { held, .. }) =
                    self.dispatch(errand, to, request, self.timing.stream_timeout)
                {
                    self.turn_away(*held, "this agent is busy; try again".into(), now);
                }
            }
        }
    }

    /// The holder of a name or an id that somebody else wants lives, or not.
    pub(super) fn judged(&mut self, holder: Peer, lives: bool, held: Held, now: Instant) {
        if lives {
            let reason = self.conflict(holder, &held.request);
            self.turn_away(held, reason, now);
        } else {
            self.welcome(held, now);
        }
    }

    fn turn_away(&mut self, held: Held, reason: String, now: Instant) {
        if let Some(more) = self.refused.speak(now) {
            let (from, address) = (&held.request.facts.name, held.request.from.address);
            warn!(%from, %address, %reason, more, "refused an agent that wanted to join");
        }
        metrics::counter!("serf.member.refused", "network" => self.shared.network).increment(1);
        let _ = held.reply.send(Answer::Refused(reason));
    }

    fn judge(&self, request: &SyncRequest) -> Judgement {
        let SyncRequest { from, facts, .. } = request;
        if facts.key() != from.key || facts.check().is_err() {
            return Judgement::Refuse("the request contradicts itself".into());
        }
        let bulletin = self.bulletin.lock();
        if let Some(reason) = self.shared.other_datacenter(&bulletin.own().datacenter, &facts.datacenter) {
            return Judgement::Refuse(reason);
        }
        let own = self.own();
        if *from == own {
            return Judgement::Welcome;
        }
        if let Some(reason) = self.shared.namesake(&bulletin.own().datacenter, facts) {
            return Judgement::Refuse(reason);
        }
        let wants = |holder: &Facts| same(holder, facts);
        if wants(bulletin.own()) {
            return Judgement::Refuse(conflict_text(bulletin.own(), own, request));
        }
        let holders = self.roster.iter().filter(|entry| entry.active);
        let mut holders = holders.filter(|entry| bulletin.facts(entry.peer.key).is_some_and(|it| wants(it)));
        // Nobody else can live at the address that the newcomer calls from.
        match holders.find(|entry| entry.peer.address != from.address && entry.peer != *from) {
            Some(holder) => Judgement::Ask(holder.peer),
            None => Judgement::Welcome,
        }
    }

    fn conflict(&self, holder: Peer, request: &SyncRequest) -> String {
        let bulletin = self.bulletin.lock();
        match bulletin.facts(holder.key) {
            Some(facts) => conflict_text(facts, holder, request),
            None => "another living agent has this name or id".into(),
        }
    }

    /// Takes what somebody knows, and tells it what it does not know.
    fn welcome(&mut self, held: Held, now: Instant) {
        let Held { request, old_key, reply } = held;
        if request.from == self.own() {
            let answer = self.sync_answer(&request, old_key, now);
            let _ = reply.send(Answer::Sync(Box::new(answer)));
            return;
        }
        let joins = request.purpose == Purpose::Join;
        self.make_room(&request.facts, request.from, now);
        self.meet(request.from, request.facts.clone(), now);
        self.merge(&request.records, true, now);
        self.bulletin.lock().log_mut().witness(request.lamport);
        let answer = self.sync_answer(&request, old_key, now);
        if joins {
            info!(member = %request.facts.name, address = %request.from.address, "agent joined through this one");
        }
        let _ = reply.send(Answer::Sync(Box::new(answer)));
    }

    /// Whoever held the newcomer's name or id is gone.
    fn make_room(&mut self, facts: &Facts, newcomer: Peer, now: Instant) {
        let bulletin = self.bulletin.lock();
        let gone = self.roster.iter().filter(|entry| {
            entry.active
                && entry.peer.key != newcomer.key
                && entry.peer.key != self.own().key
                && bulletin.facts(entry.peer.key).is_some_and(|holder| same(holder, facts))
        });
        let gone: Vec<Peer> = gone.map(|entry| entry.peer).collect();
        drop(bulletin);
        for peer in gone {
            info!(member = %self.name(peer.key), old = %peer.address, new = %newcomer.address, "another agent takes the place of one that is gone");
            self.apply([Member::new(peer, 0, State::Down)], true, now);
            self.forget(peer);
        }
    }

    /// The answer to a request, after all that it said was taken.
    fn sync_answer(&self, request: &SyncRequest, old_key: bool, now: Instant) -> SyncAnswer {
        let theirs: std::collections::BTreeMap<Key, _> =
            request.records.iter().map(|it| (it.peer.key, it)).collect();
        let mut records = self.records(now);
        let own = self.own();
        let bulletin = self.bulletin.lock();
        let version_there = |key: Key| theirs.get(&key).map_or(0, |it| it.version);
        let told = records.iter().map(|record| record.peer.key).filter(|key| *key != request.from.key);
        let told: Vec<Facts> = told
            .filter(|key| bulletin.version(*key) > version_there(*key))
            .filter_map(|key| bulletin.facts(key).map(|facts| Facts::clone(facts)))
            .collect();
        let wanted =
            theirs.values().filter(|it| it.version > bulletin.version(it.peer.key) && it.peer.key != own.key);
        let wanted = wanted.map(|it| it.peer.key).take(FACTS_AT_ONCE).collect();
        records.retain(|record| {
            if record.peer.key == request.from.key {
                return record.life.is_over() || record.peer != request.from;
            }
            theirs.get(&record.peer.key).is_none_or(|it| {
                (it.peer, it.incarnation, it.life) != (record.peer, record.incarnation, record.life)
            })
        });
        let known = bulletin.log().keys();
        let events_wanted = request.events.iter().filter(|key| !known.contains(key)).copied();
        SyncAnswer {
            from: own,
            facts: Facts::clone(bulletin.own()),
            records,
            told,
            wanted,
            lamport: bulletin.log().clock(),
            events: bulletin.log().missing(&request.events),
            events_wanted: events_wanted.take(crate::event::EVENTS_MAX).collect(),
            keyring: self.keyring_for(old_key),
        }
    }

    fn keyring_for(&self, old_key: bool) -> Option<Vec<String>> {
        let keyring = self.shared.speaker.seal.keyring().filter(|_| old_key)?;
        Some(keyring.keys().map(str::to_owned).collect())
    }
}

/// Whether two members, which are not one, want one name or one id.
fn same(one: &Facts, two: &Facts) -> bool {
    Folded::new(&one.name) == Folded::new(&two.name) || one.id == two.id
}

/// Consul's two texts, with both addresses and what to do.
pub(super) fn conflict_text(holder: &Facts, at: Peer, request: &SyncRequest) -> String {
    let (name, id, there) = (&holder.name, &holder.id, at.address);
    let (other_name, other_id, here) = (&request.facts.name, &request.facts.id, request.from.address);
    if Folded::new(name) == Folded::new(other_name) {
        format!(
            "Node name conflicts: '{name}' is the living agent {id} at {there}; the agent {other_id} at {here} needs \
             another node_name, or the other has to leave first"
        )
    } else {
        format!(
            "Member '{name}' has conflicting node ID '{id}' with this agent's ID: it lives at {there}; give the agent \
             '{other_name}' at {here} an id of its own (-node-id, or remove the file node-id from its data_dir)"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tribune_core::Datacenter;

    use super::*;
    use crate::event::{EVENT_BYTES_MAX, EVENTS_MAX, UserEvent};
    use crate::lan::REQUEST_BYTES_MAX;
    use crate::wire::encode;

    #[test]
    fn the_largest_facts_that_are_asked_for_at_once_fit_a_request() {
        let tag = |number| (format!("{number:016}"), "v".repeat(4096 / 64 - 16));
        let tags: BTreeMap<String, String> = (0..64).map(tag).collect();
        let facts = Facts {
            name: "n".repeat(512),
            id: "i".repeat(512),
            datacenter: Datacenter::new("d".repeat(64)).unwrap(),
            tags: Arc::new(tags),
            leaving: false,
            version: u64::MAX,
        };
        facts.check().unwrap();
        let event = UserEvent::new("i".repeat(36), "deploy", vec![0; EVENT_BYTES_MAX]);
        let told = Request::Tell { facts: vec![facts; FACTS_AT_ONCE], events: vec![event; EVENTS_MAX] };
        assert!(encode(&told).len() + 1024 < REQUEST_BYTES_MAX);
    }
}
