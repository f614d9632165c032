//! The handle to a pool, how one is started, and who owns what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tribune_core::Datacenter;

use crate::carrier::{Carrier, EXCHANGE_BYTES_MAX};
use crate::config::Config;
use crate::courier::courier;
use crate::damping::Brake;
use crate::engine::{Engine, Inlets};
use crate::error::Error;
use crate::event::{EventError, UserEvent};
use crate::keyring::{Keyring, fingerprint};
use crate::lan::{Doors, LanCarrier};
use crate::member::{Facts, Member, Status, check_tags, check_texts};
use crate::quiet::Quiet;
use crate::rotation::Challenges;
use crate::seal::{Label, Refusal, Seal};
use crate::speaker::Speaker;
use crate::state_file::StateFile;
use crate::wire::{Answer, Request, decode, encode};

/// Orders that wait for the loop.
const ORDERS_MAX: usize = 256;

/// Packets that wait for the loop; more are dropped, as the network would.
const PACKETS_MAX: usize = 2048;

/// Packets that wait to be carried away.
const OUTGOING_MAX: usize = 2048;

/// Addresses tried at a time by one join.
const CONTACTS_AT_ONCE: usize = 16;

/// How long the packets that are still on their way may take when the pool stops.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// A pool of members. Cheap to clone; all clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// Owns the tasks of a pool. Dropping it ends them at once; [`Running::stop`] ends them in order.
#[must_use = "the pool runs for as long as this is kept"]
pub struct Running {
    stop: CancellationToken,
    engine: JoinSet<()>,
    courier: JoinSet<()>,
    doors: Option<Doors>,
}

/// What came of joining.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinOutcome {
    /// How many addresses were of members with which the state was exchanged.
    pub joined: usize,
    /// How many were this node's own; they are neither joined nor failed.
    pub own: usize,
    /// Which failed, and why.
    pub failures: Vec<(SocketAddr, String)>,
}

/// What an exchange with an address came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contacted {
    Joined,
    Own,
}

/// What the loop is told to do.
pub(crate) enum Order {
    Contact { address: SocketAddr, reply: oneshot::Sender<Result<Contacted, String>> },
    Asked { request: Request, old_key: bool, reply: oneshot::Sender<Answer> },
    Leave { reply: oneshot::Sender<()> },
    Dismiss { name: String, prune: bool, reply: oneshot::Sender<bool> },
    Tags(BTreeMap<String, String>),
    Fire { event: UserEvent, reply: oneshot::Sender<Result<UserEvent, EventError>> },
}

/// What the handles and the loop share.
pub(crate) struct Shared {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) packets: mpsc::Sender<Vec<u8>>,
    pub(crate) members: ArcSwap<Arc<[Member]>>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) events: ArcSwap<Arc<[Arc<UserEvent>]>>,
    pub(crate) event_changes: watch::Sender<u64>,
    pub(crate) brake: ArcSwap<Brake>,
    pub(crate) speaker: Speaker,
    pub(crate) network: &'static str,
    pub(crate) stop: CancellationToken,
    pub(crate) name: String,
    pub(crate) siblings: Option<Pool>,
    pub(crate) exchange_time: Duration,
    pub(crate) challenges: Mutex<Challenges>,
    pub(crate) keyring_file: Option<PathBuf>,
    /// Held while the keyring is changed.
    pub(crate) keyring_change: tokio::sync::Mutex<()>,
    refusals: Mutex<Quiet>,
}

/// Starts the pool of a datacenter on a UDP socket and a TCP listener of the same port.
pub async fn lan(config: Config, udp: UdpSocket, tcp: TcpListener) -> Result<(Pool, Running), Error> {
    check(&config)?;
    let keyring = keyring(&config).await?;
    let seal = Seal::new(Label::lan(&config.datacenter), keyring);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let carrier = Arc::new(LanCarrier::new(udp.clone()));
    let (pool, mut running) = start(config, carrier, seal, "lan").await;
    running.doors = Some(Doors::open(pool.clone(), udp, tcp));
    Ok((pool, running))
}

