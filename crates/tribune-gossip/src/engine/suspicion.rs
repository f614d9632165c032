//! From a probe that was not answered to a member that is given up.
//!
//! ```text
//!  probe failed ──▶ suspected ──▶ asked over a stream ──answers──▶ alive again, with a higher incarnation
//!                       │
//!                       └─ time to object is over ──▶ asked once more ──silent──▶ failed
//! ```
//!
//! The stream carries the suspected incarnation: the member objects to it and says so, and only then is the
//! higher incarnation spread from here. Who hears nobody at all waits with its judgement.

use foca::{Member, State};
use tokio::time::Instant;
use tracing::{debug, info};

use super::Engine;
use super::errand::Errand;
use crate::alarm::Alarm;
use crate::member::Peer;
use crate::wire::Request;

/// A node that hears nobody waits this many times longer before it believes that all others are gone.
const DEAF_PATIENCE: u32 = 2;

/// A member under suspicion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub(super) peer: Peer,
    pub(super) incarnation: u16,
    pub(super) since: Instant,
}

impl Engine {
    /// This node suspects a member: asks it over a stream at once and sets it a time.
    pub(super) fn suspect(&mut self, peer: Peer, incarnation: u16, now: Instant) {
        let known = self.damping.suspects.get(&peer.key);
        if known.is_some_and(|it| (it.peer, it.incarnation) == (peer, incarnation)) {
            return;
        }
        metrics::counter!("memberlist.msg.suspect", "network" => self.shared.network).increment(1);
        info!(member = %self.name(peer.key), address = %peer.address, "member suspected: no answer to a probe");
        self.damping.suspects.insert(peer.key, Suspect { peer, incarnation, since: now });
        let patience = self.damping.health.patience(self.timing.suspicion(self.roster.active()));
        // The last question is asked so early that its time is over with the member's; but a process that is being
        // restarted, which refuses connections, has at least half of it.
        let question = patience.saturating_sub(self.timing.stream_timeout).max(patience / 2);
        self.alarms.set(now + question, Alarm::Condemn { peer, incarnation });
        self.verify(peer, incarnation, false);
    }

    /// The time of a suspected member is over: asks once more, unless it objected.
    pub(super) fn condemn(&mut self, peer: Peer, incarnation: u16, now: Instant) {
        let Some(suspect) = self.damping.suspects.get(&peer.key).copied() else { return };
        if (suspect.peer, suspect.incarnation) != (peer, incarnation) {
            return;
        }
        if !self.is_suspect(peer, incarnation) {
            self.damping.suspects.remove(&peer.key);
            return;
        }
        if self.waits_for_hearing(suspect, now) {
            self.alarms.set(now + self.timing.probe_interval, Alarm::Condemn { peer, incarnation });
            return;
        }
        if !self.verify(peer, incarnation, true) {
            self.alarms.set(now + self.timing.gossip_interval, Alarm::Condemn { peer, incarnation });
        }
    }

    /// Whether the silence is more likely to be here, and for how long that is believed.
    fn waits_for_hearing(&self, suspect: Suspect, now: Instant) -> bool {
        let patience = self.timing.suspicion(self.roster.active()) * (1 + DEAF_PATIENCE);
        self.is_deaf(now) && now.duration_since(suspect.since) < patience
    }

    /// Whether nothing at all is heard here.
    pub(super) fn is_deaf(&self, now: Instant) -> bool {
        let others = self.roster.active().saturating_sub(1);
        self.damping.hearing.is_deaf(now, others, self.timing.probe_interval)
    }

    /// Asks a suspected member whether it lives. Says whether the question was sent.
    fn verify(&mut self, peer: Peer, incarnation: u16, last: bool) -> bool {
        let request = Request::Ping { target: peer.key, suspected: Some(incarnation) };
        let errand = Errand::Verify { peer, incarnation, last };
        let to = self.address(peer);
        self.dispatch(errand, to, request, self.timing.stream_timeout).is_none()
    }

    /// The suspected member answered, or did not.
    pub(super) fn verified(&mut self, suspect: (Peer, u16, bool), alive: Result<Peer, String>, now: Instant) {
        let (peer, incarnation, last) = suspect;
        match alive {
            Ok(answered) if answered.key == peer.key => {
                self.damping.hearing.heard(now);
                self.damping.suspects.remove(&peer.key);
                // It has raised its incarnation above the suspected one before it answered.
                let state = Member::new(answered, incarnation.saturating_add(1), State::Alive);
                self.apply([state], true, now);
            }
            Ok(_) | Err(_) if last && self.is_suspect(peer, incarnation) => {
                debug!(address = %peer.address, "no answer over a stream either");
                self.apply([Member::new(peer, incarnation, State::Down)], true, now);
                // It is told, should it still hear: it then returns with a new generation.
                let _ = self.foca.announce(peer, &mut self.runtime);
                self.drain(now);
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn is_suspect(&self, peer: Peer, incarnation: u16) -> bool {
        self.foca.iter_membership_state().any(|member| {
            *member.id() == peer && member.incarnation() == incarnation && member.state() == State::Suspect
        })
    }

    /// Hands changes to the protocol.
    pub(super) fn apply(
        &mut self,
        members: impl IntoIterator<Item = Member<Peer>>,
        spread: bool,
        now: Instant,
    ) {
        if let Err(error) = self.foca.apply_many(members.into_iter(), spread, &mut self.runtime) {
            debug!(%error, "changes not applied");
        }
        self.drain(now);
    }
}
