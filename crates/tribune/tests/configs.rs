//! Every example configuration is read without an error or a warning, and amounts to something.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::{Path, PathBuf};

use tribune::config::{Config, Source, Sources};
use tribune::settings::Settings;
use tribune_core::Datacenter;
use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder};

fn read(names: &[&str]) -> (Config, Settings) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
    let files = names.iter().map(|name| Source::Path(folder.join(name))).collect();
    let sources = Sources { files, ..Sources::default() };
    let (config, warnings) = sources.read().unwrap();
    assert_eq!(warnings, [], "{names:?}");
    let (settings, warnings) = Settings::resolve(&config).unwrap();
    assert_eq!(warnings, [], "{names:?}");
    (config, settings)
}

#[test]
fn the_single_server_is_the_same_in_hcl_and_json() {
    let (_, hcl) = read(&["single.hcl"]);
    let (_, json) = read(&["single.json"]);
    assert_eq!(hcl.network, json.network);
    assert_eq!(hcl.definitions, json.definitions);
    assert_eq!(hcl.definitions.services.len(), 1);
}

#[test]
fn the_production_server_has_its_services_beside_it() {
    let (_, settings) = read(&["server.hcl", "services.hcl"]);
    assert_eq!(settings.network.http.len(), 2);
    assert_eq!(settings.definitions.services.len(), 2);
    assert_eq!(settings.definitions.checks.len(), 1);
    assert_eq!(settings.dns.recursors.len(), 2);
}

/// The files name certificates where an installation has them; here they are where the test has made some.
#[test]
fn two_datacenters_know_each_other() {
    let [dc1, client, dc2] = ["dc1-server", "dc1-client", "dc2-server"].map(|name| {
        let folder = tempfile::tempdir().unwrap();
        let holder = if name.ends_with("client") { Holder::Client } else { Holder::Server };
        let certificates = certificates(folder.path(), holder, &name[..3]);
        let example = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
        let files = vec![Source::Path(example.join(format!("{name}.hcl"))), Source::Fragment(certificates)];
        let (config, warnings) = Sources { files, ..Sources::default() }.read().unwrap();
        assert_eq!(warnings, [], "{name}");
        let (settings, warnings) = Settings::resolve(&config).unwrap();
        assert_eq!(warnings, [], "{name}");
        settings
    });
    assert_eq!((dc1.datacenter.as_str(), dc2.datacenter.as_str()), ("dc1", "dc2"));
    assert_eq!(client.datacenter, dc1.datacenter);
    for (here, there) in [(&dc1, &dc2), (&dc2, &dc1)] {
        let (joined, told) = (&here.cluster.wan.again, there.network.advertise_wan.to_string());
        assert!(joined.contains(&told), "{told} is not among {joined:?}");
    }
    let key = |settings: &Settings| settings.cluster.gossip_key.clone();
    assert!(key(&dc1).is_some() && key(&dc1) == key(&client) && key(&dc1) != key(&dc2));
}

/// Makes a certificate and names its files.
fn certificates(folder: &Path, holder: Holder, datacenter: &str) -> String {
    let ca = authority::create_ca(&CaRequest::default()).unwrap();
    let datacenter = Datacenter::new(datacenter).unwrap();
    let pem = authority::issue(&ca, &CertificateRequest::new(holder, datacenter, "consul")).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, certificate) = (file("ca.pem", &ca.certificate), file("cert.pem", &pem.certificate));
    let key = file("key.pem", &pem.key);
    format!("ca_file = {ca:?}\ncert_file = {certificate:?}\nkey_file = {key:?}")
}

/// A file that no test reads would rot.
#[test]
fn no_example_is_left_out() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".hcl") || name.ends_with(".json"))
        .collect();
    names.sort();
    let expected = [
        "dc1-client.hcl",
        "dc1-server.hcl",
        "dc2-server.hcl",
        "server.hcl",
        "services.hcl",
        "single.hcl",
        "single.json",
    ];
    assert_eq!(names, expected);
}