/// Starts the pool of all servers over a carrier. What arrives is given to [`Pool::receive_packet`] and
/// [`Pool::receive_exchange`].
pub async fn wan(config: Config, carrier: Arc<dyn Carrier>) -> Result<(Pool, Running), Error> {
    check(&config)?;
    let seal = Seal::new(Label::wan(), None);
    Ok(start(config, carrier, seal, "wan").await)
}

fn check(config: &Config) -> Result<(), Error> {
    check_texts(&config.name, &config.id).and_then(|()| check_tags(&config.tags)).map_err(Error::Config)?;
    if config.address.ip().is_unspecified() || config.address.port() == 0 {
        return Err(Error::Config(format!(
            "the others cannot reach this agent at {}; set `advertise`",
            config.address
        )));
    }
    Ok(())
}

/// The keys: those of the file, else those of the configuration, which are then written to the file.
async fn keyring(config: &Config) -> Result<Option<Keyring>, Error> {
    let Some(path) = config.keyring_file.clone() else { return Ok(config.keyring.clone()) };
    let configured = config.keyring.clone();
    let read = tokio::task::spawn_blocking(move || {
        let Some(saved) = Keyring::load(&path)? else {
            if let Some(keyring) = &configured {
                keyring.save(&path)?;
            }
            return Ok(configured);
        };
        if let Some(configured) = configured.as_ref().filter(|it| !saved.contains(it.primary())) {
            let (file, encrypt) = (fingerprint(saved.primary()), fingerprint(configured.primary()));
            warn!(path = %path.display(), %file, %encrypt, "the key of `encrypt` is not in the keyring file, which counts; remove the file to use `encrypt`");
        }
        Ok(Some(saved))
    });
    read.await.unwrap_or_else(|error| Err(Error::Config(error.to_string())))
}

async fn start(
    config: Config,
    carrier: Arc<dyn Carrier>,
    seal: Seal,
    network: &'static str,
) -> (Pool, Running) {
    let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
    let (packets, packets_in) = mpsc::channel(PACKETS_MAX);
    let (outgoing, outgoing_in) = mpsc::channel(OUTGOING_MAX);
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared {
        orders,
        packets,
        members: ArcSwap::from_pointee(Arc::from([])),
        changes: watch::Sender::new(0),
        events: ArcSwap::from_pointee(Arc::from([])),
        event_changes: watch::Sender::new(0),
        brake: ArcSwap::from_pointee(Brake::Off),
        speaker: Speaker { carrier: carrier.clone(), seal: Arc::new(seal), network },
        network,
        stop: stop.clone(),
        name: config.name.clone(),
        siblings: config.siblings.clone(),
        exchange_time: config.timing.stream_timeout * 10,
        challenges: Mutex::default(),
        keyring_file: config.keyring_file.clone(),
        keyring_change: tokio::sync::Mutex::new(()),
        refusals: Mutex::default(),
    });
    let state = open_state(&config).await;
    let inlets = Inlets { orders: orders_in, packets: packets_in, outgoing };
    let engine = Engine::new(&config, shared.clone(), inlets, state);
    let mut tasks = JoinSet::new();
    tasks.spawn(engine.run());
    let mut courier_task = JoinSet::new();
    courier_task.spawn(courier(carrier, outgoing_in, FLUSH_TIME));
    // The handle shows this node from the beginning.
    let mut started = shared.changes.subscribe();
    let _ = started.wait_for(|count| *count > 0).await;
    (Pool { shared }, Running { stop, engine: tasks, courier: courier_task, doors: None })
}

async fn open_state(config: &Config) -> Option<StateFile> {
    let (path, rejoin) = (config.state_file.clone()?, config.rejoin_after_leave);
    tokio::task::spawn_blocking(move || StateFile::open(&path, rejoin)).await.ok()
}

