//! The one loop around the protocol. It owns everything that changes; whoever wants something sends an order, and
//! what others may see is published.
//!
//! ```text
//!  orders ──┐                                   ┌──▶ courier ──▶ carrier (packets)
//!  packets ─┼──▶ loop: foca, roster, bulletin ──┼──▶ errands ──▶ carrier (exchanges) ──┐
//!  alarms ──┤                                   └──▶ members, events, brake (watched)  │
//!  errands ─┴──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The protocol asks for timers; those that judge a member are not handed back to it but decided in
//! `engine/suspicion.rs`, after a last question over a stream.

mod answering;
mod errand;
mod merging;
mod orders;
mod suspicion;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Codec, Foca, Header, Message, OwnedNotification, PeriodicParams, PostcardCodec,
    Timer,
};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::alarm::{Alarm, Alarms};
use crate::bulletin::{Arrival, Bulletin, FACTS_BYTES_IN_PACKET, Reader};
use crate::carrier::Address;
use crate::config::{Config, Timing};
use crate::damping::{Failures, Health, Hearing};
use crate::member::{Facts, Key, Peer};
use crate::pool::{Order, Shared};
use crate::quiet::Quiet;
use crate::roster::{Conflict, Roster};
use crate::state_file::StateFile;
use crate::wire::{News, encode};
use errand::Finished;

/// Largest packet of the protocol; closed, it fits [`PACKET_BYTES_MAX`](crate::PACKET_BYTES_MAX).
const BODY_BYTES_MAX: usize = 1180;

/// Packets taken in one go before alarms are looked at again.
const PACKETS_AT_ONCE: usize = 64;

/// Changes are collected for so long before they are shown, so that a wave of joins is a few lists and not one
/// list per member.
const PUBLISH_PAUSE: Duration = Duration::from_millis(10);

/// Most pieces of news that wait to be passed on.
const NEWS_MAX: usize = 4096;

type Protocol = Foca<Peer, PostcardCodec, StdRng, Reader>;

/// What the loop hears from outside.
pub(crate) struct Inlets {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) packets: mpsc::Receiver<Vec<u8>>,
    /// To the courier.
    pub(crate) outgoing: mpsc::Sender<(Address, Bytes)>,
}

/// What keeps this node from misjudging the others.
struct Damping {
    health: Health,
    hearing: Hearing,
    failures: Failures<Key>,
    suspects: BTreeMap<Key, suspicion::Suspect>,
    /// The probe under way failed.
    probe_failed: bool,
    /// The probe under way, to measure the round trip.
    probing: Option<(Peer, u8, Instant)>,
    /// The incarnation that this node last wrote into a packet.
    incarnation: u16,
}

/// How far this node is on its way out.
struct Departure {
    waiting: Vec<oneshot::Sender<()>>,
    begun: bool,
    done: bool,
}

/// The loop and all it owns.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    timing: Timing,
    reconnect_timeout: Duration,
    left_timeout: Duration,
    inlets: Inlets,
    foca: Protocol,
    runtime: AccumulatingRuntime<Peer>,
    bulletin: Arc<Mutex<Bulletin>>,
    roster: Roster,
    alarms: Alarms,
    damping: Damping,
    departure: Departure,
    errands: JoinSet<Finished>,
    rng: StdRng,
    /// Addresses to try when nobody is left: from the state file and from joins.
    seeds: BTreeSet<SocketAddr>,
    state: Option<StateFile>,
    /// Those of the dead that the protocol remembers and nobody else; forgotten when seen twice.
    ghosts: BTreeSet<Peer>,
    ghosts_seen: Instant,
    /// Writes of the state file and the keyring file.
    writers: JoinSet<()>,
    fetching: bool,
    /// Another full exchange follows soon, because the last one brought members that were not known.
    catching_up: bool,
    fetches: u64,
    /// Something changed that is not shown yet.
    dirty: bool,
    published: Instant,
    ticks: u64,
    clone_seen: Quiet,
    conflict_seen: Quiet,
    refused: Quiet,
}

