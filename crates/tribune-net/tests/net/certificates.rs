//! Who is let in, and whom a dialer believes: every kind of certificate, in both directions.

use std::sync::Arc;

use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder, Pem};
use tribune_net::{ClientAuth, DialError, Dialer, Tls};

use crate::node::{Node, ask};
use crate::pki::{self, DAY, Odd, ca_params, confined_to, dc, issued, root};

const NO: &str = "refused";

/// What becomes of the holder of a certificate: as a client of a gateway (`Server`), of the port between nodes of dc1
/// (`Node`) and of a port that takes any certificate of the CA (`Required`); and as a server that is expected to be
/// one of dc1, or just anyone of the CA.
struct Case {
    name: &'static str,
    own: Pem,
    expected: [&'static str; 5],
}

fn case(name: &'static str, own: Pem, expected: [&'static str; 5]) -> Case {
    Case { name, own, expected }
}

/// The names a certificate would need, in a certificate that is otherwise right.
fn named(names: &[&str]) -> Odd {
    Odd::named(names)
}

const NAME: &[&str] = &["server.dc1.consul", "localhost"];
const ALL: [&str; 5] = ["server dc1", "server dc1", "server dc1", "hello", "hello"];
const NONE: [&str; 5] = [NO; 5];
/// A genuine certificate that names no node.
const ANONYMOUS: [&str; 5] = [NO, NO, "nobody", NO, "hello"];

struct World {
    /// All CAs that are believed, as a bundle.
    roots: String,
    good: Pem,
    cases: Vec<Case>,
}

fn world() -> World {
    let ca = pki::ca();
    let second = pki::ca();
    let plain = root(ca_params("plain root"));
    let confined = root(with(ca_params("confined root"), |it| {
        it.name_constraints = Some(confined_to(&["consul", "localhost"]));
    }));
    let elsewhere = root(with(ca_params("root of another domain"), |it| {
        it.name_constraints = Some(confined_to(&["other.example"]));
    }));
    let past = root(with(ca_params("root whose time is over"), |it| {
        it.not_after = (std::time::SystemTime::now() - DAY / 2).into();
    }));
    let roots = [&plain, &confined, &elsewhere, &past].map(|root| root.pem());
    let roots = format!("{}{}{}", ca.certificate, second.certificate, roots.concat());
    let good = issued(&ca, Holder::Server, "dc1");
    let mut cases = made_by_the_program(&ca, &second);
    cases.extend(of_odd_names(&plain));
    cases.extend(of_odd_uses_and_times(&plain));
    cases.extend(of_odd_chains(&plain));
    cases.extend([
        case("a CA confined to our domain", named(NAME).signed_by(&confined), ALL),
        case("a CA confined to another domain", named(NAME).signed_by(&elsewhere), NONE),
        case("a CA whose time is over", named(NAME).signed_by(&past), NONE),
    ]);
    World { roots, good, cases }
}

fn made_by_the_program(ca: &Pem, second: &Pem) -> Vec<Case> {
    let stranger = pki::ca();
    let confined =
        authority::create_ca(&CaRequest { name_constraints: Some(Vec::new()), ..CaRequest::default() });
    let of_node = authority::issue(
        ca,
        &CertificateRequest {
            node: Some("alpha".to_owned()),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            ..CertificateRequest::new(Holder::Server, dc("dc1"), "consul")
        },
    );
    vec![
        case("a server", issued(ca, Holder::Server, "dc1"), ALL),
        case("a server with its name and address", of_node.unwrap(), ALL),
        case(
            "a server of another datacenter",
            issued(ca, Holder::Server, "dc2"),
            ["server dc2", NO, "server dc2", NO, "hello"],
        ),
        case("a client", issued(ca, Holder::Client, "dc1"), [NO, "client dc1", "client dc1", NO, "hello"]),
        case(
            "a client of another datacenter",
            issued(ca, Holder::Client, "dc2"),
            [NO, NO, "client dc2", NO, "hello"],
        ),
        case("a person", issued(ca, Holder::Cli, "dc1"), ANONYMOUS),
        case("of the second of two CAs", issued(second, Holder::Server, "dc1"), ALL),
        case("of another CA", issued(&stranger, Holder::Server, "dc1"), NONE),
        case("of another, confined CA", issued(&confined.unwrap(), Holder::Server, "dc1"), NONE),
        case("a CA itself", ca.clone(), NONE),
    ]
}