impl Pool {
    /// All members known, this node included, sorted by name.
    pub fn members(&self) -> Arc<[Member]> {
        Arc::clone(&self.shared.members.load())
    }

    /// The members in a datacenter that may answer: a failed one may only be out of reach of gossip.
    pub fn members_in(&self, datacenter: &Datacenter) -> Vec<Member> {
        let may_answer = |member: &&Member| matches!(member.status, Status::Alive | Status::Failed);
        let there = |member: &&Member| member.datacenter == *datacenter;
        self.members().iter().filter(there).filter(may_answer).cloned().collect()
    }

    /// The datacenters of all members that have not left, in their order.
    pub fn datacenters(&self) -> BTreeSet<Datacenter> {
        let members = self.members();
        let stay = members.iter().filter(|member| member.status != Status::Left);
        stay.map(|member| member.datacenter.clone()).collect()
    }

    /// Changes whenever the members or the brake do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Whether many members failed at once, so that what they seem to be should not be believed yet.
    pub fn brake(&self) -> Brake {
        **self.shared.brake.load()
    }

    /// Joins through these addresses: exchanges the full state with each.
    pub async fn join(&self, addresses: &[SocketAddr]) -> JoinOutcome {
        let mut outcome = JoinOutcome::default();
        for some in addresses.chunks(CONTACTS_AT_ONCE) {
            let mut waiting = Vec::with_capacity(some.len());
            for address in some {
                let (reply, answer) = oneshot::channel();
                let sent = self.shared.orders.send(Order::Contact { address: *address, reply }).await;
                waiting.push((*address, sent.is_ok().then_some(answer)));
            }
            for (address, answer) in waiting {
                let answer = match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                };
                match answer.unwrap_or_else(|| Err(STOPPED.into())) {
                    Ok(Contacted::Joined) => outcome.joined += 1,
                    Ok(Contacted::Own) => outcome.own += 1,
                    Err(reason) => outcome.failures.push((address, reason)),
                }
            }
        }
        outcome
    }

    /// Leaves: the others see this node leaving and then left, not failed. Returns when they have been told.
    pub async fn leave(&self) {
        let (reply, answer) = oneshot::channel();
        if self.shared.orders.send(Order::Leave { reply }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Says of a failed member that it will not come back: it counts as left, or vanishes at once (`prune`). Says
    /// whether there is a member of that name. One that lives stays.
    pub async fn force_leave(&self, name: &str, prune: bool) -> bool {
        let (reply, answer) = oneshot::channel();
        let order = Order::Dismiss { name: name.to_owned(), prune, reply };
        self.shared.orders.send(order).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Changes what this node says of itself. Refuses more than a member may say.
    pub async fn set_tags(&self, tags: BTreeMap<String, String>) -> Result<(), Error> {
        check_tags(&tags).map_err(Error::Config)?;
        let _ = self.shared.orders.send(Order::Tags(tags)).await;
        Ok(())
    }

    /// Tells all members something. Returns the event as it was fired, with its Lamport time.
    pub async fn fire(&self, event: UserEvent) -> Result<UserEvent, EventError> {
        let (reply, answer) = oneshot::channel();
        self.shared.orders.send(Order::Fire { event, reply }).await.map_err(|_| EventError::Stopped)?;
        answer.await.unwrap_or(Err(EventError::Stopped))
    }

    /// The last events, oldest first.
    pub fn events(&self) -> Arc<[Arc<UserEvent>]> {
        Arc::clone(&self.shared.events.load())
    }

    /// Changes whenever there is a new event.
    pub fn event_changes(&self) -> watch::Receiver<u64> {
        self.shared.event_changes.subscribe()
    }

    /// Takes a packet that arrived for this pool. One that is forged, cut off or of another pool is counted and
    /// dropped, and so is one that comes when too many wait.
    pub fn receive_packet(&self, packet: &[u8]) {
        let network = self.shared.network;
        metrics::counter!("memberlist.udp.received", "network" => network).increment(packet.len() as u64);
        match self.shared.speaker.seal.open_packet(packet) {
            Ok(body) => {
                if self.shared.packets.try_send(body).is_err() {
                    metrics::counter!("memberlist.queue.dropped", "network" => network).increment(1);
                }
            }
            Err(refusal) => self.shared.refused(&refusal, "packet"),
        }
    }

    /// Takes a request that arrived for this pool and gives the answer to send back. Never fails: what cannot be
    /// taken is answered with the reason.
    pub async fn receive_exchange(&self, request: Bytes) -> Bytes {
        let seal = &self.shared.speaker.seal;
        if request.len() > EXCHANGE_BYTES_MAX {
            return seal.refuse(&Refusal::Malformed);
        }
        let opened = match seal.open_request(&request) {
            Ok(opened) => opened,
            Err(refusal) => {
                self.shared.refused(&refusal, "request");
                return seal.refuse(&refusal);
            }
        };
        let Some(request) = decode::<Request>(&opened.body) else {
            self.shared.refused(&Refusal::Malformed, "request");
            return seal.refuse(&Refusal::Malformed);
        };
        let answer = self.answer(request, opened.envelope.is_sealed(), opened.envelope.old_key).await;
        seal.answer(&opened.envelope, &encode(&answer))
    }

    async fn answer(&self, request: Request, sealed: bool, old_key: bool) -> Answer {
        match request {
            Request::Challenge => self.challenge(),
            Request::Keyring { challenge, operation } => {
                self.asked_keyring(sealed, challenge, operation).await
            }
            request => {
                let (reply, answer) = oneshot::channel();
                let order = Order::Asked { request, old_key, reply };
                let asked = async {
                    self.shared.orders.send(order).await.ok()?;
                    answer.await.ok()
                };
                let answer = timeout(self.shared.exchange_time, asked).await.ok().flatten();
                answer.unwrap_or_else(|| Answer::Refused(STOPPED.into()))
            }
        }
    }
}

const STOPPED: &str = "the pool of members has stopped or is overloaded";

impl Running {
    /// Ends everything in order: the loop first, then what it still wants to say, then the listeners. Leave
    /// first, or the others take this node for dead.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.engine.join_next().await.is_some() {}
        while self.courier.join_next().await.is_some() {}
        if let Some(doors) = self.doors.take() {
            doors.close().await;
        }
        info!("pool of members stopped");
    }
}

impl Shared {
    /// Why somebody of another datacenter cannot be in this pool; `None` when it can.
    pub(crate) fn other_datacenter(&self, ours: &Datacenter, theirs: &Datacenter) -> Option<String> {
        (self.network == "lan" && ours != theirs)
            .then(|| format!("Member '{}' part of wrong datacenter '{theirs}'; expected '{ours}'", self.name))
    }

    /// Why a member that says to be of our datacenter is not of it; `None` when it is, or is of another one.
    pub(crate) fn namesake(&self, ours: &Datacenter, facts: &Facts) -> Option<String> {
        let siblings = self.siblings.as_ref().filter(|_| facts.datacenter == *ours)?;
        let is_sibling = siblings.members().iter().any(|member| member.id == facts.id);
        (!is_sibling).then(|| {
            format!(
                "two datacenters are called '{ours}': '{}' is no member of the one of '{}'; give one of them \
                 another name (`datacenter`) and new certificates",
                facts.name, self.name
            )
        })
    }

    /// Counts what was not taken, and says so once per interval.
    pub(crate) fn refused(&self, refusal: &Refusal, what: &'static str) {
        metrics::counter!("memberlist.refused", "network" => self.network, "reason" => refusal.reason())
            .increment(1);
        let spoken = self.refusals.lock().speak(Instant::now());
        if let Some(more) = spoken {
            warn!(what, reason = %refusal, more, network = self.network, "gossip message refused");
        }
    }
}
