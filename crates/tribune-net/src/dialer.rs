//! The asking side: one pooled HTTP/2 connection per other node, opened on demand.
//!
//! ```text
//!   send ──▶ link of the endpoint ──▶ Dialling ──▶ Up ──▶ Over        (idle, new certificates, other side gone)
//!                  one task each           └─────▶ Down               (told to everyone who waits, then dialled anew)
//! ```
//!
//! A connection is dialled by a task of its own, so that a caller who loses patience does not take the attempt with
//! it; everyone who asks meanwhile waits for the same attempt. It counts as up when the other side has spoken, not
//! before: until then a refusal of our certificate may still be on its way.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tribune_core::Datacenter;

use crate::body::PeerBody;
use crate::certificates::{Material, Tls};
use crate::failure::DialError;
use crate::handshake::{self, ALPN_H2, ALPN_REVERSE};
use crate::identity::{self, PeerIdentity};
use crate::line::{self, Driver, Fault, KeepAlive, Line, Origin, Turn};
use crate::reverse::ReverseRoad;
use crate::socket;
use crate::trust::Expected;

/// How often a request is offered that was certainly not processed: once, and again on fresh connections.
const OFFERS_MAX: usize = 3;

/// For how long a failed attempt answers for the next one too, so that a crowd of callers is one attempt.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);

/// How long sent bytes may be unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(8);

/// Another node and the datacenter whose server is expected there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The datacenter it must be a server of.
    pub datacenter: Datacenter,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.address, self.datacenter.as_str())
    }
}

/// Times, bounds and the own address of a dialer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long one attempt may take, from the first packet to the first words of the other side.
    pub connect_timeout: Duration,
    /// After so much silence the other side is asked whether it is still there.
    pub keep_alive_interval: Duration,
    /// How long it has to answer that.
    pub keep_alive_timeout: Duration,
    /// A connection that nobody uses for so long is closed.
    pub idle_timeout: Duration,
    /// Open connections in total.
    pub connections_max: usize,
    /// The address that connections leave from; `None` lets the system choose.
    pub source: Option<IpAddr>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keep_alive_interval: KeepAlive::NODES.interval,
            keep_alive_timeout: KeepAlive::NODES.timeout,
            idle_timeout: Duration::from_secs(90),
            connections_max: 1024,
            source: None,
        }
    }
}

/// Sends requests to other nodes. Clones share its connections; dropping the last one closes them.
#[derive(Clone)]
pub struct Dialer(Arc<Pool>);

struct Pool {
    caller: Caller,
    links: Mutex<HashMap<Endpoint, Arc<Link>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Dialer {
    /// A dialer without encryption.
    pub fn plain() -> Self {
        Self::new(Security::Plain, Pace::default())
    }

    /// A dialer over TLS. With `verify_server_name` the other side must carry the name `server.<dc>.<domain>` of
    /// its endpoint, otherwise any certificate of our CAs will do.
    pub fn tls(tls: Tls, verify_server_name: bool) -> Self {
        Self::new(Security::Tls { tls, verify_server_name }, Pace::default())
    }

    /// The same dialer with other times, and no connection yet.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self::new(self.0.caller.security.clone(), pace)
    }

    fn new(security: Security, pace: Pace) -> Self {
        let caller = Caller { security, pace };
        Self(Arc::new(Pool { caller, links: Mutex::default(), tasks: Mutex::default() }))
    }

