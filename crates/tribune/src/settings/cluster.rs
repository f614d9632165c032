//! Which part this node plays in its datacenter and in the federation, and whom it joins.

use std::time::Duration;

use tribune_gossip::Keyring;

use super::reading::{Reading, span};

/// Members that failed are remembered for at least this long: a shorter time would forget hosts over a night.
const RECONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(8 * 3600);
const RECONNECT_TIMEOUT_SECONDS: u64 = 72 * 3600;
const RETRY_INTERVAL_SECONDS: u64 = 30;

/// How this node takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Server or client agent.
    pub role: Role,
    /// Members of its own datacenter that it joins.
    pub lan: Joining,
    /// Servers of other datacenters that it joins.
    pub wan: Joining,
    /// What encrypts the gossip in the datacenter; `None` leaves it readable.
    pub gossip_key: Option<Keyring>,
    /// Whether the keys are kept in the data directory.
    pub keeps_keyring: bool,
    /// Whether instances of other datacenters are shown at their `wan` addresses.
    pub translate_wan_addrs: bool,
    /// Whether it measures how far other nodes are.
    pub measures_distances: bool,
}

/// What a node is in its datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Holds the catalog.
    Server {
        /// How a datacenter that does not exist yet begins.
        founding: Founding,
        /// Whether it is to have a vote.
        votes: bool,
    },
    /// Looks after its own host and asks the servers for everything else.
    Client,
}

/// How a server without data comes to have a datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// It makes one by itself.
    Alone,
    /// It makes one together with others, as soon as there are so many servers.
    Together(usize),
    /// Those that are there take it in.
    Never,
}

/// Whom a node joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// `host` or `host:port`, tried once at the start.
    pub once: Vec<String>,
    /// The same, tried until one answers.
    pub again: Vec<String>,
    /// Time between attempts.
    pub interval: Duration,
    /// Attempts after which the agent gives up; `None` for never.
    pub attempts_max: Option<u64>,
    /// Whether nodes known from before are joined even after this node has left.
    pub after_leave: bool,
    /// How long members that failed are remembered.
    pub reconnect_timeout: Duration,
}

impl Cluster {
    /// Whether this node holds the catalog.
    pub fn is_server(&self) -> bool {
        matches!(self.role, Role::Server { .. })
    }

    /// Whether this server founds its datacenter alone.
    pub fn founds_alone(&self) -> bool {
        matches!(self.role, Role::Server { founding: Founding::Alone, .. })
    }

    /// How many servers found the datacenter together; 0 when that is not waited for.
    pub fn expected(&self) -> usize {
        match self.role {
            Role::Server { founding: Founding::Together(count), .. } => count,
            Role::Server { founding: Founding::Alone, .. } => 1,
            _ => 0,
        }
    }
}

impl Reading<'_> {
    pub(super) fn cluster(&mut self) -> Cluster {
        let config = self.config;
        Cluster {
            role: self.role(),
            lan: Joining {
                once: config.start_join.clone(),
                again: config.retry_join.clone(),
                interval: self.interval("retry_interval", config.retry_interval),
                attempts_max: config.retry_max.filter(|max| *max > 0),
                after_leave: config.rejoin_after_leave.unwrap_or(false),
                reconnect_timeout: self.reconnect("reconnect_timeout", config.reconnect_timeout),
            },
            wan: Joining {
                once: config.start_join_wan.clone(),
                again: config.retry_join_wan.clone(),
                interval: self.interval("retry_interval_wan", config.retry_interval_wan),
                attempts_max: config.retry_max_wan.filter(|max| *max > 0),
                after_leave: config.rejoin_after_leave.unwrap_or(false),
                reconnect_timeout: self.reconnect("reconnect_timeout_wan", config.reconnect_timeout_wan),
            },
            gossip_key: self.gossip_key(),
            keeps_keyring: !config.is_dev && !config.disable_keyring_file.unwrap_or(false),
            translate_wan_addrs: config.translate_wan_addrs.unwrap_or(false),
            measures_distances: !config.disable_coordinates.unwrap_or(false),
        }
    }

    fn role(&mut self) -> Role {
        let config = self.config;
        let is_server = config.is_dev || config.server == Some(true);
        let expected = config.bootstrap_expect.unwrap_or(0);
        let alone = config.bootstrap == Some(true);
        if !is_server {
            if alone || expected > 0 {
                let key = if alone { "bootstrap" } else { "bootstrap_expect" };
                self.refuse(key, "is for servers: set server = true too, or take it out");
            }
            return Role::Client;
        }
        if alone && expected > 0 {
            self.refuse("bootstrap_expect", "and bootstrap exclude each other: keep bootstrap_expect alone");
        }
        if expected >= 2 && expected.is_multiple_of(2) {
            let why =
                format!("is {expected}: an even number of servers survives no more failures than one less");
            self.warn("bootstrap_expect", &why);
        }
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        if config.is_dev && expected > 1 {
            self.refuse(
                "bootstrap_expect",
                "and -dev exclude each other: -dev makes a datacenter of one server",
            );
        }
        let founding = match expected {
            _ if config.is_dev || alone => Founding::Alone,
            0 => Founding::Never,
            1 => Founding::Alone,
            several => Founding::Together(several),
        };
        let replica = config.read_replica == Some(true) || config.non_voting_server == Some(true);
        if replica && founding != Founding::Never {
            self.refuse(
                "read_replica",
                "has no vote and cannot found a datacenter: take bootstrap_expect out",
            );
        }
        Role::Server { founding, votes: !replica }
    }

    fn interval(&mut self, key: &str, written: Option<crate::config::Span>) -> Duration {
        let interval = span(written, RETRY_INTERVAL_SECONDS);
        if interval.is_zero() {
            self.refuse(key, "must be longer than nothing, such as 30s");
        }
        interval
    }

    fn reconnect(&mut self, key: &str, written: Option<crate::config::Span>) -> Duration {
        let timeout = span(written, RECONNECT_TIMEOUT_SECONDS);
        if timeout < RECONNECT_TIMEOUT_MIN {
            self.refuse(key, "must be at least 8h: a shorter time forgets hosts that are down over a night");
        }
        timeout
    }

    fn gossip_key(&mut self) -> Option<Keyring> {
        let text = self.config.encrypt.as_deref().filter(|text| !text.is_empty())?;
        Keyring::new(text)
            .inspect_err(|error| self.refuse("encrypt", &format!("is no key for gossip: {error}")))
            .ok()
    }
}
