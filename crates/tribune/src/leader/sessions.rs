//! The time of leases, measured by whoever leads: ends sessions that are not renewed, and the delays of keys whose
//! holders have ended.
//!
//! Renewals come from any server as questions to the leader and write nothing to the log. What has run out is
//! proposed. The leader looks at the state for what there is to measure, so a change of leader loses nothing; what
//! it has not seen before it takes for fresh. Before it answers the first renewal it has written that it measures
//! from now on: what a leader before it found expired, and may still be on its way, is refused after that.
//!
//! ```text
//!   leads ─▶ write "I keep the leases" ─▶ follow state ─▶ wait for a change or a deadline ─┐
//!                                            ▲                                             │
//!                                            └──────── propose what has run out ◀──────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use tribune_core::lease::{Expired, Leases, Renewal};
use tribune_core::{Authority, Command, Index, Outcome, SessionChange, SessionId, State, Topic};
use tribune_raft::faults::Fault;
use tribune_raft::{Consistency, LeaderService, Replica, Role};

/// Longest time between two looks at the state.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);

/// Time before a proposal that failed is made again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Most leases that one command ends: thousands may run out together, after a fail-over above all.
const EXPIRED_MAX: usize = 512;

/// The leases of the datacenter, as far as this server measures their time. Clones share them.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Shared>);

struct Shared {
    replica: Replica,
    authority: Authority,
    /// Where the clock starts; it only ever runs forward.
    begun: Instant,
    /// `None` while this server does not measure. Held for a few look-ups only.
    leases: Mutex<Option<Leases>>,
}

impl Sessions {
    /// Offers renewals to all servers that ask `replica`'s leader.
    pub(crate) fn new(replica: Replica) -> Self {
        let (authority, begun) = (Authority::unrestricted(), Instant::now());
        let sessions = Self(Arc::new(Shared { replica, authority, begun, leases: Mutex::new(None) }));
        sessions.0.replica.set_leader_service(Arc::new(sessions.clone()));
        sessions
    }

    /// Measures whenever this server leads, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut leadership = self.0.replica.leadership();
        let mut role = Role::Other;
        loop {
            let duty = async {
                match role {
                    Role::Leader { term } => self.0.keep(term).await,
                    Role::Other => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                next = leadership.next() => match next {
                    Some(next) => role = next,
                    None => break,
                },
                () = duty => {}
            }
            self.0.forget();
        }
        self.0.forget();
    }
}

impl Shared {
    /// Measures as the leader of this term.
    async fn keep(&self, term: u64) {
        while !self.change(SessionChange::KeepLeases { term }).await {
            sleep(RETRY_PAUSE).await;
        }
        self.leases.lock().get_or_insert_default();
        loop {
            let state = self.replica.state();
            if state.lease_term() > term {
                // Somebody else measures; that this server leads no more is told in a moment.
                return std::future::pending().await;
            }
            let expired = self.look(&state);
            if expired.is_empty() {
                self.wait(state.index()).await;
            } else if !self.end(term, expired).await {
                let again = self.now() + RETRY_PAUSE;
                self.with_leases(|leases| leases.retry(again));
            }
        }
    }

    /// What was measured is worth nothing once this server does not lead: the next leader renews without telling.
    fn forget(&self) {
        if !Fault::SessionTimesKept.is_planted() {
            *self.leases.lock() = None;
        }
    }

    /// Follows the state and gives what has run out.
    fn look(&self, state: &State) -> Expired {
        let now = self.now();
        self.with_leases(|leases| {
            leases.follow(state, now);
            leases.expire(now, EXPIRED_MAX)
        })
        .unwrap_or_default()
    }

    /// Proposes what has run out; gives whether all of it was accepted.
    async fn end(&self, term: u64, expired: Expired) -> bool {
        let Expired { sessions, delays } = expired;
        let mut accepted = true;
        if !sessions.is_empty() {
            debug!(sessions = sessions.len(), "sessions were not renewed in time");
            metrics::counter!("session_ttl.invalidated").increment(sessions.len() as u64);
            accepted &= self.change(SessionChange::Expire { term, sessions }).await;
        }
        if !delays.is_empty() {
            accepted &= self.change(SessionChange::EndDelays(delays)).await;
        }
        accepted
    }

    async fn change(&self, change: SessionChange) -> bool {
        match self.replica.propose(&self.authority, Command::Session(Box::new(change))).await {
            Ok(Outcome::Refused(refusal)) => {
                warn!(?refusal, "the end of leases was refused");
                false
            }
            Ok(_) => true,
            Err(error) => {
                warn!(%error, "could not write the end of leases");
                false
            }
        }
    }

    /// Waits until there is something else to measure, or something runs out. A renewal only moves that further
    /// away.
    async fn wait(&self, seen: Index) {
        let regular = Instant::now() + ROUND_INTERVAL;
        let deadline = self.with_leases(|leases| leases.next_deadline()).flatten();
        let until = deadline.map_or(regular, |deadline| regular.min(self.begun + deadline));
        self.replica.changed(&Topic::Leases, seen, until).await;
    }

