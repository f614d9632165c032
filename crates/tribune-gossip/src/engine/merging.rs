//! The full exchange from the side that asks, and what both sides do with the other's state.

use std::collections::BTreeMap;

use foca::{Member, State};
use tokio::time::{Duration, Instant};
use tracing::{info, warn};

use super::Engine;
use super::errand::Errand;
use crate::member::{Facts, Key, Peer, Status};
use crate::pool::Contacted;
use crate::wire::{Answer, Life, MEMBERS_MAX, Purpose, Record, Request, SyncAnswer, SyncRequest};

impl Engine {
    /// All members known, this node left out.
    pub(super) fn records(&self, now: Instant) -> Vec<Record> {
        let bulletin = self.bulletin.lock();
        let own = self.own().key;
        let others = self.foca.iter_membership_state().filter(|member| member.id().key != own);
        let record = |member: &Member<Peer>| {
            let peer = *member.id();
            let entry = self.roster.get(peer.key);
            let (life, seconds) = match member.state() {
                State::Alive => (Life::Alive, 0),
                State::Suspect => (Life::Suspect, 0),
                State::Down => {
                    let leaving = bulletin.facts(peer.key).is_some_and(|facts| facts.leaving);
                    let entry = entry.filter(|entry| !entry.active)?;
                    let left = entry.status(leaving) == Status::Left;
                    // Rounded up, so that nobody grows younger from one list to the next and stays for ever.
                    let seconds = now.duration_since(entry.since).as_secs() + 1;
                    (if left { Life::Left } else { Life::Failed }, u32::try_from(seconds).unwrap_or(u32::MAX))
                }
            };
            let version = bulletin.version(peer.key);
            Some(Record { peer, incarnation: member.incarnation(), life, version, seconds })
        };
        others.filter_map(record).take(MEMBERS_MAX).collect()
    }

    pub(super) fn sync_request(&self, purpose: Purpose, now: Instant) -> SyncRequest {
        let records = self.records(now);
        let bulletin = self.bulletin.lock();
        SyncRequest {
            purpose,
            from: self.own(),
            facts: Facts::clone(bulletin.own()),
            records,
            lamport: bulletin.log().clock(),
            events: bulletin.log().keys(),
        }
    }

    /// The other side answered a full exchange.
    pub(super) fn synced(
        &mut self,
        answer: Result<Answer, String>,
        now: Instant,
    ) -> Result<Contacted, String> {
        let Answer::Sync(answer) = answer? else { return Err("the answer is to another question".into()) };
        if self.departure.begun {
            return Err("this agent is leaving".into());
        }
        if answer.from == self.own() {
            return Ok(Contacted::Own);
        }
        self.check(&answer)?;
        let SyncAnswer { from, facts, records, told, wanted, lamport, events, events_wanted, keyring } =
            *answer;
        // Whoever knew nobody has nobody to tell; the others have told each other already.
        let spread = self.roster.active() > 1;
        self.damping.hearing.heard(now);
        if let Some(keys) = keyring {
            let shared = self.shared.clone();
            self.writers.spawn(async move { shared.adopt_keyring(&keys).await });
        }
        self.meet(from, facts, now);
        let mut bulletin = self.bulletin.lock();
        for facts in told {
            bulletin.take_facts(facts);
        }
        bulletin.log_mut().witness(lamport);
        for event in events {
            bulletin.take_event(event);
        }
        drop(bulletin);
        self.merge(&records, spread, now);
        self.tell(from, &wanted, &events_wanted);
        Ok(Contacted::Joined)
    }