fn of_odd_names(root: &rcgen::CertifiedIssuer<'_, KeyPair>) -> Vec<Case> {
    let common_name = |odd: Odd| {
        odd.with(|it| it.distinguished_name.push(DnType::CommonName, "server.dc1.consul")).signed_by(root)
    };
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    vec![
        case("a wildcard for a datacenter", named(&["*.dc1.consul"]).signed_by(root), ANONYMOUS),
        case("a wildcard for a role", named(&["server.*.consul"]).signed_by(root), ANONYMOUS),
        case("a wildcard for everything", named(&["*.consul"]).signed_by(root), ANONYMOUS),
        case("a common name alone", common_name(named(&[])), ANONYMOUS),
        case("a common name beside another name", common_name(named(&["localhost"])), ANONYMOUS),
        case("a name that goes on", named(&["server.dc1.consul.example"]).signed_by(root), ANONYMOUS),
        case("a name that begins earlier", named(&["a.server.dc1.consul"]).signed_by(root), ANONYMOUS),
        case("a name in another domain", named(&["server.dc1.example"]).signed_by(root), ANONYMOUS),
        case("a name without a datacenter", named(&["server.consul"]).signed_by(root), ANONYMOUS),
        case("a name in capitals", named(&["SERVER.DC1.CONSUL"]).signed_by(root), ALL),
        case(
            "a name as a URI",
            named(&[]).with(|it| it.subject_alt_names = vec![uri("server.dc1.consul")]).signed_by(root),
            ANONYMOUS,
        ),
        case(
            "the names of two datacenters",
            named(&["server.dc1.consul", "server.dc2.consul"]).signed_by(root),
            [NO, "server dc1", "nobody", "hello", "hello"],
        ),
        case(
            "both roles of one datacenter",
            named(&["client.dc1.consul", "server.dc1.consul"]).signed_by(root),
            ALL,
        ),
        case(
            "a server here and a client there",
            named(&["server.dc1.consul", "client.dc2.consul"]).signed_by(root),
            ["server dc1", "server dc1", "nobody", "hello", "hello"],
        ),
    ]
}

fn of_odd_uses_and_times(root: &rcgen::CertifiedIssuer<'_, KeyPair>) -> Vec<Case> {
    let for_use = |uses: &[ExtendedKeyUsagePurpose]| {
        named(NAME).with(|it| it.extended_key_usages = uses.to_vec()).signed_by(root)
    };
    let now = std::time::SystemTime::now();
    let between =
        |from, until| named(NAME).with(|it| (it.not_before, it.not_after) = (from, until)).signed_by(root);
    let of_key = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = named(NAME).params.signed_by(&key, root).unwrap();
        Pem { certificate: certificate.pem(), key: key.serialize_pem() }
    };
    vec![
        case("expired", between((now - DAY * 2).into(), (now - DAY).into()), NONE),
        case("not yet valid", between((now + DAY).into(), (now + DAY * 2).into()), NONE),
        case(
            "for servers only",
            for_use(&[ExtendedKeyUsagePurpose::ServerAuth]),
            [NO, NO, NO, "hello", "hello"],
        ),
        case(
            "for clients only",
            for_use(&[ExtendedKeyUsagePurpose::ClientAuth]),
            ["server dc1", "server dc1", "server dc1", NO, NO],
        ),
        case("for any use", for_use(&[]), ALL),
        case("for another use", for_use(&[ExtendedKeyUsagePurpose::CodeSigning]), NONE),
        case("with a P-384 key", of_key(&rcgen::PKCS_ECDSA_P384_SHA384), ALL),
        case("with an Ed25519 key", of_key(&rcgen::PKCS_ED25519), ALL),
        case("a self-signed one", named(NAME).self_signed(), NONE),
        case("a forged one", forged(named(NAME).signed_by(root)), NONE),
    ]
}

