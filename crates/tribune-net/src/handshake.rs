//! TLS on a connection that has just been opened, from either side.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{DnsName, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::certificates::{Material, Tls, TlsError};
use crate::failure::{self, DialError};
use crate::identity::{self, PeerIdentity};
use crate::trust::{ClientAuth, Expected, Trust};

/// Ordinary HTTP.
const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What a dialer offers.
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// A connection on which the side that was called asks and the caller answers.
pub(crate) const ALPN_REVERSE: &[u8] = b"tribune-reverse";

/// Longest time until a certificate ends that a timer is set for: no connection lives longer.
const EXPIRY_FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The TLS of an acceptor.
pub(crate) struct Gate {
    tls: Tls,
    auth: ClientAuth,
    takes_reverse: bool,
    made: Mutex<Option<(Arc<Material>, Arc<ServerConfig>)>>,
    turns: Semaphore,
    timeout: Duration,
}

/// A connection after its handshake.
pub(crate) struct Secured {
    pub(crate) stream: server::TlsStream<TcpStream>,
    pub(crate) identity: Option<PeerIdentity>,
    pub(crate) is_reverse: bool,
    /// Changes when certificates are loaded that this connection was not made with.
    pub(crate) changes: watch::Receiver<u64>,
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("the handshake did not end in time")]
    TimedOut,
    #[error("as many handshakes as may be were under way for all that time")]
    Crowded,
    /// One side would not have the other.
    #[error("{0}")]
    Refused(String),
    /// Whoever connected did not speak TLS, or went away: scanners and probes do that all day.
    #[error("{0}")]
    Failed(String),
    #[error("no handshake is possible: {0}")]
    Unprepared(TlsError),
}

impl Gate {
    pub(crate) fn new(
        tls: Tls,
        auth: ClientAuth,
        handshakes_max: usize,
        timeout: Duration,
    ) -> Result<Self, TlsError> {
        let gate = Self {
            tls,
            auth,
            takes_reverse: false,
            made: Mutex::new(None),
            turns: Semaphore::new(handshakes_max),
            timeout,
        };
        gate.config()?;
        Ok(gate)
    }

    pub(crate) fn take_reverse(&mut self) {
        self.takes_reverse = true;
        *self.made.get_mut() = None;
    }

    /// Performs the handshake, after waiting for a turn: those who begin one and do not go on must not be more
    /// than there is room for.
    pub(crate) async fn pass(&self, stream: TcpStream) -> Result<Secured, GateError> {
        let turn = timeout(self.timeout, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| GateError::Crowded)?;
        let changes = self.tls.changes();
        let acceptor = TlsAcceptor::from(self.config().map_err(GateError::Unprepared)?);
        let stream = timeout(self.timeout, acceptor.accept(stream))
            .await
            .map_err(|_| GateError::TimedOut)?
            .map_err(|error| failed(&error))?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let identity = shown.and_then(|it| self.auth.identity(it, self.tls.domain()));
        let is_reverse = session.alpn_protocol() == Some(ALPN_REVERSE);
        Ok(Secured { stream, identity, is_reverse, changes })
    }

    /// The configuration for the certificates in force, made once for each set of them.
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let current = self.tls.current();
        let mut made = self.made.lock();
        if let Some((material, config)) = made.as_ref()
            && Arc::ptr_eq(material, &current)
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(&current)?);
        *made = Some((current, Arc::clone(&config)));
        Ok(config)
    }

    fn make(&self, material: &Arc<Material>) -> Result<ServerConfig, TlsError> {
        let nowhere = |key, why: &str| TlsError::new(key, "(not set)".as_ref(), why);
        let Some(own) = material.own.clone() else {
            return Err(nowhere("cert_file", "is needed to take TLS connections, and key_file with it"));
        };
        let versions = self.tls.min_version().spoken();
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.tls.provider()))
            .with_protocol_versions(versions)
            .map_err(|error| nowhere("tls_min_version", &error.to_string()))?;
        let builder = if self.auth.asks() {
            if material.authorities.is_empty() {
                let why = "is needed to tell the certificates of those who connect from forged ones";
                return Err(nowhere("ca_file", why));
            }
            let judge = Trust::new(self.auth.clone(), &self.tls, Arc::clone(material));
            builder.with_client_cert_verifier(Arc::new(judge))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
        config.alpn_protocols = ALPN_HTTP.iter().map(|it| it.to_vec()).collect();
        if self.takes_reverse {
            config.alpn_protocols.push(ALPN_REVERSE.to_vec());
        }
        // A resumed session would be let in on the strength of a certificate that may have ended since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// What the log says of a handshake that we or the other side gave up.
fn failed(error: &io::Error) -> GateError {
    match failure::of_tls(error) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = failure::judged(why);
            GateError::Refused(format!("the certificate of the client is not accepted: {why}"))
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            let why = "the client showed no certificate; give it one of our CA with cert_file and key_file";
            GateError::Refused(why.to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            GateError::Refused(format!("the client refused our certificate ({alert:?})"))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            GateError::Failed("the client does not speak TLS".to_owned())
        }
        _ => GateError::Failed(error.to_string()),
    }
}

/// Resolves when the certificate of the other side is over, and with it the reason to believe it.
pub(crate) async fn until_expired(identity: Option<&PeerIdentity>) {
    let left = |it: &PeerIdentity| it.expires.duration_since(SystemTime::now()).unwrap_or_default();
    match identity.map(left).filter(|left| *left < EXPIRY_FAR) {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

/// TLS as the side that called, towards whom we expect. Gives the stream and who answered.
pub(crate) async fn call(
    tls: &Tls,
    material: Arc<Material>,
    stream: TcpStream,
    whom: (&str, Expected),
    alpn: &[u8],
) -> Result<(client::TlsStream<TcpStream>, Option<PeerIdentity>), DialError> {
    let (name, expected) = whom;
    let wanted = match &expected {
        Expected::Anyone => None,
        Expected::ServerOf(datacenter) => Some(datacenter.clone()),
    };
    let name = match DnsName::try_from(name.to_owned()) {
        Ok(name) => ServerName::DnsName(name),
        Err(_) => ServerName::IpAddress(stream.peer_addr().map_err(gone)?.ip().into()),
    };
    let config = client_config(tls, material, expected, alpn)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| failure::of_handshake(&error))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(alpn) {
        let spoken = String::from_utf8_lossy(alpn).into_owned();
        return Err(DialError::Refused(format!("it does not speak {spoken} there: another program listens")));
    }
    let shown = session.peer_certificates().and_then(<[_]>::first);
    let identity = shown.and_then(|it| identity::single(identity::claims(it, tls.domain()), wanted.as_ref()));
    Ok((stream, identity))
}

fn gone(error: io::Error) -> DialError {
    DialError::Unreachable(format!("the connection was gone at once: {error}"))
}

fn client_config(
    tls: &Tls,
    material: Arc<Material>,
    expected: Expected,
    alpn: &[u8],
) -> Result<ClientConfig, DialError> {
    if material.authorities.is_empty() {
        let why = "no CA is known here, so nobody's certificate can be accepted: set ca_file";
        return Err(DialError::Refused(why.to_owned()));
    }
    let own = material.own.clone();
    let judge = Trust::new(expected, tls, material);
    let builder = ClientConfig::builder_with_provider(Arc::clone(tls.provider()))
        .with_protocol_versions(tls.min_version().spoken())
        .map_err(|error| DialError::Refused(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge));
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