    /// Whether the other side is one with which this node may be in a pool.
    fn check(&self, answer: &SyncAnswer) -> Result<(), String> {
        let bulletin = self.bulletin.lock();
        let own = bulletin.own();
        if answer.facts.key() != answer.from.key || answer.facts.check().is_err() {
            return Err("the answer contradicts itself".into());
        }
        let elsewhere = self.shared.other_datacenter(&own.datacenter, &answer.facts.datacenter);
        match elsewhere.or_else(|| self.shared.namesake(&own.datacenter, &answer.facts)) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Sends the other side what it lacks.
    fn tell(&mut self, to: Peer, wanted: &[Key], events_wanted: &[u64]) {
        let bulletin = self.bulletin.lock();
        let facts: Vec<Facts> =
            wanted.iter().filter_map(|key| bulletin.facts(*key)).map(|it| Facts::clone(it)).collect();
        let events = bulletin.log().chosen(events_wanted);
        drop(bulletin);
        if facts.is_empty() && events.is_empty() {
            return;
        }
        let to = self.address(to);
        self.dispatch(Errand::Tell, to, Request::Tell { facts, events }, self.sync_patience());
    }

    /// Somebody spoke to this node directly: it lives, and what it says of itself is news for the others.
    pub(super) fn meet(&mut self, peer: Peer, facts: Facts, now: Instant) {
        if self.bulletin.lock().take_facts(facts.clone()) {
            self.spread_facts(&facts);
        }
        self.apply([Member::alive(peer)], true, now);
    }

    /// Takes what the other side knows of members.
    pub(super) fn merge(&mut self, records: &[Record], spread: bool, now: Instant) {
        let known: BTreeMap<Key, (Peer, u16, State)> = self
            .foca
            .iter_membership_state()
            .map(|member| (member.id().key, (*member.id(), member.incarnation(), member.state())))
            .collect();
        let mut changes = Vec::new();
        let mut contested = Vec::new();
        let mut left = Vec::new();
        let mut unknown = 0;
        for record in records.iter().take(MEMBERS_MAX) {
            let peer = record.peer;
            if peer.key == self.own().key {
                self.hear_of_self(*record, now);
                continue;
            }
            let here = known.get(&peer.key).copied();
            match (record.life, here) {
                (Life::Alive | Life::Suspect, None) if self.roster.len() + changes.len() >= MEMBERS_MAX => {}
                (Life::Alive, None) => {
                    unknown += 1;
                    changes.push(Member::new(peer, record.incarnation, State::Alive));
                }
                (Life::Alive, _) => changes.push(Member::new(peer, record.incarnation, State::Alive)),
                (Life::Suspect, _) => changes.push(Member::new(peer, record.incarnation, State::Suspect)),
                // One side has given it up and the other has not: it is asked before anybody is believed.
                (Life::Failed, Some((same, incarnation, State::Alive | State::Suspect))) if same == peer => {
                    let incarnation = incarnation.max(record.incarnation);
                    changes.push(Member::new(peer, incarnation, State::Suspect));
                    contested.push((peer, incarnation));
                }
                (Life::Failed | Life::Left, Some(_)) => {
                    changes.push(Member::new(peer, record.incarnation, State::Down));
                    left.extend((record.life == Life::Left).then_some(peer));
                }
                (Life::Failed | Life::Left, None) => {
                    changes.extend(self.bury(*record, now));
                }
            }
        }
        self.apply(changes, spread, now);
        for (peer, incarnation) in contested {
            self.suspect(peer, incarnation, now);
        }
        for peer in left {
            // Who said good-bye itself counts as left since then and not since it is heard again.
            if self.status(peer.key) == Some(Status::Failed) {
                self.dirty |= self.roster.dismiss(peer.key, peer.generation, now);
            }
        }
        if unknown > 0 {
            self.plan_catch_up(now);
        }
    }

    fn status(&self, key: Key) -> Option<Status> {
        let leaving = self.bulletin.lock().facts(key).is_some_and(|facts| facts.leaving);
        self.roster.get(key).map(|entry| entry.status(leaving))
    }

    /// A member was gone before this node heard of it: it is remembered for as long as by the others.
    fn bury(&mut self, record: Record, now: Instant) -> Option<Member<Peer>> {
        let away = Duration::from_secs(u64::from(record.seconds));
        let left = record.life == Life::Left;
        let bound = if left { self.left_timeout } else { self.reconnect_timeout };
        let pruned = self.bulletin.lock().is_pruned(record.peer);
        if away >= bound || pruned || self.roster.len() >= MEMBERS_MAX {
            return None;
        }
        self.roster.bury(record.peer, left, now.checked_sub(away).unwrap_or(now));
        self.dirty = true;
        Some(Member::new(record.peer, record.incarnation, State::Down))
    }

    /// The other side knows something about this node.
    fn hear_of_self(&mut self, record: Record, now: Instant) {
        let own = self.own();
        if record.peer.generation > own.generation {
            // An earlier life of this node had a clock that was ahead, or a longer series of returns.
            let renewed = Peer { generation: record.peer.generation.saturating_add(1), ..own };
            info!(
                generation = renewed.generation,
                "the others remember a later life of this agent; it goes on from there"
            );
            if let Err(error) = self.foca.change_identity(renewed, &mut self.runtime) {
                warn!(%error, "this agent cannot take a new generation");
            }
            self.roster.renamed(renewed);
            self.dirty = true;
            self.drain(now);
        } else if record.peer == own {
            let state = match record.life {
                Life::Alive => return,
                Life::Suspect => State::Suspect,
                Life::Failed | Life::Left => State::Down,
            };
            self.apply([Member::new(own, record.incarnation, state)], true, now);
        }
    }
}