    /// Asks `to` and gives its answer as soon as the header is there. The deadline holds for the body too.
    ///
    /// Scheme and authority of the request are set here. A request that was certainly not processed because a
    /// connection had just ended is offered again on a new one; nothing else is.
    pub async fn send(
        &self,
        to: &Endpoint,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<PeerBody>, DialError> {
        let mut request = request;
        for _ in 0..OFFERS_MAX {
            let link = self.0.link(to)?;
            let Some(turn) = link.turn(deadline).await.map_err(|error| error.of(to))? else { continue };
            match turn.send(request, deadline).await {
                Ok(response) => return Ok(response),
                Err(Fault::Failed(error)) => return Err(error.of(to)),
                Err(Fault::NotTaken(back, is_over)) => {
                    request = *back;
                    if is_over {
                        link.retire();
                    }
                }
            }
        }
        Err(DialError::Refused(format!(
            "{to}: it took the request {OFFERS_MAX} times and gave it back unprocessed"
        )))
    }

    /// Opens a connection of its own on which the other side will ask and this one answer.
    pub async fn reverse(&self, to: &Endpoint) -> Result<ReverseRoad, DialError> {
        let pace = self.0.caller.pace;
        let opened = timeout(pace.connect_timeout, self.0.caller.open(to, ALPN_REVERSE)).await;
        let (stream, identity, _) = opened.unwrap_or_else(|_| Err(late())).map_err(|error| error.of(to))?;
        let keep_alive = self.0.caller.keep_alive();
        Ok(ReverseRoad::new(stream, identity, to.address.ip(), keep_alive))
    }

    /// How many connections are open or being opened.
    pub fn connections(&self) -> usize {
        self.0.links.lock().values().filter(|link| link.is_alive()).count()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("pace", &self.0.caller.pace).finish_non_exhaustive()
    }
}

impl Pool {
    /// The link to an endpoint: the one in use, or a new one.
    fn link(&self, to: &Endpoint) -> Result<Arc<Link>, DialError> {
        let material = self.caller.material();
        let mut links = self.links.lock();
        if let Some(link) = links.get(to) {
            match link.is_usable(material.as_ref()) {
                true => return Ok(Arc::clone(link)),
                false => link.retire(),
            }
        }
        let max = self.caller.pace.connections_max;
        if links.len() >= max && !links.contains_key(to) {
            links.retain(|_, link| link.is_alive());
            if links.len() >= max {
                evict_idle(&mut links)?;
            }
        }
        let link = Arc::new(Link::new(material));
        links.insert(to.clone(), Arc::clone(&link));
        drop(links);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(self.caller.clone().live(Arc::clone(&link), to.clone()));
        Ok(link)
    }
}

/// Makes room by giving up the connection that nobody has used for longest.
fn evict_idle(links: &mut HashMap<Endpoint, Arc<Link>>) -> Result<(), DialError> {
    let quiet = links.iter().filter_map(|(to, link)| Some((link.quiet_since()?, to)));
    let idle = quiet.min_by_key(|(since, _)| *since).map(|(_, to)| to.clone());
    let Some(link) = idle.and_then(|to| links.remove(&to)) else {
        let why =
            "this node has as many connections to others as it may, all of them in use; ask again shortly";
        return Err(DialError::Refused(why.to_owned()));
    };
    link.retire();
    Ok(())
}

/// One connection to one endpoint, from the attempt to its end.
struct Link {
    state: watch::Sender<State>,
    retired: watch::Sender<bool>,
    /// The certificates it was made with.
    material: Option<Arc<Material>>,
}

#[derive(Clone)]
enum State {
    Dialling,
    Up(Line),
    Down { why: DialError, since: Instant },
    Over,
}

impl Link {
    fn new(material: Option<Arc<Material>>) -> Self {
        let (state, retired) = (watch::Sender::new(State::Dialling), watch::Sender::new(false));
        Self { state, retired, material }
    }

    /// Waits until the connection is up; `None` when it is over already.
    async fn turn(&self, deadline: Instant) -> Result<Option<Turn>, DialError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Dialling));
        match timeout_at(deadline, settled).await {
            Err(_) => Err(late()),
            Ok(Err(_)) => Ok(None),
            Ok(Ok(state)) => match &*state {
                State::Up(line) => Ok(Some(line.turn())),
                State::Down { why, .. } => Err(why.clone()),
                State::Dialling | State::Over => Ok(None),
            },
        }
    }

    fn is_usable(&self, material: Option<&Arc<Material>>) -> bool {
        let is_current = match (&self.material, material) {
            (Some(own), Some(current)) => Arc::ptr_eq(own, current),
            (own, current) => own.is_none() && current.is_none(),
        };
        let is_usable = match &*self.state.borrow() {
            State::Dialling => true,
            State::Up(line) => !line.is_over(),
            State::Down { since, .. } => since.elapsed() < REDIAL_PAUSE,
            State::Over => false,
        };
        is_current && is_usable
    }

    fn is_alive(&self) -> bool {
        matches!(&*self.state.borrow(), State::Dialling | State::Up(_))
    }

    fn quiet_since(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Up(line) => line.quiet_since(),
            _ => None,
        }
    }

    /// Takes no more requests; those under way get their answers.
    fn retire(&self) {
        self.retired.send_replace(true);
        self.end();
    }

    fn end(&self) {
        self.state.send_if_modified(|state| {
            let is_up = matches!(state, State::Up(_));
            if is_up {
                *state = State::Over;
            }
            is_up
        });
    }
}