fn of_odd_chains(root: &rcgen::CertifiedIssuer<'_, KeyPair>) -> Vec<Case> {
    let below = |params: rcgen::CertificateParams, above: &rcgen::CertifiedIssuer<'_, KeyPair>| {
        rcgen::CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), above).unwrap()
    };
    let through = |middle: &rcgen::CertifiedIssuer<'_, KeyPair>| {
        let leaf = named(NAME).signed_by(middle);
        Pem { certificate: format!("{}{}", leaf.certificate, middle.pem()), key: leaf.key }
    };
    let middle = below(ca_params("middle"), root);
    let no_more = IsCa::Ca(BasicConstraints::Constrained(0));
    let last = below(with(ca_params("the last"), |it| it.is_ca = no_more), root);
    let beyond_last = below(ca_params("beyond the last"), &last);
    let over = with(ca_params("over"), |it| it.not_after = (std::time::SystemTime::now() - DAY / 2).into());
    let leaf = below(with(named(NAME).params, |it| it.is_ca = IsCa::ExplicitNoCa), root);
    let strange =
        rcgen::CertifiedIssuer::self_signed(ca_params("middle"), KeyPair::generate().unwrap()).unwrap();
    let confined =
        with(ca_params("confined"), |it| it.name_constraints = Some(confined_to(&["other.example"])));
    let long = {
        let leaf = named(NAME).signed_by(&beyond_last);
        let chain = [leaf.certificate, beyond_last.pem(), last.pem()].concat();
        Pem { certificate: chain, key: leaf.key }
    };
    vec![
        case("through a CA in the middle", through(&middle), ALL),
        case("with the CA in the middle left out", named(NAME).signed_by(&middle), NONE),
        case("through a CA that may have none below it", through(&last), ALL),
        case("through one CA too many", long, NONE),
        case("through a CA whose time is over", through(&below(over, root)), NONE),
        case("through a certificate that is no CA", through(&leaf), NONE),
        case("through a CA of the right name that nobody vouched for", through(&strange), NONE),
        case("through a CA confined to another domain", through(&below(confined, root)), NONE),
        case(
            "a CA as a node",
            Odd {
                params: with(ca_params("ca"), |it| {
                    it.subject_alt_names = named(NAME).params.subject_alt_names
                }),
            }
            .signed_by(root),
            NONE,
        ),
    ]
}

fn with<T>(mut it: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut it);
    it
}

