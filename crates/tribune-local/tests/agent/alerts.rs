//! Transitions are told once each.

use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tribune_core::{CheckId, Status};
use tribune_local::{AlertConfig, Config};

use crate::datacenter::Datacenter;
use crate::{memory, service, start, ttl};

type Heard = mpsc::UnboundedSender<serde_json::Value>;

async fn hear(State(heard): State<Heard>, Json(alert): Json<serde_json::Value>) {
    heard.send(alert).unwrap();
}

#[tokio::test]
async fn the_webhook_hears_of_each_transition_once() {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(hear)).with_state(sender);
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let alerts = AlertConfig { webhook: Some(url), log: true };
    let (agent, running) = start(Config { alerts, ..memory() }, &Datacenter::new()).await;
    let mut spec = ttl("c", 600);
    spec.status = Status::Passing;
    agent.register_service(service("web"), vec![spec], false).await.unwrap();
    let id = CheckId::new("c").unwrap();
    let story = [
        (Status::Critical, "down"),
        (Status::Critical, "still down"),
        (Status::Warning, "better"),
        (Status::Passing, "good"),
        (Status::Warning, "so so"),
        (Status::Critical, "down again"),
    ];
    for (status, output) in story {
        agent.update_ttl(&id, status, output).await.unwrap();
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let alert = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap();
        assert_eq!((&alert["node"], &alert["service_id"]), (&"n1".into(), &"web".into()));
        told.push(format!("{} -> {} {}", alert["from"], alert["to"], alert["output"]).replace('"', ""));
    }
    assert_eq!(
        told,
        ["passing -> critical down", "critical -> warning better", "warning -> critical down again"]
    );
    running.stop().await;
    assert!(heard.try_recv().is_err(), "nothing was told twice");
}