impl Engine {
    pub(crate) fn new(
        config: &Config,
        shared: Arc<Shared>,
        inlets: Inlets,
        state: Option<StateFile>,
    ) -> Self {
        let now = Instant::now();
        let facts = own_facts(config);
        let own = Peer { key: facts.key(), address: config.address, generation: config.generation };
        let clock = state.as_ref().map_or(0, StateFile::clock);
        let bulletin = Arc::new(Mutex::new(Bulletin::new(facts, clock)));
        let mut rng = StdRng::seed_from_u64(config.seed);
        let protocol_rng = StdRng::from_rng(&mut rng);
        let timing = config.timing.clone();
        let reader = Reader(bulletin.clone());
        let foca = Foca::with_custom_broadcast(
            own,
            protocol_config(&timing, 1),
            protocol_rng,
            PostcardCodec,
            reader,
        );
        let mut roster = Roster::default();
        roster.up(own, now);
        Self {
            shared,
            reconnect_timeout: config.reconnect_timeout,
            left_timeout: config.left_timeout,
            inlets,
            foca,
            runtime: AccumulatingRuntime::new(),
            bulletin,
            roster,
            alarms: Alarms::default(),
            damping: Damping::new(now, &timing),
            departure: Departure { waiting: Vec::new(), begun: false, done: false },
            errands: JoinSet::new(),
            rng,
            seeds: state.as_ref().map(|it| it.seeds().collect()).unwrap_or_default(),
            state,
            ghosts: BTreeSet::new(),
            ghosts_seen: now,
            writers: JoinSet::new(),
            fetching: false,
            catching_up: false,
            fetches: 0,
            dirty: true,
            published: now,
            ticks: 0,
            clone_seen: Quiet::default(),
            conflict_seen: Quiet::default(),
            refused: Quiet::default(),
            timing,
        }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self) {
        self.wind_up(Instant::now());
        self.publish(Instant::now());
        let stop = self.shared.stop.clone();
        loop {
            let wake_up = self.wake_up();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(wake_up) => self.ring(Instant::now()),
                Some(order) = self.inlets.orders.recv() => self.order(order, Instant::now()),
                Some(done) = self.errands.join_next(), if !self.errands.is_empty() => {
                    match done {
                        Ok(finished) => self.finished(finished, Instant::now()),
                        Err(error) => warn!(%error, "an exchange ended abnormally"),
                    }
                }
                Some(packet) = self.inlets.packets.recv() => self.packets(packet, Instant::now()),
            }
            self.settle(Instant::now());
        }
        self.errands.shutdown().await;
        self.save_state().await;
    }

    /// When there is something to do even if nothing arrives.
    fn wake_up(&self) -> Instant {
        let alarm = self.alarms.next().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        if self.dirty { alarm.min(self.published + PUBLISH_PAUSE) } else { alarm }
    }

    /// Who this node is at present.
    fn own(&self) -> Peer {
        *self.foca.identity()
    }

    /// Takes a packet, and those that wait behind it.
    fn packets(&mut self, first: Vec<u8>, now: Instant) {
        self.packet(&first, now);
        for _ in 1..PACKETS_AT_ONCE {
            let Ok(packet) = self.inlets.packets.try_recv() else { break };
            self.packet(&packet, now);
        }
    }

    fn packet(&mut self, packet: &[u8], now: Instant) {
        // Who has left would come back to life by the news of its own death.
        if self.departure.done {
            return;
        }
        let Some(header) = header(packet) else {
            metrics::counter!("memberlist.msg.unreadable", "network" => self.shared.network).increment(1);
            return;
        };
        if header.src.key == self.own().key {
            if header.src.address != self.own().address
                && let Some(more) = self.clone_seen.speak(now)
            {
                let (here, there) = (self.own().address, header.src.address);
                warn!(%here, %there, more, "another agent runs with this agent's node name and node id");
            }
            return;
        }
        self.damping.hearing.heard(now);
        if let (Message::Ack(number), Some((peer, expected, sent))) = (&header.message, self.damping.probing)
            && (header.src, *number) == (peer, expected)
        {
            self.roster.measured(peer.key, now.duration_since(sent));
            self.damping.probing = None;
            metrics::histogram!("memberlist.probeNode", "network" => self.shared.network)
                .record(now.duration_since(sent).as_secs_f64() * 1000.0);
        }
        if let Err(error) = self.foca.handle_data(packet, &mut self.runtime) {
            debug!(%error, from = %header.src.address, "packet not taken");
        }
        self.drain(now);
    }

    /// Does everything that is due.
    fn ring(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.due(now) {
            match alarm {
                Alarm::Protocol(timer) => self.protocol_timer(timer, now),
                Alarm::Condemn { peer, incarnation } => self.condemn(peer, incarnation, now),
                Alarm::Sync => self.sync(now),
                Alarm::CatchUp => self.catch_up(now),
                Alarm::Reconnect => self.reconnect(now),
                Alarm::Tick => self.tick(now),
                Alarm::Farewell(remaining) => self.farewell(remaining, now),
            }
        }
    }

    fn protocol_timer(&mut self, timer: Timer<Peer>, now: Instant) {
        let probe_over = matches!(timer, Timer::ProbeRandomMember(_));
        self.damping.probe_failed = false;
        if let Err(error) = self.foca.handle_timer(timer, &mut self.runtime) {
            debug!(%error, "timer of the protocol");
        }
        self.drain(now);
        if probe_over && !self.damping.probe_failed {
            self.damping.health.probe_answered();
        }
    }

    /// Does what the protocol asked for.
    fn drain(&mut self, now: Instant) {
        while self.runtime.backlog() > 0 {
            while let Some((to, packet)) = self.runtime.to_send() {
                self.send(to, &packet, now);
            }
            while let Some((after, timer)) = self.runtime.to_schedule() {
                self.schedule(timer, after, now);
            }
            while let Some(notification) = self.runtime.to_notify() {
                self.notified(notification, now);
            }
        }
    }

    fn send(&mut self, to: Peer, packet: &[u8], now: Instant) {
        if let Some(header) = header(packet) {
            if let Message::Ping(number) = header.message {
                self.damping.probing = Some((to, number, now));
            }
            // A rising incarnation is this node's objection to being suspected.
            if header.src_incarnation > self.damping.incarnation {
                self.damping.health.suspected();
            }
            self.damping.incarnation = header.src_incarnation;
        }
        let sealed = self.shared.speaker.seal.packet(packet);
        metrics::counter!("memberlist.udp.sent", "network" => self.shared.network)
            .increment(sealed.len() as u64);
        if self.inlets.outgoing.try_send((self.address(to), sealed)).is_err() {
            metrics::counter!("memberlist.queue.dropped", "network" => self.shared.network).increment(1);
        }
    }

    fn schedule(&mut self, timer: Timer<Peer>, after: Duration, now: Instant) {
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.damping.probe_failed = true;
                // How it was here before this probe counts: a death alone makes nobody patient.
                self.suspect(member_id, incarnation, now);
                // To whom nobody speaks it says nothing about itself that it gets no answer.
                if !self.is_deaf(now) {
                    self.damping.health.probe_failed();
                }
            }
            // What is forgotten, and when, is decided by the roster.
            Timer::RemoveDown(_) => {}
            Timer::SendIndirectProbe { .. } | Timer::ProbeRandomMember(_) => {
                let after = self.damping.health.stretch(after);
                self.alarms.set(now + after, Alarm::Protocol(timer));
            }
            other => self.alarms.set(now + after, Alarm::Protocol(other)),
        }
    }

    fn notified(&mut self, notification: OwnedNotification<Peer>, now: Instant) {
        match notification {
            OwnedNotification::MemberUp(peer) => self.came(peer, now),
            OwnedNotification::MemberDown(peer) => self.went(peer, now),
            OwnedNotification::Rename(_, peer) => {
                self.roster.renamed(peer);
                self.dirty = true;
            }
            OwnedNotification::Rejoin(own) => {
                info!(generation = own.generation, "the others had given this agent up; it is back");
                self.roster.renamed(own);
                self.dirty = true;
            }
            OwnedNotification::Defunct | OwnedNotification::Active | OwnedNotification::Idle => {}
        }
    }

    fn came(&mut self, peer: Peer, now: Instant) {
        let before = self.roster.up(peer, now);
        self.resize();
        self.damping.failures.settled(peer.key, self.roster.active());
        self.dirty = true;
        let name = self.name(peer.key);
        info!(member = %name, address = %peer.address, "member joined");
        metrics::counter!("serf.member.join", "network" => self.shared.network).increment(1);
        metrics::counter!("memberlist.msg.alive", "network" => self.shared.network).increment(1);
        // Back within a minute: the link or the node is unsteady.
        if before.is_some_and(|it| !it.active && now.duration_since(it.since) < Duration::from_secs(60)) {
            metrics::counter!("serf.member.flap", "network" => self.shared.network).increment(1);
        }
    }

    fn went(&mut self, peer: Peer, now: Instant) {
        self.damping.suspects.remove(&peer.key);
        if !self.roster.down(peer, now) {
            return;
        }
        self.dirty = true;
        let name = self.name(peer.key);
        metrics::counter!("memberlist.msg.dead", "network" => self.shared.network).increment(1);
        if self.bulletin.lock().facts(peer.key).is_some_and(|facts| facts.leaving) {
            info!(member = %name, address = %peer.address, "member left");
            metrics::counter!("serf.member.left", "network" => self.shared.network).increment(1);
            return;
        }
        warn!(member = %name, address = %peer.address, "member failed");
        metrics::counter!("serf.member.failed", "network" => self.shared.network).increment(1);
        self.damping.failures.failed(now, peer.key, self.roster.active());
    }

    /// After everything that happened: looks at what arrived and shows what changed.
    fn settle(&mut self, now: Instant) {
        let arrivals = self.bulletin.lock().arrivals();
        for arrival in arrivals {
            self.arrived(arrival, now);
        }
        self.drain(now);
        if self.dirty && now >= self.published + PUBLISH_PAUSE {
            self.publish(now);
        }
    }

    fn arrived(&mut self, arrival: Arrival, now: Instant) {
        match arrival {
            Arrival::Facts(_) => self.dirty = true,
            Arrival::Wanted { key, from } => self.fetch_from(from, vec![key]),
            Arrival::OwnFacts { version } => {
                let facts = Facts::clone(self.bulletin.lock().own());
                self.state_own(Facts { version: version.max(facts.version) + 1, ..facts });
            }
            Arrival::Event => {
                let list = self.bulletin.lock().log().list();
                self.shared.events.store(Arc::new(list));
                self.shared.event_changes.send_modify(|count| *count += 1);
                metrics::counter!("serf.events", "network" => self.shared.network).increment(1);
            }
            Arrival::Dismissed { peer, prune } => self.dismissed(peer, prune, now),
        }
    }

    /// Says something new about this node, to itself and to everybody.
    fn state_own(&mut self, facts: Facts) {
        self.bulletin.lock().set_own(facts.clone());
        self.spread_facts(&facts);
        self.dirty = true;
    }

    /// Passes facts on: as they are, or, when they are large, the word that they are there.
    fn spread_facts(&mut self, facts: &Facts) {
        let whole = encode(&News::Facts(facts.clone()));
        if whole.len() <= FACTS_BYTES_IN_PACKET {
            self.spread(&whole);
        } else {
            self.spread(&encode(&News::Newer { key: facts.key(), version: facts.version }));
        }
    }

    fn spread(&mut self, news: &[u8]) {
        if let Err(error) = self.foca.add_broadcast(news) {
            debug!(%error, "news not spread");
        }
        metrics::counter!("serf.msgs.sent", "network" => self.shared.network).increment(1);
    }

    fn address(&self, peer: Peer) -> Address {
        let datacenter = self.bulletin.lock().facts(peer.key).map(|facts| facts.datacenter.clone());
        Address { socket: peer.address, datacenter }
    }

    /// What to call a member in the log.
    fn name(&self, key: Key) -> String {
        self.bulletin.lock().facts(key).map_or_else(|| format!("{key:?}"), |facts| facts.name.clone())
    }

    /// Shows the members as they are now, and says so.
    fn publish(&mut self, now: Instant) {
        self.published = now;
        self.dirty = false;
        let conflicts = self.show();
        self.shared.brake.store(Arc::new(self.damping.failures.brake()));
        self.shared.changes.send_modify(|count| *count += 1);
        for conflict in conflicts {
            if let Some(more) = self.conflict_seen.speak(now) {
                let (name, shown, hidden) =
                    (&conflict.shown.name, conflict.shown.address, conflict.hidden.address);
                warn!(%name, %shown, %hidden, more, "Node name conflicts: two living agents have this name; give one another node_name");
            }
        }
    }
}

