//! Watches against agents that answer early, late, wrongly or not at all.

use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use tribune_client::{Client, Config, Error, agent, catalog};

use crate::server::{Reply, Server, config};

fn services(index: u64, name: &str) -> Reply {
    Reply::Json(index, format!("{{\"{name}\":[]}}"))
}

#[tokio::test]
async fn every_change_is_told_once_and_waited_for_at_its_index() {
    let server = Server::start(|number, uri| {
        let expected = match number {
            0 => "/v1/catalog/services",
            1 => "/v1/catalog/services?index=10&wait=60000ms",
            2 => "/v1/catalog/services?index=11&wait=60000ms",
            _ => "/v1/catalog/services?index=12&wait=60000ms",
        };
        assert_eq!(uri, expected);
        match number {
            0 => services(10, "a"),
            1 => services(11, "a"),
            2 => services(12, "b"),
            _ => Reply::Silence,
        }
    })
    .await;
    let mut watch = server.client().watch(catalog::services());
    assert!(watch.next().await.unwrap().unwrap().value.contains_key("a"));
    let second = watch.next().await.unwrap().unwrap();
    assert!(second.value.contains_key("b"), "the same contents under a new index are no change");
    assert_eq!((second.index.0, server.seen()), (12, 3));
}

#[tokio::test]
async fn an_index_that_goes_backwards_is_asked_for_from_the_start() {
    let asked: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    let server = Server::start(|number, uri| {
        asked.lock().unwrap().push(uri.replace("/v1/catalog/services", ""));
        match number {
            0 => services(100, "a"),
            1 => services(5, "b"),
            2 => services(5, "b"),
            3 => services(6, "c"),
            _ => Reply::Silence,
        }
    })
    .await;
    let watch = server.client().watch(catalog::services());
    let seen: Vec<_> = watch.take(3).map(|change| change.unwrap().index.0).collect().await;
    assert_eq!(seen, [100, 5, 6]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..], ["", "?index=100&wait=60000ms", "", "?index=5&wait=60000ms"]);
}

#[tokio::test]
async fn trouble_is_told_and_the_watch_goes_on() {
    let server = Server::start(|number, _| match number {
        0 => services(1, "a"),
        1 => Reply::Status(500, "No cluster leader"),
        2 => Reply::Json(0, "<html>".into()),
        _ => services(2, "b"),
    })
    .await;
    let watch = server.client().watch(catalog::services());
    let told: Vec<_> = watch.take(4).collect().await;
    assert!(matches!(told[1], Err(Error::Unavailable { .. })), "{:?}", told[1]);
    assert!(matches!(told[2], Err(Error::Malformed { .. })), "{:?}", told[2]);
    assert!(told[3].as_ref().unwrap().value.contains_key("b"));
}

#[tokio::test]
async fn an_agent_that_never_waits_is_not_asked_in_a_loop() {
    let server = Server::start(|_, _| services(1, "a")).await;
    let config = Config { retry: Config::default().retry, ..config(&[&server.address]) };
    let mut watch = Client::new(config).unwrap().watch(catalog::services());
    watch.next().await.unwrap().unwrap();
    let more = tokio::time::timeout(Duration::from_secs(2), watch.next()).await;
    assert!(more.is_err(), "nothing changed: {more:?}");
    assert!(server.seen() < 40, "{} requests in two seconds", server.seen());
}

#[tokio::test]
async fn dropping_a_watch_ends_its_question() {
    let server = Server::start(|number, _| match number {
        0 => services(1, "a"),
        _ => Reply::Silence,
    })
    .await;
    let mut watch = server.client().watch(catalog::services());
    watch.next().await.unwrap().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.next()).await.is_err());
    let seen = server.seen();
    drop(watch);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.seen(), seen);
}

#[tokio::test]
async fn a_question_without_an_index_cannot_be_watched() {
    let server = Server::start(|_, _| Reply::Status(200, "{}")).await;
    let first = server.client().watch(agent::checks()).next().await.unwrap();
    assert!(first.unwrap_err().to_string().contains("cannot be watched"));
}
