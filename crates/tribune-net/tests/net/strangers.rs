//! Who connects without speaking as nodes do, and what listens where a node is expected: plain text, old versions,
//! garbage, half a handshake, silence.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tribune_net::{
    Acceptor, ClientAuth, DialError, Dialer, Endpoint, Limits, Pace, Tls, TlsFiles, TlsVersion,
};

use crate::node::{Node, PATIENCE, ask};
use crate::pki::{self, dc};

/// A handshake message of a client, with nothing that says it knows anything newer than `version`.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = Vec::from(version);
    body.extend([7; 32]);
    // No session, two cipher suites of old, no compression, no extension.
    body.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    handshake(1, &body)
}

/// The answer of a server that speaks no version but this.
fn server_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = Vec::from(version);
    body.extend([7; 32]);
    body.extend([0, 0xc0, 0x13, 0]);
    let mut record = handshake(2, &body);
    record[1..3].copy_from_slice(&version);
    record
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut record = vec![22, 3, 1];
    record.extend(length(body.len() + 4));
    record.extend([kind, 0]);
    record.extend(length(body.len()));
    record.extend(body);
    record
}

/// Sends these bytes and gives everything that comes back until the other side closes.
async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _reset =
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection was not closed");
    answer
}

/// Whether an answer is an alert of TLS that ends the handshake, and nothing else.
fn is_alert(answer: &[u8]) -> bool {
    matches!(answer, [21, 3, _, 0, 2, 2, _])
}

async fn impatient(tls: &Tls, handshakes_max: usize) -> Node {
    let limits = Limits { handshake_timeout: Duration::from_millis(300), handshakes_max, ..Limits::nodes() };
    let acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limits);
    Node::start(acceptor.with_tls(tls.clone(), ClientAuth::Server(None)).unwrap())
}

#[tokio::test]
async fn whoever_does_not_speak_tls_of_today_is_turned_away() {
    let ca = pki::ca();
    let node = impatient(&pki::server(&ca, "dc1"), 64).await;
    for (name, version) in [("ssl 3", [3, 0]), ("tls 1.0", [3, 1]), ("tls 1.1", [3, 2])] {
        let answer = say(node.address, &client_hello(version)).await;
        assert!(is_alert(&answer), "{name}: {answer:?}");
    }
    let ssl_2 = [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    let mut half = client_hello([3, 3]);
    half.truncate(20);
    let cases: [(&str, &[u8]); 7] = [
        ("http/1", b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ("ssl 2", &ssl_2),
        ("garbage", &[0xa5; 4096]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("half a handshake", &half),
        ("nothing", b""),
    ];
    for (name, bytes) in cases {
        let answer = say(node.address, bytes).await;
        let is_clean = answer.is_empty() || (answer.len() == 7 && answer[0] == 21);
        assert!(is_clean, "{name}: {}", String::from_utf8_lossy(&answer));
    }
    let error = ask(&Dialer::plain(), &node.endpoint("dc1"), "/who").await.unwrap_err();
    assert!(error.is_unprocessed(), "plain text: {error:?}");
    let good = Dialer::tls(pki::server(&ca, "dc2"), true);
    assert_eq!(ask(&good, &node.endpoint("dc1"), "/who").await.unwrap(), "server dc2");
}

#[tokio::test]
async fn those_who_stall_in_a_handshake_leave_room_for_others() {
    let ca = pki::ca();
    let node = impatient(&pki::server(&ca, "dc1"), 4).await;
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(&client_hello([3, 3])[..20]).await.unwrap();
        stalled.push(stream);
    }
    let good = Dialer::tls(pki::server(&ca, "dc2"), true);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = ask(&good, &node.endpoint("dc1"), "/who").await {
        assert!(error.is_unprocessed() && Instant::now() < deadline, "{error:?}");
    }
    for mut stream in stalled {
        let mut rest = Vec::new();
        let _reset = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("a stalled one was kept");
    }
}

#[tokio::test]
async fn versions_of_tls_are_kept_to() {
    let ca = pki::ca();
    let folder = tempfile::tempdir().unwrap();
    let own = pki::issued(&ca, tribune_net::authority::Holder::Server, "dc1");
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let files = TlsFiles {
        ca_file: put("ca.pem", &ca.certificate),
        cert_file: put("cert.pem", &own.certificate),
        key_file: put("key.pem", &own.key),
        ..TlsFiles::default()
    };
    let newest = TlsFiles { min_version: TlsVersion::V1_3, ..files.clone() };
    let (both, newest) = (Tls::load(&files, "consul").unwrap(), Tls::load(&newest, "consul.").unwrap());
    let lenient = Node::tls(&both, ClientAuth::None).await;
    let strict = Node::tls(&newest, ClientAuth::None).await;
    for (node, version, is_taken) in [
        (&lenient, &rustls::version::TLS12, true),
        (&lenient, &rustls::version::TLS13, true),
        (&strict, &rustls::version::TLS12, false),
        (&strict, &rustls::version::TLS13, true),
    ] {
        assert_eq!(handshakes(node.address, &ca.certificate, version).await, is_taken, "{version:?}");
    }
    let dialer = Dialer::tls(newest, true);
    assert_eq!(ask(&dialer, &lenient.endpoint("dc1"), "/").await.unwrap(), "hello");
}

async fn handshakes(to: SocketAddr, ca: &str, version: &'static rustls::SupportedProtocolVersion) -> bool {
    shake(to, ca, version, &[]).await.is_ok()
}

/// The TLS of an ordinary client without a certificate.
async fn shake(
    to: SocketAddr,
    ca: &str,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    let stream = TcpStream::connect(to).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("server.dc1.consul").unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    timeout(PATIENCE, connector.connect(name, stream)).await.unwrap()
}

#[tokio::test]
async fn ordinary_clients_are_served_over_tls_and_counted() {
    let ca = pki::ca();
    let limits = Limits { per_client_max: Some(2), loopback_limited: true, ..Limits::new("too many") };
    let acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limits);
    let node = Node::start(acceptor.with_tls(pki::server(&ca, "dc1"), ClientAuth::Optional).unwrap());
    let connect =
        async |alpn: &[&[u8]]| shake(node.address, &ca.certificate, &rustls::version::TLS13, alpn).await;
    let mut open = Vec::new();
    for alpn in [&[][..], &[b"h2".as_slice(), b"http/1.1"]] {
        let mut stream = connect(alpn).await.unwrap();
        if alpn.is_empty() {
            stream.write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            let read = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("nobody"), "{answer}");
        }
        open.push(stream);
    }
    assert_eq!(open[1].get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    assert!(connect(&[]).await.is_err(), "beyond the share");
    drop(open);
    let deadline = Instant::now() + PATIENCE;
    while connect(&[b"http/1.1"]).await.is_err() {
        assert!(Instant::now() < deadline, "the share was not given back");
    }
}

/// Listens, says these bytes to everyone who connects, and closes, or keeps silent for good.
async fn fake(says: Option<Vec<u8>>) -> (Endpoint, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            match &says {
                None => kept.push(stream),
                Some(bytes) => {
                    let _asked = stream.read(&mut [0; 2048]).await;
                    let _said = stream.write_all(bytes).await;
                    let _closed = stream.shutdown().await;
                    let _rest = timeout(Duration::from_secs(1), stream.read(&mut [0; 2048])).await;
                }
            }
        }
    });
    (Endpoint { address, datacenter: dc("dc1") }, task)
}

