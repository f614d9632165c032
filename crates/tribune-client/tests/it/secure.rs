//! Agents behind TLS and behind a Unix socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tribune_client::{Address, Client, Config, Error, Failure, Tls, catalog};

use crate::server::config;

const NAME: &str = "server.dc1.consul";

struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// An agent with a certificate for [`NAME`] that demands one of this authority from its clients.
    async fn agent(&self) -> Address {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let (certificate, key) = self.issue(NAME);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", tcp.local_addr().unwrap()).parse().unwrap();
        let listener = TlsListener { tcp, acceptor: Arc::new(tls).into() };
        tokio::spawn(async move { axum::serve(listener, agent()).await });
        address
    }

    fn client_tls(&self) -> Tls {
        let (certificate, key) = self.issue("client.dc1.consul");
        Tls {
            authorities: vec![self.pem()],
            certificate: Some(certificate.pem().into_bytes()),
            key: Some(key.serialize_pem().into_bytes()),
            server_name: Some(NAME.into()),
            skip_verify: false,
        }
    }
}

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn agent() -> Router {
    Router::new().fallback(|| async { "[\"dc1\"]" })
}

async fn ask(address: &Address, tls: Tls) -> Result<Vec<String>, Error> {
    let client = Client::new(Config { tls, ..config(&[address]) })?;
    client.ask(&catalog::datacenters()).await?.fresh()
}

#[tokio::test]
async fn an_agent_is_known_by_the_name_in_its_certificate() {
    let pki = Pki::new();
    let address = pki.agent().await;
    assert_eq!(ask(&address, pki.client_tls()).await.unwrap(), ["dc1"]);
    let unverified = Tls { skip_verify: true, server_name: None, ..pki.client_tls() };
    assert_eq!(ask(&address, unverified).await.unwrap(), ["dc1"]);
}

#[tokio::test]
async fn any_other_agent_is_not_trusted() {
    let pki = Pki::new();
    let address = pki.agent().await;
    let other_name = Tls { server_name: Some("server.dc2.consul".into()), ..pki.client_tls() };
    let by_address = Tls { server_name: None, ..pki.client_tls() };
    let other_authority = Tls { authorities: vec![Pki::new().pem()], ..pki.client_tls() };
    for tls in [other_name, by_address, other_authority] {
        let error = ask(&address, tls).await.unwrap_err();
        let Error::Unavailable { last: Failure::Connect { reason, .. }, .. } = error else {
            panic!("{error:?}")
        };
        assert!(reason.contains("certificate"), "{reason}");
    }
}

#[tokio::test]
async fn an_agent_that_wants_a_certificate_gets_one_or_refuses() {
    let pki = Pki::new();
    let address = pki.agent().await;
    let anonymous = Tls { certificate: None, key: None, ..pki.client_tls() };
    assert!(matches!(ask(&address, anonymous).await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn unusable_certificates_are_refused_at_once() {
    let address: Address = "https://127.0.0.1:1".parse().unwrap();
    let pki = Pki::new();
    let half = Tls { key: None, ..pki.client_tls() };
    let garbage = Tls { authorities: vec![b"garbage".to_vec()], ..Tls::default() };
    let broken = Tls { key: Some(b"garbage".to_vec()), ..pki.client_tls() };
    for tls in [half, garbage, broken] {
        let told = ask(&address, tls).await;
        assert!(matches!(told, Err(Error::Settings(_))), "{told:?}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, agent()).await });
    let address = format!("unix://{}", path.display()).parse().unwrap();
    assert_eq!(ask(&address, Tls::default()).await.unwrap(), ["dc1"]);
    task.abort();
}
