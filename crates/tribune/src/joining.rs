//! Coming into a pool: the addresses of the configuration are looked up and tried until one answers, and again
//! whenever nobody is left, because names may lead to other addresses by then.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tribune_gossip::{Pool, Status};

use crate::membership;
use crate::settings::Joining;

/// The first pause after a failed attempt; each later one is twice as long, up to the configured interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long one name may take to be looked up.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);
/// How often it is checked that somebody is still there.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Why a text does not say whom to join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// A cloud's own directory would have to be asked.
    #[error("{0:?}: discovery through a cloud provider is not built in; give host:port or a DNS name")]
    Provider(String),
    /// No address stands behind the name.
    #[error("{name:?} leads to no address: {why}; check the name, or give host:port")]
    NotFound {
        /// The name.
        name: String,
        /// What the look-up said.
        why: String,
    },
}

/// What came of trying all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// At least one answered.
    Joined,
    /// None but this node itself.
    OnlyOwn,
    /// None answered.
    Nobody,
}

/// The task that joins one pool.
pub(crate) struct Joiner {
    pub(crate) pool: Pool,
    pub(crate) joining: Joining,
    /// For addresses that name none.
    pub(crate) port: u16,
    /// `LAN` or `WAN`, for the log.
    pub(crate) kind: &'static str,
    /// The pool of this datacenter, whose servers all belong into the pool of all servers: one of them that joins
    /// brings the others along.
    pub(crate) siblings: Option<Pool>,
}

impl Joiner {
    /// Joins, and joins again when nobody is left, until `stop`. Gives the reason when it gives up.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), String> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            gave_up = self.keep_joined() => Err(gave_up),
        }
    }

    /// Only returns with the reason why it gave up.
    async fn keep_joined(&self) -> String {
        if !self.joining.once.is_empty() && self.attempt(&self.joining.once).await == Attempt::Nobody {
            let kind = self.kind;
            return format!(
                "no address of start_join ({kind}) could be joined; use retry_join to keep trying"
            );
        }
        loop {
            let has_names = !self.joining.again.is_empty();
            if has_names
                && self.is_alone()
                && let Err(gave_up) = self.retry().await
            {
                return gave_up;
            }
            self.bring_siblings().await;
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Joins the servers of this datacenter that are not in the pool yet.
    async fn bring_siblings(&self) {
        let Some(siblings) = &self.siblings else { return };
        let here = self.pool.members();
        let is_here = |address: &SocketAddr| {
            here.iter().any(|member| member.address == *address && member.status == Status::Alive)
        };
        let alive = siblings.members();
        let alive = alive.iter().filter(|member| member.status == Status::Alive);
        let missing: Vec<SocketAddr> =
            alive.filter_map(membership::wan_address).filter(|address| !is_here(address)).collect();
        if !missing.is_empty() {
            let outcome = self.pool.join(&missing).await;
            debug!(joined = outcome.joined, failures = ?outcome.failures, "brought servers of this datacenter along");
        }
    }

    async fn retry(&self) -> Result<(), String> {
        let mut pause = FIRST_PAUSE.min(self.joining.interval);
        let mut attempts = 0;
        while self.is_alone() {
            match self.attempt(&self.joining.again).await {
                Attempt::Joined => return Ok(()),
                // The only address there is leads back here: there is nobody to wait for.
                Attempt::OnlyOwn => return Ok(()),
                Attempt::Nobody => {}
            }
            attempts += 1;
            if self.joining.attempts_max.is_some_and(|max| attempts >= max) {
                return Err(format!(
                    "nobody could be joined ({}) in {attempts} attempts (retry_max)",
                    self.kind
                ));
            }
            warn!(pool = self.kind, again_in = ?pause, "Join failed, will retry");
            sleep(pause).await;
            pause = (pause * 2).min(self.joining.interval);
        }
        Ok(())
    }

    /// Whether this node sees no other living member.
    fn is_alone(&self) -> bool {
        self.pool.members().iter().filter(|member| member.status == Status::Alive).count() <= 1
    }

    /// Tries all addresses.
    async fn attempt(&self, names: &[String]) -> Attempt {
        let mut addresses = Vec::new();
        for name in names {
            match resolve(name, self.port).await {
                Ok(found) => addresses.extend(found),
                Err(error) => warn!(pool = self.kind, %error, "an address to join cannot be used"),
            }
        }
        let outcome = self.pool.join(&addresses).await;
        for (address, why) in &outcome.failures {
            warn!(pool = self.kind, %address, %why, "could not join");
        }
        match outcome {
            outcome if outcome.joined > 0 => {
                info!(pool = self.kind, count = outcome.joined, "Join completed");
                Attempt::Joined
            }
            outcome if outcome.own > 0 && outcome.failures.is_empty() => Attempt::OnlyOwn,
            _ => Attempt::Nobody,
        }
    }
}

/// The addresses behind `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
pub(crate) async fn resolve(name: &str, default_port: u16) -> Result<Vec<SocketAddr>, AddressError> {
    let name = name.trim();
    if name.contains('=') {
        return Err(AddressError::Provider(name.to_owned()));
    }
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, default_port)]);
    }
    let not_found = |why: String| AddressError::NotFound { name: name.to_owned(), why };
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| not_found(format!("{port:?} is not a port")))?),
        None => (name, default_port),
    };
    match timeout(LOOK_UP_TIME, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(not_found("the look-up gave nothing".to_owned())) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(not_found(error.to_string())),
        Err(_) => Err(not_found(format!("no answer within {} s", LOOK_UP_TIME.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:8301"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("::1", "[::1]:8301"),
            ("[::1]", "[::1]:8301"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(resolve(text, 8301).await.unwrap(), [expected.parse().unwrap()], "{text}");
        }
        assert!(!resolve("localhost:7", 8301).await.unwrap().is_empty());
        let error = resolve("localhost:x", 8301).await.unwrap_err().to_string();
        assert!(error.contains("\"x\" is not a port"), "{error}");
        let error = resolve("provider=aws tag_key=a", 8301).await.unwrap_err();
        assert!(matches!(error, AddressError::Provider(_)));
    }
}
