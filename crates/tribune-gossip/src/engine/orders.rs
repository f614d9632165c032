//! What the handle's owner wants: to join, to say something, to leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::seq::IteratorRandom;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info};
use tribune_core::Folded;

use super::Engine;
use super::errand::Errand;
use crate::alarm::Alarm;
use crate::event::{EVENT_BYTES_MAX, EventError, UserEvent};
use crate::member::{Facts, Peer};
use crate::pool::Order;
use crate::wire::{News, Purpose, Request, encode};

/// News of leaving is given this many rounds to spread before the good-bye itself.
const LEAVING_ROUNDS: u32 = 5;

/// Rounds of the good-bye.
const FAREWELLS: u32 = 3;

/// Members that are told directly.
const TOLD_DIRECTLY: usize = 3;

impl Engine {
    pub(super) fn order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Contact { address, reply } if self.departure.begun => {
                let _ = reply.send(Err(format!("{address}: this agent is leaving")));
            }
            Order::Contact { address, reply } => self.contact(address, Purpose::Join, Some(reply), now),
            Order::Asked { request, old_key, reply } => self.asked(request, old_key, reply, now),
            Order::Leave { reply } => self.leave(reply, now),
            Order::Dismiss { name, prune, reply } => {
                let _ = reply.send(self.dismiss(&name, prune));
            }
            Order::Tags(tags) => self.set_tags(tags),
            Order::Fire { event, reply } => {
                let _ = reply.send(self.fire(event));
            }
        }
    }

    fn set_tags(&mut self, tags: BTreeMap<String, String>) {
        let facts = Facts::clone(self.bulletin.lock().own());
        if *facts.tags != tags {
            self.state_own(Facts { tags: Arc::new(tags), version: facts.version + 1, ..facts });
        }
    }

    fn fire(&mut self, mut event: UserEvent) -> Result<UserEvent, EventError> {
        event.lamport_time = self.bulletin.lock().log().next_time();
        let news = encode(&News::Event(event.clone()));
        if news.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge { bytes: news.len() });
        }
        self.bulletin.lock().take_event(event.clone());
        self.spread(&news);
        Ok(event)
    }

    /// A failed member will not come back. Says whether there is one of that name.
    fn dismiss(&mut self, name: &str, prune: bool) -> bool {
        let name = Folded::new(name);
        let bulletin = self.bulletin.lock();
        let named =
            |peer: Peer| bulletin.facts(peer.key).is_some_and(|facts| Folded::new(&facts.name) == name);
        let found: Vec<(Peer, bool)> = self
            .roster
            .iter()
            .map(|entry| (entry.peer, entry.active))
            .filter(|(peer, _)| named(*peer))
            .collect();
        drop(bulletin);
        for (peer, active) in &found {
            if *active {
                info!(member = %name, address = %peer.address, "it is alive and stays a member; stop it, or let it leave");
            } else if self.bulletin.lock().take_dismissal(*peer, prune) {
                self.spread(&encode(&News::Dismissed { peer: *peer, prune }));
            }
        }
        !found.is_empty()
    }

    /// Somebody said that a member will not come back.
    pub(super) fn dismissed(&mut self, peer: Peer, prune: bool, now: Instant) {
        let Some(entry) = self.roster.get(peer.key) else { return };
        if entry.active || entry.peer.generation > peer.generation {
            return;
        }
        info!(member = %self.name(peer.key), address = %peer.address, prune, "member was forced to leave");
        if self.roster.dismiss(peer.key, peer.generation, now) {
            metrics::counter!("serf.member.left", "network" => self.shared.network).increment(1);
        }
        self.damping.failures.settled(peer.key, self.roster.active());
        if prune {
            // The protocol goes on remembering this life for a while, so that no old news revives it.
            self.roster.remove(peer.key);
        }
        self.dirty = true;
    }

    fn leave(&mut self, reply: oneshot::Sender<()>, now: Instant) {
        self.departure.waiting.push(reply);
        if self.departure.begun {
            return self.answer_leavers();
        }
        self.departure.begun = true;
        let facts = Facts::clone(self.bulletin.lock().own());
        self.state_own(Facts { leaving: true, version: facts.version + 1, ..facts });
        if self.roster.active() <= 1 {
            return self.farewell(0, now);
        }
        self.tell_leaving();
        self.alarms.set(now + self.timing.gossip_interval * LEAVING_ROUNDS, Alarm::Farewell(FAREWELLS));
    }

    fn tell_leaving(&mut self) {
        let own = Facts::clone(self.bulletin.lock().own());
        let told: Vec<Peer> =
            self.foca.iter_members().map(|member| *member.id()).sample(&mut self.rng, TOLD_DIRECTLY);
        for peer in told {
            let request = Request::Tell { facts: vec![own.clone()], events: Vec::new() };
            let to = self.address(peer);
            self.dispatch(Errand::Tell, to, request, self.timing.stream_timeout);
        }
    }

    /// Says good-bye, a few times because packets get lost; after the last time the member has left.
    pub(super) fn farewell(&mut self, remaining: u32, now: Instant) {
        let said = if self.departure.done {
            self.foca.gossip(&mut self.runtime)
        } else {
            self.departure.done = true;
            self.foca.leave_cluster(&mut self.runtime)
        };
        if let Err(error) = said {
            debug!(%error, "good-bye not said");
        }
        self.drain(now);
        if remaining > 0 {
            self.alarms.set(now + self.timing.gossip_interval, Alarm::Farewell(remaining - 1));
            return;
        }
        self.roster.down(self.own(), now);
        self.dirty = true;
        info!("left the pool");
        self.answer_leavers();
    }

    fn answer_leavers(&mut self) {
        let gone = self.roster.get(self.own().key).is_none_or(|entry| !entry.active);
        if gone {
            for reply in self.departure.waiting.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}
