//! Rules of the house that a compiler does not check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tribune_integration::Scenario;

/// Which of our crates each crate may use; what is not listed may use none.
const EDGES: [(&str, &[&str]); 10] = [
    ("api", &["core"]),
    ("net", &["core"]),
    ("raft", &["core"]),
    ("gossip", &["core"]),
    ("local", &["core"]),
    ("http", &["core", "api", "raft", "local"]),
    ("dns", &["core"]),
    ("wan", &["core", "api", "net"]),
    ("client", &["core", "api"]),
    ("tribune", &["core", "api", "net", "raft", "gossip", "local", "http", "dns", "wan", "client"]),
];
/// Names that say nothing about what lives there.
const NAMELESS: [&str; 9] =
    ["mod", "common", "util", "utils", "helper", "helpers", "manager", "misc", "prelude"];
/// Longer files hold a second noun; tests at the end of a file do not count.
const LINES_MAX: usize = 600;
/// Endpoints that must have a scenario folder: every one of the agent, catalog, health, status, key, session and
/// transaction families that clients and operators use.
const ENDPOINTS: [&str; 48] = [
    "agent-self",
    "agent-members",
    "agent-join",
    "agent-leave",
    "agent-force-leave",
    "agent-reload",
    "agent-maintenance",
    "agent-monitor",
    "agent-metrics",
    "agent-host",
    "agent-version",
    "agent-token",
    "agent-services",
    "agent-service",
    "agent-service-register",
    "agent-service-deregister",
    "agent-service-maintenance",
    "agent-checks",
    "agent-check-register",
    "agent-check-deregister",
    "agent-check-pass",
    "agent-check-warn",
    "agent-check-fail",
    "agent-check-update",
    "agent-health-service-id",
    "agent-health-service-name",
    "catalog-register",
    "catalog-deregister",
    "catalog-datacenters",
    "catalog-nodes",
    "catalog-services",
    "catalog-service",
    "catalog-node",
    "catalog-node-services",
    "health-node",
    "health-checks",
    "health-state",
    "health-service",
    "status-leader",
    "status-peers",
    "kv",
    "session-create",
    "session-destroy",
    "session-info",
    "session-list",
    "session-node",
    "session-renew",
    "txn",
];
/// Scenario folders about what all endpoints have in common.
const SHARED: &str = "transport";

#[test]
fn crates_use_only_what_is_below_them() {
    for manifest in manifests() {
        let name = manifest.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let name = name.strip_prefix("tribune-").unwrap_or(name);
        let allowed = EDGES.iter().find(|(from, _)| *from == name).map_or(&[][..], |(_, to)| to);
        for used in dependencies(&manifest) {
            assert!(allowed.contains(&used.as_str()), "{name} must not use {used}: it may use {allowed:?}");
        }
    }
}

#[test]
fn every_file_says_what_lives_there() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with `//!`", file.display());
    }
}

#[test]
fn files_are_short_and_named() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: look for the second noun", file.display());
        let name = file.file_stem().unwrap().to_str().unwrap();
        let in_source = file.components().any(|part| part.as_os_str() == "src");
        assert!(!(in_source && NAMELESS.contains(&name)), "{} has a name that says nothing", file.display());
    }
}

#[test]
fn every_endpoint_has_scenarios_and_every_folder_an_endpoint() {
    let folder = root().join("integration/scenarios");
    let folders: BTreeSet<_> =
        entries(&folder).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for endpoint in ENDPOINTS {
        assert!(folders.contains(endpoint), "no scenario for {endpoint}");
    }
    for scenario in Scenario::all(&folder).unwrap() {
        let name = scenario.path().parent().unwrap().file_name().unwrap().to_str().unwrap();
        let asked = scenario.targets().any(|target| {
            target.strip_prefix("/v1/").is_some_and(|path| path.replace('/', "-").starts_with(name))
        });
        assert!(asked || name == SHARED, "{} never asks its endpoint", scenario.path().display());
    }
}

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for folder in entries(&root().join("crates")) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn manifests() -> Vec<PathBuf> {
    entries(&root().join("crates")).into_iter().map(|folder| folder.join("Cargo.toml")).collect()
}

/// Our own crates under `[dependencies]`, without their prefix; tests may use more.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split([' ', '.', '=']).next().unwrap_or_default();
        if let Some(ours) = name.strip_prefix("tribune-")
            && section == "[dependencies]"
        {
            found.push(ours.to_owned());
        }
    }
    found
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["crates", "integration", "examples"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
