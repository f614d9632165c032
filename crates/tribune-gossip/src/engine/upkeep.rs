//! What is looked after from time to time: limits of time, sizes, the state file, the gauges.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use foca::{State, Timer};
use rand::RngExt;
use rand::seq::IteratorRandom;
use tokio::time::{Duration, Instant};
use tracing::{info, warn};

use super::{Engine, NEWS_MAX, protocol_config};
use crate::alarm::Alarm;
use crate::damping::Brake;
use crate::member::Peer;
use crate::state_file::{SavedMember, SavedState, StateFile};
use crate::wire::Purpose;

/// Addresses kept to try again when nobody is left.
const SEEDS_MAX: usize = 64;

/// Members kept in the state file.
const SAVED_MAX: usize = 256;

/// Ticks between two looks at the slower limits.
const TICKS_PER_LOOK: u64 = 8;

/// Time between two looks for ghosts; one seen twice is forgotten.
const GHOST_AGE: Duration = Duration::from_secs(60);

/// Seeds tried at the start.
const SEEDS_AT_START: usize = 3;

impl Engine {
    /// Sets what happens by itself, each at a time of its own.
    pub(super) fn wind_up(&mut self, now: Instant) {
        let mut within = |time: Duration| now + time.mul_f64(self.rng.random_range(0.1..1.0));
        let sync = within(self.timing.sync_interval);
        let reconnect = within(self.timing.reconnect_interval);
        self.alarms.set(sync, Alarm::Sync);
        self.alarms.set(reconnect, Alarm::Reconnect);
        self.alarms.set(now + self.tick_pause(), Alarm::Tick);
        let seeds: Vec<SocketAddr> = self.seeds.iter().copied().sample(&mut self.rng, SEEDS_AT_START);
        if !seeds.is_empty() {
            info!(addresses = self.seeds.len(), "looking for members of before");
        }
        for seed in seeds {
            self.contact(seed, Purpose::Join, None, now);
        }
    }

    fn tick_pause(&self) -> Duration {
        self.timing.gossip_interval * 2
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        self.damping.failures.tick(now);
        self.note_brake();
        self.fetch_missing();
        self.bulletin.lock().set_room(NEWS_MAX.saturating_sub(self.foca.custom_broadcast_backlog()));
        if self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.look(now);
        } else if self.state.as_ref().is_some_and(StateFile::knows_nobody) {
            // One that is killed seconds after its first members came must find them again.
            self.write_state();
        }
        self.alarms.set(now + self.tick_pause(), Alarm::Tick);
    }

    fn look(&mut self, now: Instant) {
        self.resize();
        self.reap(now);
        self.lay_ghosts(now);
        self.gauges();
        self.show();
        self.write_state();
    }

    /// Says when many members failed at once, and when that is over.
    fn note_brake(&mut self) {
        let brake = self.damping.failures.brake();
        let before = **self.shared.brake.load();
        if brake == before {
            return;
        }
        match (before, brake) {
            (Brake::Off, Brake::On { failed, .. }) => {
                let active = self.roster.active();
                warn!(
                    failed,
                    active,
                    "many members failed at once: more likely the network than all of them; the catalog keeps its last good answers"
                );
                metrics::counter!("tribune.gossip.brake", "network" => self.shared.network).increment(1);
            }
            (Brake::On { .. }, Brake::Off) => {
                info!("the mass failure is over or has lasted: the catalog follows the members again")
            }
            _ => {}
        }
        self.dirty = true;
    }

    /// Fits the protocol to the number of members.
    pub(super) fn resize(&mut self) {
        if let Err(error) = self.foca.set_config(protocol_config(&self.timing, self.roster.active())) {
            warn!(%error, "the protocol does not take its settings");
        }
    }

    /// Forgets who is away for too long, or whose name somebody living has taken.
    fn reap(&mut self, now: Instant) {
        let bulletin = self.bulletin.lock();
        let overdue = self.roster.overdue(now, &bulletin, self.reconnect_timeout, self.left_timeout);
        let succeeded = self.roster.succeeded(&bulletin);
        drop(bulletin);
        for peer in overdue.into_iter().chain(succeeded) {
            // This node itself, once it has left.
            if peer.key != self.own().key {
                info!(member = %self.name(peer.key), address = %peer.address, "member is forgotten");
                self.forget(peer);
            }
        }
    }

    /// Nothing is known of this member any more.
    pub(super) fn forget(&mut self, peer: Peer) {
        self.roster.remove(peer.key);
        self.bulletin.lock().forget(peer.key);
        self.damping.failures.settled(peer.key, self.roster.active());
        self.damping.suspects.remove(&peer.key);
        let _ = self.foca.handle_timer(Timer::RemoveDown(peer), &mut self.runtime);
        self.dirty = true;
    }

    /// The protocol remembers the dead for ever; those whom nobody else remembers are taken from it.
    fn lay_ghosts(&mut self, now: Instant) {
        if now.duration_since(self.ghosts_seen) < GHOST_AGE {
            return;
        }
        self.ghosts_seen = now;
        let own = self.own().key;
        let dead = self.foca.iter_membership_state().filter(|member| member.state() == State::Down);
        let dead = dead.map(|member| *member.id());
        let ghosts: BTreeSet<Peer> =
            dead.filter(|peer| peer.key == own || self.roster.get(peer.key).is_none()).collect();
        for peer in ghosts.intersection(&self.ghosts) {
            let _ = self.foca.handle_timer(Timer::RemoveDown(*peer), &mut self.runtime);
        }
        self.ghosts = ghosts;
        let known: BTreeSet<_> = self.foca.iter_membership_state().map(|member| member.id().key).collect();
        self.bulletin.lock().retain(|key| known.contains(&key) || self.roster.get(key).is_some());
    }

    fn gauges(&self) {
        let network = self.shared.network;
        metrics::gauge!("memberlist.health.score", "network" => network)
            .set(f64::from(self.damping.health.score()));
        metrics::gauge!("memberlist.nodes", "network" => network).set(self.roster.active() as f64);
        metrics::gauge!("serf.queue.Event", "network" => network)
            .set(self.foca.custom_broadcast_backlog() as f64);
        metrics::gauge!("serf.queue.Intent", "network" => network).set(self.foca.updates_backlog() as f64);
    }

    /// Keeps an address at which somebody answered.
    pub(super) fn remember_seed(&mut self, address: SocketAddr) {
        if self.seeds.len() < SEEDS_MAX {
            self.seeds.insert(address);
        }
    }

    /// Writes the state file in the background if it would change.
    pub(super) fn write_state(&mut self) {
        while self.writers.try_join_next().is_some() {}
        if !self.writers.is_empty() {
            return;
        }
        let saved = self.saved_state();
        let draft = self.state.as_mut().and_then(|file| file.draft(saved));
        if let Some(draft) = draft {
            self.writers.spawn_blocking(move || draft.write());
        }
    }

    /// Writes the state file a last time.
    pub(super) async fn save_state(&mut self) {
        while self.writers.join_next().await.is_some() {}
        self.write_state();
        while self.writers.join_next().await.is_some() {}
    }

    fn saved_state(&self) -> SavedState {
        let bulletin = self.bulletin.lock();
        let own = self.own().key;
        let left = self.departure.begun;
        let others = self.roster.iter().filter(|entry| entry.active && entry.peer.key != own);
        let members = others.filter_map(|entry| {
            let facts = bulletin.facts(entry.peer.key)?;
            Some(SavedMember { name: facts.name.clone(), address: entry.peer.address })
        });
        SavedState { clock: bulletin.log().clock(), left, members: members.take(SAVED_MAX).collect() }
    }
}