#[tokio::test]
async fn what_listens_in_the_place_of_a_node_gets_no_request() {
    let ca = pki::ca();
    let pace = Pace { connect_timeout: Duration::from_millis(500), ..Pace::default() };
    let tls = || Dialer::tls(pki::server(&ca, "dc2"), true).with_pace(pace);
    let plain = || Dialer::plain().with_pace(pace);
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec();
    let cases: Vec<(&str, Dialer, Option<Vec<u8>>)> = vec![
        ("closes, tls", tls(), Some(Vec::new())),
        ("closes, plain", plain(), Some(Vec::new())),
        ("is silent, tls", tls(), None),
        ("is silent, plain", plain(), None),
        ("speaks http/1, tls", tls(), Some(http.clone())),
        ("speaks http/1, plain", plain(), Some(http)),
        ("speaks garbage, tls", tls(), Some(vec![0xa5; 4096])),
        ("speaks garbage, plain", plain(), Some(vec![0xa5; 4096])),
        ("speaks tls 1.0, tls", tls(), Some(server_hello([3, 1]))),
        ("speaks tls 1.1, tls", tls(), Some(server_hello([3, 2]))),
        ("stops in the middle, tls", tls(), Some(server_hello([3, 3])[..20].to_vec())),
        ("stops in the middle, plain", plain(), Some(vec![0, 0])),
        ("alerts, tls", tls(), Some(vec![21, 3, 3, 0, 2, 2, 40])),
    ];
    for (name, dialer, says) in cases {
        let (to, task) = fake(says).await;
        let error = ask(&dialer, &to, "/").await.unwrap_err();
        assert!(error.is_unprocessed(), "{name}: {error:?}");
        assert!(error.to_string().starts_with(&format!("{to}: ")), "{name}: {error}");
        task.abort();
    }
    let secured = Node::tls(&pki::server(&ca, "dc1"), ClientAuth::None).await;
    let error = ask(&plain(), &secured.endpoint("dc1"), "/").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_) | DialError::Unreachable(_)), "{error:?}");
    let open = Node::plain().await;
    let error = ask(&tls(), &open.endpoint("dc1"), "/").await.unwrap_err();
    assert!(error.is_unprocessed(), "{error:?}");
    let gone = open.endpoint("dc1");
    open.stop().await;
    let error = ask(&plain(), &gone, "/").await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
}