/// The same certificate with one bit of its signature turned.
fn forged(genuine: Pem) -> Pem {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut bytes = CertificateDer::from_pem_slice(genuine.certificate.as_bytes()).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    Pem { certificate: pem_of(&bytes), key: genuine.key }
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn outcome(answer: Result<bytes::Bytes, DialError>, name: &str) -> String {
    match answer {
        Ok(text) => String::from_utf8(text.to_vec()).unwrap(),
        Err(DialError::Refused(_)) => NO.to_owned(),
        Err(other) => panic!("{name}: a refusal must be told as one, not as {other:?}"),
    }
}

#[tokio::test]
async fn nobody_is_wrongly_let_in_or_kept_out() {
    let World { roots, good, cases } = world();
    assert!(cases.len() >= 25, "{}", cases.len());
    let ours = Tls::from_pem(&roots, Some(&good), "consul").unwrap();
    let gateway = Node::tls(&ours, ClientAuth::Server(None)).await;
    let rpc = Node::tls(&ours, ClientAuth::Node(Some(dc("dc1")))).await;
    let any = Node::tls(&ours, ClientAuth::Required).await;
    for Case { name, own, expected } in &cases {
        let theirs = Tls::from_pem(&roots, Some(own), "consul").unwrap();
        let mut found = Vec::new();
        for node in [&gateway, &rpc, &any] {
            let dialer = Dialer::tls(theirs.clone(), true);
            found.push(outcome(ask(&dialer, &node.endpoint("dc1"), "/who").await, name));
        }
        let node = Node::tls(&theirs, ClientAuth::Server(None)).await;
        for verify_server_name in [true, false] {
            let dialer = Dialer::tls(ours.clone(), verify_server_name);
            found.push(outcome(ask(&dialer, &node.endpoint("dc1"), "/").await, name));
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn who_shows_no_certificate_is_let_in_only_where_none_is_needed() {
    let ca = pki::ca();
    let ours = pki::server(&ca, "dc1");
    let none = Tls::from_pem(&ca.certificate, None, "consul").unwrap();
    let dialer = Dialer::tls(none, true);
    for (auth, expected) in [
        (ClientAuth::Server(None), NO),
        (ClientAuth::Node(None), NO),
        (ClientAuth::Required, NO),
        (ClientAuth::Optional, "nobody"),
        (ClientAuth::None, "nobody"),
    ] {
        let node = Node::tls(&ours, auth.clone()).await;
        let found = outcome(ask(&dialer, &node.endpoint("dc1"), "/who").await, "none");
        assert_eq!(found, expected, "{auth:?}");
    }
    let node = Node::tls(&ours, ClientAuth::Optional).await;
    let stranger = issued(&pki::ca(), Holder::Server, "dc1");
    let dialer = Dialer::tls(pki::tls(&ca, &stranger), true);
    let found = outcome(ask(&dialer, &node.endpoint("dc1"), "/who").await, "stranger");
    assert_eq!(found, NO, "none is as good as a right one, but a wrong one is not");
    let dialer = Dialer::tls(pki::server(&ca, "dc2"), true);
    assert_eq!(ask(&dialer, &node.endpoint("dc1"), "/who").await.unwrap(), "server dc2");
}

#[tokio::test]
async fn a_certificate_is_of_no_use_without_its_key() {
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let ca = pki::ca();
    let node = Node::tls(&pki::server(&ca, "dc1"), ClientAuth::Server(None)).await;
    let (stolen, other) = (issued(&ca, Holder::Server, "dc1"), issued(&ca, Holder::Client, "dc1"));
    let of = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(other.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = CertifiedKey::new(vec![of(&stolen.certificate)], key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(of(&ca.certificate)).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let name = ServerName::try_from("server.dc1.consul").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let refused = match connector.connect(name, stream).await {
        Err(error) => error,
        Ok(mut stream) => {
            use tokio::io::AsyncReadExt;
            stream.read_u8().await.unwrap_err()
        }
    };
    assert!(refused.to_string().contains("DecryptError"), "{refused}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let ca = pki::ca();
    let node = Node::tls(&pki::server(&ca, "dc2"), ClientAuth::Server(None)).await;
    let told = |tls: Tls, datacenter: &'static str| {
        let to = node.endpoint(datacenter);
        async move { ask(&Dialer::tls(tls, true), &to, "/").await.unwrap_err().to_string() }
    };
    let text = told(pki::server(&ca, "dc1"), "dc1").await;
    assert!(text.contains("does not carry the DNS name server.dc1.consul"), "{text}");
    assert!(text.starts_with(&format!("{} in dc1: ", node.address)), "{text}");
    let text = told(pki::server(&pki::ca(), "dc1"), "dc2").await;
    assert!(text.contains("ca_file must hold the CA of both sides"), "{text}");
    let text = told(pki::tls(&ca, &issued(&pki::ca(), Holder::Server, "dc1")), "dc2").await;
    assert!(text.contains("it refused the connection"), "{text}");
    let text = told(Tls::from_pem("", None, "consul").unwrap(), "dc2").await;
    assert!(text.contains("set ca_file"), "{text}");
}

#[test]
fn a_listener_without_the_means_is_refused_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ca = pki::ca();
        let acceptor = || crate::node::acceptor();
        let none = Tls::from_pem(&ca.certificate, None, "consul").unwrap();
        let error = acceptor().await.with_tls(none, ClientAuth::None).unwrap_err().to_string();
        assert!(error.contains("cert_file") && error.contains("needed"), "{error}");
        let alone = Tls::from_pem("", Some(&issued(&ca, Holder::Server, "dc1")), "consul").unwrap();
        assert!(acceptor().await.with_tls(alone.clone(), ClientAuth::None).is_ok());
        let error = acceptor().await.with_tls(alone, ClientAuth::Required).unwrap_err().to_string();
        assert!(error.contains("ca_file"), "{error}");
    });
}