/// Marks a link whose task has ended, however it ended.
struct Ending(Arc<Link>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let is_open = matches!(state, State::Up(_) | State::Dialling);
            if is_open {
                *state = State::Over;
            }
            is_open
        });
    }
}

/// How connections are opened.
#[derive(Clone)]
struct Caller {
    security: Security,
    pace: Pace,
}

#[derive(Clone)]
enum Security {
    Plain,
    Tls { tls: Tls, verify_server_name: bool },
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Opened = (Box<dyn Stream>, Option<PeerIdentity>, Origin);

impl Caller {
    fn material(&self) -> Option<Arc<Material>> {
        match &self.security {
            Security::Plain => None,
            Security::Tls { tls, .. } => Some(tls.current()),
        }
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive { interval: self.pace.keep_alive_interval, timeout: self.pace.keep_alive_timeout }
    }

    /// The whole life of a link.
    async fn live(self, link: Arc<Link>, to: Endpoint) {
        let _ending = Ending(Arc::clone(&link));
        let connected = timeout(self.pace.connect_timeout, self.connect(&to)).await;
        match connected.unwrap_or_else(|_| Err(late())) {
            Err(why) => {
                metrics::counter!("tribune.net.dials_failed").increment(1);
                tracing::debug!(%to, error = %why, "no connection to another node");
                link.state.send_replace(State::Down { why, since: Instant::now() });
            }
            Ok((line, driver, identity)) => {
                metrics::counter!("tribune.net.dials").increment(1);
                link.state.send_replace(State::Up(line));
                let mut retired = link.retired.subscribe();
                let enough = async {
                    tokio::select! {
                        _ = retired.wait_for(|retired| *retired) => {}
                        () = handshake::until_expired(identity.as_ref()) => {}
                    }
                };
                driver.run(self.pace.idle_timeout, enough, || link.end()).await;
            }
        }
    }

    async fn connect(&self, to: &Endpoint) -> Result<(Line, Driver, Option<PeerIdentity>), DialError> {
        let (stream, identity, origin) = self.open(to, ALPN_H2).await?;
        let (line, mut driver) = line::open(stream, origin, self.keep_alive()).await?;
        driver.greeted().await?;
        Ok((line, driver, identity))
    }

    /// Opens a connection, with TLS if that is the way here.
    async fn open(&self, to: &Endpoint, alpn: &[u8]) -> Result<Opened, DialError> {
        let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
        let stream = socket::connect(to.address, self.pace.source).await.map_err(unreachable)?;
        socket::tune(&stream, self.pace.keep_alive_interval, UNACKNOWLEDGED_MAX).map_err(unreachable)?;
        let (tls, verify_server_name) = match &self.security {
            Security::Tls { tls, verify_server_name } => (tls, *verify_server_name),
            Security::Plain if alpn == ALPN_H2 => {
                let origin =
                    Origin { scheme: Scheme::HTTP, authority: authority(&to.address.to_string(), to) };
                return Ok((Box::new(stream), None, origin));
            }
            Security::Plain => {
                let why =
                    "a connection that carries requests back needs TLS: set cert_file, key_file and ca_file";
                return Err(DialError::Refused(why.to_owned()));
            }
        };
        let name = identity::server_name(&to.datacenter, tls.domain());
        let expected = match verify_server_name {
            true => Expected::ServerOf(to.datacenter.clone()),
            false => Expected::Anyone,
        };
        let origin = Origin { scheme: Scheme::HTTPS, authority: authority(&name, to) };
        let (stream, identity) = handshake::call(tls, tls.current(), stream, (&name, expected), alpn).await?;
        Ok((Box::new(stream), identity, origin))
    }
}

/// The name a request is addressed to; a datacenter whose name is no host name leaves the address.
fn authority(name: &str, to: &Endpoint) -> Authority {
    let parsed = name.parse().or_else(|_| to.address.to_string().parse());
    parsed.unwrap_or_else(|_| Authority::from_static("peer"))
}

fn late() -> DialError {
    DialError::Unreachable("no connection came about in the time given".to_owned())
}
