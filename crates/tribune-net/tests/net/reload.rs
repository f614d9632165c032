//! Certificates that are exchanged while there is traffic.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tribune_net::authority::{Holder, Pem};
use tribune_net::{ClientAuth, DialError, Dialer, Pace, Tls, TlsFiles};

use crate::node::{Node, ask, eventually};
use crate::pki::{self, issued};

fn bundle(authorities: &[&Pem]) -> String {
    authorities.iter().map(|it| it.certificate.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_is_exchanged_under_load_without_a_dropped_request() {
    let (old, new) = (pki::ca(), pki::ca());
    let ours = Tls::from_pem(&old.certificate, Some(&issued(&old, Holder::Server, "dc1")), "consul").unwrap();
    let theirs =
        Tls::from_pem(&old.certificate, Some(&issued(&old, Holder::Server, "dc2")), "consul").unwrap();
    let node = Node::tls(&ours, ClientAuth::Server(None)).await;
    let dialer = Dialer::tls(theirs.clone(), true);
    let to = node.endpoint("dc1");
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for worker in 0..8 {
        let (dialer, to) = (dialer.clone(), to.clone());
        let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
        load.spawn(async move {
            let path = if worker == 0 { "/wait/30" } else { "/who" };
            while !is_over.load(SeqCst) {
                let answer = ask(&dialer, &to, path).await.unwrap();
                assert!(answer == "server dc2" || answer == "waited", "{answer:?}");
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    let long = {
        let (dialer, to) = (dialer.clone(), to.clone());
        tokio::spawn(async move { ask(&dialer, &to, "/wait/1500").await })
    };
    let more = || {
        let before = answered.load(SeqCst);
        let answered = Arc::clone(&answered);
        eventually("more answers", move || answered.load(SeqCst) >= before + 50)
    };
    more().await;
    // First everyone believes both, then certificates change hands, then the old CA is forgotten.
    let (both, new_only) = (bundle(&[&old, &new]), bundle(&[&new]));
    let mut certificates = [issued(&old, Holder::Server, "dc1"), issued(&old, Holder::Server, "dc2")];
    let renewed = [issued(&new, Holder::Server, "dc1"), issued(&new, Holder::Server, "dc2")];
    for authorities in [&both, &both, &new_only] {
        for (at, tls) in [&ours, &theirs].into_iter().enumerate() {
            tls.replace(authorities, Some(&certificates[at])).unwrap();
            more().await;
        }
        certificates.clone_from(&renewed);
    }
    assert_eq!(long.await.unwrap().unwrap(), "waited", "a request that is under way ends as it began");
    is_over.store(true, SeqCst);
    while let Some(worker) = load.join_next().await {
        worker.unwrap();
    }
    let left_behind = Tls::from_pem(&both, Some(&issued(&old, Holder::Server, "dc2")), "consul").unwrap();
    let error = ask(&Dialer::tls(left_behind, true), &to, "/who").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn who_is_not_believed_any_more_loses_the_connection_too() {
    let (old, new) = (pki::ca(), pki::ca());
    let ours = pki::server(&old, "dc1");
    let node = Node::tls(&ours, ClientAuth::Server(None)).await;
    let both = bundle(&[&old, &new]);
    let theirs = Tls::from_pem(&both, Some(&issued(&old, Holder::Server, "dc2")), "consul").unwrap();
    let (dialer, to) = (Dialer::tls(theirs, true), node.endpoint("dc1"));
    assert_eq!(ask(&dialer, &to, "/who").await.unwrap(), "server dc2");
    ours.replace(&new.certificate, Some(&issued(&new, Holder::Server, "dc1"))).unwrap();
    eventually("the connection is given up", || dialer.connections() == 0).await;
    let error = ask(&dialer, &to, "/who").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

fn put(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// The same dialer without the connections that are open already.
fn anew(dialer: &Dialer) -> Dialer {
    dialer.clone().with_pace(Pace::default())
}

#[tokio::test]
async fn files_are_read_again_and_wrong_ones_change_nothing() {
    let ca = pki::ca();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pair = |pem: &Pem| {
        put(folder, "cert.pem", &pem.certificate);
        put(folder, "key.pem", &pem.key);
    };
    put(folder, "ca.pem", &ca.certificate);
    pair(&issued(&ca, Holder::Server, "dc1"));
    let path = |name: &str| Some(folder.join(name));
    let files = TlsFiles {
        ca_file: path("ca.pem"),
        cert_file: path("cert.pem"),
        key_file: path("key.pem"),
        ..TlsFiles::default()
    };
    let tls = Tls::load(&files, "consul").unwrap();
    let node = Node::tls(&tls, ClientAuth::Server(None)).await;
    let dialer = Dialer::tls(pki::server(&ca, "dc2"), true);
    let is_now = async |datacenter: &str| {
        let other = if datacenter == "dc1" { "dc2" } else { "dc1" };
        assert_eq!(ask(&anew(&dialer), &node.endpoint(datacenter), "/").await.unwrap(), "hello");
        assert!(ask(&anew(&dialer), &node.endpoint(other), "/").await.is_err());
    };
    is_now("dc1").await;
    let refused = |expected: &str| {
        let error = tls.reload(&files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let moved = issued(&ca, Holder::Server, "dc2");
    put(folder, "cert.pem", &moved.certificate);
    refused("does not belong to the key");
    put(folder, "key.pem", "-----BEGIN PRIVATE KEY-----\nMIG");
    refused("key.pem: holds no private key");
    put(folder, "cert.pem", &moved.certificate[..200]);
    refused("cert.pem: ");
    put(folder, "ca.pem", "");
    refused("ca.pem: holds no certificate");
    fs::remove_file(folder.join("ca.pem")).unwrap();
    refused("ca.pem: cannot be read");
    is_now("dc1").await;
    put(folder, "ca.pem", &ca.certificate);
    pair(&moved);
    tls.reload(&files).unwrap();
    is_now("dc2").await;
    assert!(tls.expiry().unwrap() > std::time::SystemTime::now());

    put(folder, "cert-2.pem", &issued(&ca, Holder::Server, "dc1").certificate);
    let elsewhere = TlsFiles { cert_file: path("cert-2.pem"), ..files.clone() };
    let error = tls.reload(&elsewhere).unwrap_err().to_string();
    assert!(
        error.contains("cert-2.pem does not belong") || error.contains("cert-2.pem: does not belong"),
        "{error}"
    );
    for (given_up, key) in [
        (TlsFiles { cert_file: None, key_file: None, ..files.clone() }, "cert_file"),
        (TlsFiles { ca_file: None, ..files.clone() }, "ca_file"),
    ] {
        let error = tls.reload(&given_up).unwrap_err();
        assert_eq!(error.key, key, "{error}");
    }
    tls.reload(&files).unwrap();
    is_now("dc2").await;
    let again = issued(&ca, Holder::Server, "dc1");
    put(folder, "cert-2.pem", &again.certificate);
    put(folder, "key-2.pem", &again.key);
    let elsewhere = TlsFiles { cert_file: path("cert-2.pem"), key_file: path("key-2.pem"), ..files.clone() };
    tls.reload(&elsewhere).unwrap();
    is_now("dc1").await;
}

/// A federation one of whose certificates ends soon: its bundle, and the TLS of a server in dc1 and one in dc2.
fn short_lived(name: &str) -> (Tls, Tls) {
    let ca = pki::ca();
    let root = pki::root(pki::ca_params("short-lived"));
    let soon = std::time::SystemTime::now() + Duration::from_secs(3);
    let own = pki::Odd::named(&[name]).with(|it| it.not_after = soon.into()).signed_by(&root);
    let roots = format!("{}{}", ca.certificate, root.pem());
    let short = Tls::from_pem(&roots, Some(&own), "consul").unwrap();
    let datacenter = if name.contains("dc1") { "dc2" } else { "dc1" };
    let long = Tls::from_pem(&roots, Some(&issued(&ca, Holder::Server, datacenter)), "consul").unwrap();
    (short, long)
}

#[tokio::test]
async fn who_was_dialled_gives_up_a_connection_whose_certificate_is_over() {
    let (theirs, ours) = short_lived("server.dc2.consul");
    let node = Node::tls(&ours, ClientAuth::Server(None)).await;
    let (dialer, to) = (Dialer::tls(theirs, true), node.endpoint("dc1"));
    assert_eq!(ask(&dialer, &to, "/who").await.unwrap(), "server dc2");
    eventually("the connection is given up", || dialer.connections() == 0).await;
    let error = ask(&dialer, &to, "/who").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn who_dialled_gives_up_a_connection_whose_certificate_is_over() {
    let (theirs, ours) = short_lived("server.dc1.consul");
    let node = Node::tls(&theirs, ClientAuth::None).await;
    let (dialer, to) = (Dialer::tls(ours, true), node.endpoint("dc1"));
    assert_eq!(ask(&dialer, &to, "/").await.unwrap(), "hello");
    eventually("the connection is given up", || dialer.connections() == 0).await;
    let error = ask(&dialer, &to, "/").await.unwrap_err();
    assert!(matches!(&error, DialError::Refused(why) if why.contains("renew it")), "{error:?}");
}
