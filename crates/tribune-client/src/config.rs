//! What a client is told at its start: whom to ask, who it is, and how patient it is. Files and the environment
//! are the business of the program; here everything is a value.

use std::fmt;
use std::time::Duration;

use crate::address::Address;
use crate::{breaker, retry};

/// Settings of a [`Client`](crate::Client).
///
/// ```
/// use tribune_client::{Config, Token};
///
/// let config = Config {
///     addresses: vec!["http://10.0.0.1:8500".parse()?, "http://10.0.0.2:8500".parse()?],
///     token: Some(Token::new("b1gs33cr3t")),
///     ..Config::default()
/// };
/// assert!(!format!("{config:?}").contains("b1gs33cr3t"));
/// # Ok::<(), tribune_client::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// Agents of one datacenter, the preferred one first. The others are asked when it does not serve; whoever
    /// answered last is asked first the next time.
    pub addresses: Vec<Address>,
    /// Sent with every request.
    pub token: Option<Token>,
    /// User and password for a proxy that asks for them (HTTP basic authentication).
    pub credentials: Option<(String, Token)>,
    /// For `https` addresses.
    pub tls: Tls,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take. A blocking query may take that much longer than it was to wait.
    pub request_timeout: Duration,
    /// How long one question of a watch waits for a change before it is asked again; the longest that an agent
    /// allows is ten minutes. Shorter notices sooner that a connection has silently died.
    pub watch_wait: Duration,
    /// When requests are repeated.
    pub retry: retry::Policy,
    /// When an agent that fails is left alone for a while.
    pub breaker: breaker::Thresholds,
    /// How many answers are remembered for the time when all agents are away; 0 switches it off.
    pub answers_kept_max: usize,
    /// Larger answers are refused, in bytes.
    pub answer_bytes_max: usize,
}

impl Config {
    /// Largest answer that is read, unless configured otherwise: a hundred thousand instances of one service
    /// take about 60 MB.
    pub const ANSWER_BYTES_MAX: usize = 128 << 20;
    /// Remembered answers unless configured otherwise: more services than one application talks to.
    pub const ANSWERS_KEPT_MAX: usize = 256;
}

impl Default for Config {
    /// The agent on this machine, 5 s per request, repetition, circuit breaker and remembered answers on.
    fn default() -> Self {
        Self {
            addresses: vec![Address::local()],
            token: None,
            credentials: None,
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            watch_wait: Duration::from_secs(60),
            retry: retry::Policy::default(),
            breaker: breaker::Thresholds::default(),
            answers_kept_max: Self::ANSWERS_KEPT_MAX,
            answer_bytes_max: Self::ANSWER_BYTES_MAX,
        }
    }
}

/// Certificates for `https` addresses, as the contents of PEM files.
#[derive(Clone, Default)]
pub struct Tls {
    /// Authorities that may vouch for agents; empty means those the operating system trusts.
    pub authorities: Vec<Vec<u8>>,
    /// This client's certificate with its chain, if agents ask for one.
    pub certificate: Option<Vec<u8>>,
    /// The private key of `certificate`.
    pub key: Option<Vec<u8>>,
    /// The name expected in the agent's certificate, if it is not the host in its address
    /// (`server.dc1.consul`).
    pub server_name: Option<String>,
    /// Takes any certificate. For experiments: whoever is on the road can read and change everything.
    pub skip_verify: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.len())
            .field("certificate", &self.certificate.is_some())
            .field("server_name", &self.server_name)
            .field("skip_verify", &self.skip_verify)
            .finish_non_exhaustive()
    }
}

/// A secret that does not show when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}