    fn with_leases<T>(&self, work: impl FnOnce(&mut Leases) -> T) -> Option<T> {
        self.leases.lock().as_mut().map(work)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Starts the time of a session anew. A leader that may have been deposed without knowing answers nothing:
    /// its successor may have begun to measure earlier.
    async fn renew(&self, id: &SessionId) -> Result<Renewal, String> {
        let state = self.replica.read(Consistency::Default).await.map_err(|error| error.to_string())?;
        let now = self.now();
        let renewal = self.with_leases(|leases| {
            leases.follow(&state, now);
            leases.renew(id, now)
        });
        renewal.ok_or_else(|| "the leader has only just begun to measure the time of sessions".to_owned())
    }
}

#[async_trait]
impl LeaderService for Sessions {
    async fn ask(&self, question: Bytes) -> Result<Bytes, String> {
        match Renewal::asked(&question) {
            Some(id) => self.0.renew(&id).await.map(|renewal| Bytes::from_static(renewal.word().as_bytes())),
            None => Err("this server does not understand the question".to_owned()),
        }
    }
}

#[cfg(test)]
mod fail_over;

#[cfg(test)]
mod tests {
    use tribune_core::{Behavior, KvChange, KvKey, KvPut, Node, NodeName, PutMode, Registration, Session};
    use tribune_raft::{Config, ServerInfo, Storage};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const TTL: Duration = Duration::from_secs(2);

    struct Datacenter {
        replica: Replica,
        sessions: Sessions,
        stop: CancellationToken,
    }

    impl Datacenter {
        /// A server that leads, keeps the leases and knows one node.
        async fn start() -> Self {
            let name = NodeName::new("n").unwrap();
            let server =
                ServerInfo { id: "s".into(), name: name.clone(), address: ([127, 0, 0, 1], 1).into() };
            let config = Config { bootstrap: true, ..Config::new(Storage::Memory, server) };
            let replica = Replica::start(config).await.unwrap();
            let datacenter =
                Self { sessions: Sessions::new(replica.clone()), replica, stop: CancellationToken::new() };
            let (tagged_addresses, meta) = Default::default();
            let node = Node { name, id: "".into(), address: "1.1.1.1".into(), tagged_addresses, meta };
            let registration = Registration { node, skip_node_update: false, service: None, checks: vec![] };
            assert!(datacenter.propose(Command::Register(Box::new(registration))).await.changes());
            datacenter
        }

        async fn propose(&self, command: Command) -> Outcome {
            self.replica.propose(&Authority::unrestricted(), command).await.unwrap()
        }

        async fn create(&self, number: u8, ttl: Option<Duration>, lock_delay: Duration) -> SessionId {
            let id = SessionId::new(&format!("00000000-0000-0000-0000-00000000000{number}")).unwrap();
            let session = Session {
                id: id.clone(),
                name: "".into(),
                node: NodeName::new("n").unwrap(),
                lock_delay,
                behavior: Behavior::Release,
                ttl,
                ttl_text: "".into(),
                node_checks: None,
                service_checks: None,
            };
            let create = Command::Session(Box::new(SessionChange::Create(session)));
            assert!(self.propose(create).await.changes());
            id
        }

        async fn acquire(&self, session: &SessionId) -> bool {
            let key = KvKey::new("lock").unwrap();
            let mode = PutMode::Acquire(session.clone());
            let put = KvPut { key, value: Default::default(), flags: 0, mode };
            self.propose(Command::Kv(Box::new(KvChange::Put(put)))).await.changes()
        }

        fn is_there(&self, session: &SessionId) -> bool {
            self.replica.state().view(&Authority::unrestricted()).session(session).is_some()
        }

        async fn ask(&self, session: &SessionId) -> Result<Bytes, tribune_raft::Error> {
            self.replica.ask_leader(Renewal::question(session).into()).await
        }

        async fn end(self, task: tokio::task::JoinHandle<()>) {
            self.stop.cancel();
            task.await.unwrap();
            self.replica.shutdown().await;
        }
    }

    async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !condition().await {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_session_lives_while_it_is_renewed_and_ends_afterwards() {
        let datacenter = Datacenter::start().await;
        let task = tokio::spawn(datacenter.sessions.clone().run(datacenter.stop.clone()));
        let id = datacenter.create(1, Some(TTL), Duration::ZERO).await;
        eventually("the leader keeps the leases", async || datacenter.ask(&id).await.is_ok()).await;
        let written = datacenter.replica.cluster().last_log;
        let begun = Instant::now();
        while begun.elapsed() < TTL * 2 {
            let answer = datacenter.ask(&id).await.unwrap();
            assert_eq!(Renewal::from_word(&answer), Some(Renewal::Renewed));
            sleep(Duration::from_millis(50)).await;
        }
        assert!(datacenter.is_there(&id));
        assert_eq!(datacenter.replica.cluster().last_log, written, "a renewal writes nothing");
        let last = Instant::now();
        eventually("the session ends", async || !datacenter.is_there(&id)).await;
        assert!(last.elapsed() + Duration::from_millis(50) >= TTL, "it ended before its time");
        assert_eq!(Renewal::from_word(&datacenter.ask(&id).await.unwrap()), Some(Renewal::Unknown));
        datacenter.end(task).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lock_delay_passes() {
        let datacenter = Datacenter::start().await;
        let task = tokio::spawn(datacenter.sessions.clone().run(datacenter.stop.clone()));
        let delay = Duration::from_millis(300);
        let (one, two) = (datacenter.create(1, None, delay).await, datacenter.create(2, None, delay).await);
        assert!(datacenter.acquire(&one).await);
        let begun = Instant::now();
        datacenter.propose(Command::Session(Box::new(SessionChange::Destroy(one)))).await;
        eventually("the key can be had again", async || datacenter.acquire(&two).await).await;
        assert!(begun.elapsed() >= delay, "it could be had too early");
        datacenter.end(task).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_does_not_keep_the_leases_renews_nothing() {
        let datacenter = Datacenter::start().await;
        let id = datacenter.create(1, Some(TTL), Duration::ZERO).await;
        assert!(datacenter.ask(&id).await.is_err());
        let task = tokio::spawn(datacenter.sessions.clone().run(datacenter.stop.clone()));
        eventually("the leader keeps the leases", async || datacenter.ask(&id).await.is_ok()).await;
        datacenter.end(task).await;
    }
}
