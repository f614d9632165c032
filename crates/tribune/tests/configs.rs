//! Every example configuration is read without an error or a warning, and amounts to something.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::PathBuf;

use tribune::config::{Config, Source, Sources};
use tribune::settings::Settings;

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
    assert_eq!(names, ["server.hcl", "services.hcl", "single.hcl", "single.json"]);
}
