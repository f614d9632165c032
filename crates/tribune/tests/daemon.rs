//! A whole node in this process: it serves, keeps what it was told, and says why it cannot start.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tribune::config::{Source, Sources};
use tribune::logging::{Log, LogLevel};
use tribune::settings::Settings;
use tribune::{Daemon, StartError};

async fn start(data_dir: &Path, more: &str) -> Result<Daemon, StartError> {
    start_from(vec![Source::Fragment(text(data_dir, more))]).await
}

fn text(data_dir: &Path, more: &str) -> String {
    format!(
        "server = true bootstrap_expect = 1 node_name = \"one\" bind_addr = \"127.0.0.1\" data_dir = {data_dir:?} \
         ports {{ http = 0 dns = 0 server = 0 serf_lan = 0 serf_wan = 0 }} {more}"
    )
}

async fn start_from(files: Vec<Source>) -> Result<Daemon, StartError> {
    // A second call finds the provider installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sources = Sources { files, ..Sources::default() };
    let (config, _) = sources.read().unwrap();
    let (settings, _) = Settings::resolve(&config).unwrap();
    Daemon::start(settings, Log::silent(LogLevel(tracing::Level::INFO)), Some(sources)).await
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

async fn put(address: SocketAddr, path: &str, body: &str) -> String {
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", body.len());
    ask(address, &format!("{head}\r\n\r\n{body}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_its_services_and_its_id() {
    let folder = tempfile::tempdir().unwrap();
    tribune::telemetry::metrics();
    let daemon = start(folder.path(), "telemetry { prometheus_retention_time = \"60s\" }").await.unwrap();
    let id = daemon.node_id().to_owned();
    let body = "{\"Name\":\"web\",\"Port\":80}";
    let put = put(daemon.http()[0], "/v1/agent/service/register", body).await;
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    let metrics = get(daemon.http()[0], "/v1/agent/metrics?format=prometheus").await;
    let timer = "consul_api_http_count{method=\"PUT\",path=\"v1_agent_service_register\"} 1";
    assert!(metrics.contains(timer), "{metrics}");
    assert!(metrics.contains("consul_raft_apply "), "{metrics}");
    daemon.stop(false).await;

    let again = start(folder.path(), "").await.unwrap();
    assert_eq!(again.node_id(), id);
    assert!(get(again.http()[0], "/v1/catalog/service/web").await.contains("\"ServicePort\":80"));
    again.reload().await.unwrap();
    again.stop(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_keys_change_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.hcl");
    let limit = |bytes: u32| text(folder.path(), &format!("limits {{ kv_max_value_size = {bytes} }}"));
    std::fs::write(&file, limit(8)).unwrap();
    let daemon = start_from(vec![Source::Path(file.clone())]).await.unwrap();
    let address = daemon.http()[0];
    let refused = put(address, "/v1/kv/a", "123456789").await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    std::fs::write(&file, limit(16)).unwrap();
    daemon.reload().await.unwrap();
    let taken = put(address, "/v1/kv/a", "123456789").await;
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    daemon.stop(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_named() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = start(folder.path(), "").await.unwrap();
    let error = start(folder.path(), "").await.err().unwrap().to_string();
    assert!(error.contains("another agent is running in it"), "{error}");
    let port = daemon.http()[0].port();
    let error = start(other.path(), &format!("ports {{ http = {port} }}")).await.err().unwrap().to_string();
    assert!(error.contains("ports.http") && error.contains(&port.to_string()), "{error}");
    daemon.stop(false).await;
}