impl Engine {
    /// Puts the list where the handles find it. New round-trip times alone wake nobody.
    fn show(&mut self) -> Vec<Conflict> {
        let bulletin = self.bulletin.lock();
        let (members, conflicts) = self.roster.shown(&bulletin);
        self.shared.members.store(Arc::new(members.into()));
        conflicts
    }
}

impl Damping {
    fn new(now: Instant, timing: &Timing) -> Self {
        Self {
            health: Health::default(),
            hearing: Hearing::new(now),
            failures: Failures::new(timing.brake_window, timing.brake_bound),
            suspects: BTreeMap::new(),
            probe_failed: false,
            probing: None,
            incarnation: 0,
        }
    }
}

/// Who speaks to whom in a packet, and about what.
fn header(packet: &[u8]) -> Option<Header<Peer>> {
    PostcardCodec.decode_header(packet).ok()
}

fn own_facts(config: &Config) -> Facts {
    Facts {
        name: config.name.clone(),
        id: config.id.clone(),
        datacenter: config.datacenter.clone(),
        tags: Arc::new(config.tags.clone()),
        leaving: false,
        version: config.generation,
    }
}

/// The protocol's settings for a pool of so many.
fn protocol_config(timing: &Timing, members: usize) -> foca::Config {
    let some = |count: usize| NonZeroUsize::new(count.max(1)).unwrap_or(NonZeroUsize::MIN);
    foca::Config {
        probe_period: timing.probe_interval,
        probe_rtt: timing.probe_timeout,
        num_indirect_probes: some(timing.indirect_probes),
        max_transmissions: NonZeroU8::new(timing.transmissions(members)).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: timing.suspicion(members),
        remove_down_after: None,
        max_packet_size: some(BODY_BYTES_MAX),
        notify_down_members: true,
        // The full exchange does more than an announcement, and reaches the failed too.
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: timing.gossip_interval,
            num_members: some(timing.gossip_nodes),
        }),
    }
}
