//! Prometheus discovering its targets through the HTTP API.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tribune_integration::{Client, Request, eventually, free_port};

use super::Web;
use crate::LIMIT;

#[test]
fn prometheus_discovers_three_targets_with_tags_and_metadata() {
    let Some(prometheus) = Client::find("prometheus") else { return };
    if !knows_consul(&prometheus) {
        return Client::missing(
            "this build of prometheus has no consul_sd_configs; Debian 11 has one that does",
        );
    }
    let web = Web::start();
    let folder = web.node.folder();
    let configuration = folder.join("prometheus.yml");
    fs::write(&configuration, text(web.node.http().port())).unwrap();
    let port = free_port().unwrap();
    let arguments = [
        format!("--config.file={}", configuration.display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _prometheus = Client::start(&prometheus, &arguments, &folder.join("prometheus.log")).unwrap();

    let mut targets = Vec::new();
    let done = eventually("Prometheus scrapes all three", LIMIT, || {
        let Ok(answer) = Request::new("GET", "/api/v1/targets").send(([127, 0, 0, 1], port).into()) else {
            return Ok(false);
        };
        if answer.status != 200 {
            return Ok(false);
        }
        targets = answer.json()?["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        Ok(targets.len() == 3 && targets.iter().all(|target| target["health"] == "up"))
    });
    let log = fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default();
    assert!(done.is_ok(), "targets: {targets:#?}\n{log}");
    for backend in &web.backends {
        let address = backend.address().to_string();
        let found = targets.iter().find(|target| target["labels"]["instance"] == address.as_str());
        check(&found.expect("a target for every backend")["discoveredLabels"], backend.name());
    }
}

/// Debian 12 builds Prometheus without this discovery; the build that has it carries the name of its labels.
fn knows_consul(prometheus: &Path) -> bool {
    const LABEL: &[u8] = b"__meta_consul_";
    fs::read(prometheus).unwrap().windows(LABEL.len()).any(|window| window == LABEL)
}

fn check(labels: &Value, name: &str) {
    let expected = [
        ("__meta_consul_dc", "dc1"),
        ("__meta_consul_node", "scenario"),
        ("__meta_consul_service", "web"),
        ("__meta_consul_service_id", &format!("web-{name}")),
        ("__meta_consul_service_metadata_colour", name),
        ("__meta_consul_tags", &format!(",http,{name},")),
        ("__meta_consul_health", "passing"),
    ];
    for (label, value) in expected {
        assert_eq!(labels[label], value, "{label} in {labels:#}");
    }
}

fn text(http: u16) -> String {
    format!(
        "global:
  scrape_interval: 1s
scrape_configs:
  - job_name: web
    consul_sd_configs:
      - server: 127.0.0.1:{http}
        services: [web]
        refresh_interval: 1s
"
    )
}
