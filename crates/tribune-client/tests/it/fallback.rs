//! Several agents, and what is left when all of them are away.

use std::time::Duration;

use tribune_client::{Client, Config, Error, Source, catalog};

use crate::server::{Reply, Server, config, nobody};

#[tokio::test]
async fn a_dead_primary_is_replaced_and_not_asked_first_again() {
    let second = Server::start(|_, _| Reply::Json(1, "[]".into())).await;
    let slow = Server::start(|_, _| Reply::Silence).await;
    let dead = nobody().await;
    let addresses = [&slow.address, &dead, &second.address];
    let config = Config { request_timeout: Duration::from_millis(300), ..config(&addresses) };
    let client = Client::new(config).unwrap();
    for _ in 0..5 {
        let answer = client.ask(&catalog::datacenters()).await.unwrap();
        assert_eq!(answer.source, Source::Agent);
    }
    assert_eq!((slow.seen(), second.seen()), (1, 5));
}

#[tokio::test]
async fn the_last_known_answer_is_given_with_its_age_and_can_be_refused() {
    let server = Server::start(|_, _| Reply::Json(9, r#"{"web":["v1"]}"#.into())).await;
    let client = server.client();
    let question = catalog::services();
    client.ask(&question).await.unwrap();
    server.stop().await;

    let old = client.ask(&question).await.unwrap();
    assert!(matches!(old.source, Source::LastKnown { .. }), "{:?}", old.source);
    assert_eq!(old.value["web"], ["v1"]);
    assert_eq!(old.index.0, 9);
    assert!(matches!(old.fresh(), Err(Error::Outdated { .. })));

    let other = client.ask(&question.clone().datacenter("dc2")).await;
    assert!(matches!(other, Err(Error::Unavailable { .. })), "another question has no answer: {other:?}");
}

#[tokio::test]
async fn nothing_is_remembered_when_it_is_switched_off() {
    let server = Server::start(|_, _| Reply::Json(9, "[]".into())).await;
    let config = Config { answers_kept_max: 0, ..config(&[&server.address]) };
    let client = Client::new(config).unwrap();
    client.ask(&catalog::datacenters()).await.unwrap();
    server.stop().await;
    assert!(matches!(client.ask(&catalog::datacenters()).await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn a_refusal_is_not_covered_up_by_an_old_answer() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Json(1, "[]".into()),
        _ => Reply::Status(403, "Permission denied"),
    })
    .await;
    let client = server.client();
    client.ask(&catalog::datacenters()).await.unwrap();
    assert!(matches!(client.ask(&catalog::datacenters()).await, Err(Error::Refused { status: 403, .. })));
}

#[test]
fn a_client_without_agents_is_refused() {
    let none = Client::new(Config { addresses: vec![], ..Config::default() });
    assert!(matches!(none, Err(Error::Settings(_))));
}
