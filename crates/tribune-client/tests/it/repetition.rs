//! What is repeated, how often, and what never is.

use std::time::Duration;

use tribune_client::agent::ServiceDefinition;
use tribune_client::{Client, Config, Error, Failure, breaker, catalog};

use crate::server::{Reply, Server, client, config, nobody};

fn names(reply: &str) -> Reply {
    Reply::Json(7, reply.to_owned())
}

fn web() -> ServiceDefinition {
    ServiceDefinition { name: "web".into(), ..ServiceDefinition::default() }
}

#[tokio::test]
async fn a_read_gets_through_after_errors() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Status(500, "disk on fire"),
        1 => Reply::Status(500, "rpc error making call: No cluster leader"),
        2 => Reply::Break,
        _ => names(r#"["dc1"]"#),
    })
    .await;
    let answer = server.client().ask(&catalog::datacenters()).await.unwrap();
    assert_eq!(answer.fresh().unwrap(), ["dc1"]);
    assert_eq!(server.seen(), 4);
}

#[tokio::test]
async fn a_read_gives_up_and_says_after_how_many_attempts() {
    let server = Server::start(|_, _| Reply::Status(500, "disk on fire")).await;
    let error = server.client().ask(&catalog::datacenters()).await.unwrap_err();
    assert_eq!(error.to_string(), "failed after 4 attempts: unexpected response code: 500 (disk on fire)");
    assert_eq!(server.seen(), 4);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let server = Server::start(|_, _| Reply::Status(403, "Permission denied")).await;
    let error = server.client().ask(&catalog::datacenters()).await.unwrap_err();
    assert_eq!(error, Error::Refused { status: 403, message: "Permission denied".into() });
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn a_change_is_repeated_while_it_is_certain_that_nothing_was_done() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Status(500, "No cluster leader"),
        1 => Reply::Status(429, "Your IP is issuing too many concurrent connections"),
        _ => Reply::Status(200, ""),
    })
    .await;
    server.client().register(&web()).await.unwrap();
    assert_eq!(server.seen(), 3);
}

#[tokio::test]
async fn a_change_that_may_have_happened_is_not_repeated() {
    for silent in [true, false] {
        let server = Server::start(move |_, _| if silent { Reply::Silence } else { Reply::Break }).await;
        let other = Server::start(|_, _| Reply::Status(200, "")).await;
        let request_timeout =
            if silent { Duration::from_millis(100) } else { Config::default().request_timeout };
        let config = Config { request_timeout, ..config(&[&server.address, &other.address]) };
        let error = Client::new(config).unwrap().register(&web()).await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{error:?}");
        assert_eq!((server.seen(), other.seen()), (1, 0));
    }
}

#[tokio::test]
async fn an_agent_that_fails_again_and_again_is_left_alone_and_tried_again_later() {
    let server = Server::start(|number, _| match number {
        0..3 => Reply::Status(503, "starting"),
        _ => names("[]"),
    })
    .await;
    let cool_down = Duration::from_secs(2);
    let breaker = breaker::Thresholds { failures_max: 3, cool_down, probes: 1 };
    let client = Client::new(Config { breaker, ..config(&[&server.address]) }).unwrap();
    let error = client.ask(&catalog::datacenters()).await.unwrap_err();
    let Error::Unavailable { last: Failure::Resting { retry_in }, .. } = error else { panic!("{error:?}") };
    assert!(retry_in <= cool_down);
    assert_eq!(server.seen(), 3, "an open breaker lets nothing through");
    tokio::time::sleep(retry_in).await;
    assert!(client.ask(&catalog::datacenters()).await.is_ok());
}

#[tokio::test]
async fn a_refused_connection_is_told_apart() {
    let error = client(&[&nobody().await]).register(&web()).await.unwrap_err();
    let Error::Unavailable { attempts: 4, last: Failure::Connect { reason, .. } } = error else {
        panic!("{error:?}")
    };
    assert!(reason.contains("refused"), "{reason}");
}
