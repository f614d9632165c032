//! What a dialer makes of good and bad peers.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tribune_net::{ClientAuth, DialError, Dialer, Pace, PeerBody};

use crate::fake::Fake;
use crate::node::{Node, PATIENCE, ask, eventually, request};
use crate::pki::{self, ca};

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

#[tokio::test]
async fn requests_go_both_plain_and_over_tls() {
    let plain = Node::plain().await;
    let dialer = Dialer::plain();
    assert_eq!(ask(&dialer, &plain.endpoint("dc1"), "/who").await.unwrap(), "nobody");
    assert_eq!(dialer.connections(), 1);
    let ca = ca();
    let secured = Node::tls(&pki::server(&ca, "dc1"), ClientAuth::Server(None)).await;
    let dialer = Dialer::tls(pki::server(&ca, "dc2"), true);
    let to = secured.endpoint("dc1");
    assert_eq!(ask(&dialer, &to, "/who").await.unwrap(), "server dc2");
    let mut echoed = request("/echo");
    *echoed.body_mut() = Bytes::from(vec![9; 3 << 20]);
    let answer = dialer.send(&to, echoed, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(answer.into_body().collect(4 << 20).await.unwrap(), vec![9; 3 << 20]);
    secured.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let fake = Fake::start(Duration::from_millis(100)).await;
    let dialer = Dialer::plain();
    let mut asking = JoinSet::new();
    for _ in 0..200 {
        let (dialer, to) = (dialer.clone(), fake.endpoint());
        asking.spawn(async move { ask(&dialer, &to, "/").await.unwrap() });
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.unwrap(), "whole");
    }
    assert_eq!((fake.accepted(), dialer.connections()), (1, 1));
    let separate = dialer.clone().with_pace(Pace::default());
    assert_eq!(ask(&separate, &fake.endpoint(), "/").await.unwrap(), "whole");
    assert_eq!(fake.accepted(), 2);
}

#[tokio::test]
async fn an_impatient_caller_does_not_take_the_attempt_with_it() {
    let fake = Fake::start(Duration::from_millis(400)).await;
    let dialer = Dialer::plain();
    for _ in 0..3 {
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = dialer.send(&fake.endpoint(), request("/"), deadline).await.unwrap_err();
        assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
    }
    assert_eq!(ask(&dialer, &fake.endpoint(), "/").await.unwrap(), "whole");
    assert_eq!(fake.accepted(), 1);
}

#[tokio::test]
async fn a_peer_that_dies_is_dialled_again_when_it_is_back() {
    let node = Node::plain().await;
    let (dialer, to) = (Dialer::plain(), node.endpoint("dc1"));
    ask(&dialer, &to, "/").await.unwrap();
    let asked = {
        let (dialer, to) = (dialer.clone(), to.clone());
        tokio::spawn(async move { ask(&dialer, &to, "/wait/60000").await })
    };
    // On the same connection, so it is behind the other.
    ask(&dialer, &to, "/wait/50").await.unwrap();
    node.kill().await;
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "it may have been processed: {error:?}");
    let error = ask(&dialer, &to, "/").await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
    let _back = Node::plain_at(to.address).await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = ask(&dialer, &to, "/").await {
        assert!(matches!(error, DialError::Unreachable(_)) && Instant::now() < deadline, "{error:?}");
    }
}

#[tokio::test]
async fn a_peer_that_stops_in_order_loses_no_request() {
    let node = Node::plain().await;
    let (dialer, to) = (Dialer::plain(), node.endpoint("dc1"));
    ask(&dialer, &to, "/").await.unwrap();
    let slow = {
        let (dialer, to) = (dialer.clone(), to.clone());
        tokio::spawn(async move { ask(&dialer, &to, "/wait/300").await })
    };
    tokio::task::yield_now().await;
    ask(&dialer, &to, "/").await.unwrap();
    node.stop().await;
    assert_eq!(slow.await.unwrap().unwrap(), "waited");
    let error = ask(&dialer, &to, "/").await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn answers_that_do_not_come_or_do_not_end_are_told_apart() {
    let fake = Fake::start(Duration::ZERO).await;
    let dialer = Dialer::plain();
    ask(&dialer, &fake.endpoint(), "/").await.unwrap();
    let error = dialer.send(&fake.endpoint(), request("/never"), soon()).await.unwrap_err();
    assert_eq!(error, DialError::TimedOut);
    let answer = dialer.send(&fake.endpoint(), request("/stalls"), soon()).await.unwrap();
    assert_eq!(answer.into_body().collect(1000).await.unwrap_err(), DialError::TimedOut);
    let error = ask(&dialer, &fake.endpoint(), "/reset").await.unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "{error:?}");
    let error = ask(&dialer, &fake.endpoint(), "/refused").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
    assert_eq!(fake.accepted(), 1, "what is wrong with one answer does not touch the others");
    let error = ask(&dialer, &fake.endpoint(), "/breaks").await.unwrap_err();
    assert!(matches!(&error, DialError::Lost(why) if why.contains("broke off")), "{error:?}");
    let error = ask(&dialer, &fake.endpoint(), "/header").await.unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "{error:?}");
    assert_eq!(ask(&dialer, &fake.endpoint(), "/").await.unwrap(), "whole");
}

#[tokio::test]
async fn answers_are_collected_up_to_a_limit() {
    let node = Node::plain().await;
    let (dialer, to) = (Dialer::plain(), node.endpoint("dc1"));
    for (size, limit, is_taken) in
        [(0, 0, true), (1000, 1000, true), (1001, 1000, false), (5 << 20, 1000, false)]
    {
        let answer = dialer.send(&to, request(&format!("/big/{size}")), Instant::now() + PATIENCE).await;
        let body = answer.unwrap().into_body().collect(limit).await;
        match body {
            Ok(body) => assert!(is_taken && body.len() == size, "{size}"),
            Err(error) => {
                assert!(!is_taken, "{size}: {error:?}");
                assert!(
                    matches!(&error, DialError::Lost(why) if why.contains("longer than 1000 bytes")),
                    "{error:?}"
                );
            }
        }
    }
    assert_eq!(ask(&dialer, &to, "/").await.unwrap(), "hello");
    assert_eq!(PeerBody::from(Bytes::from_static(b"made")).collect(4).await.unwrap(), "made");
    assert!(PeerBody::from(Bytes::from_static(b"made")).collect(3).await.is_err());
}

#[tokio::test]
async fn a_connection_nobody_uses_is_closed_and_made_anew() {
    let fake = Fake::start(Duration::ZERO).await;
    let dialer =
        Dialer::plain().with_pace(Pace { idle_timeout: Duration::from_millis(100), ..Pace::default() });
    ask(&dialer, &fake.endpoint(), "/").await.unwrap();
    eventually("idle connections are closed", || dialer.connections() == 0).await;
    assert_eq!(ask(&dialer, &fake.endpoint(), "/").await.unwrap(), "whole");
    assert_eq!(fake.accepted(), 2);
}

#[tokio::test]
async fn a_dead_link_is_noticed_without_a_deadline() {
    let fake = Fake::start(Duration::ZERO).await;
    let pace = Pace {
        keep_alive_interval: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(200),
        ..Pace::default()
    };
    let dialer = Dialer::plain().with_pace(pace);
    ask(&dialer, &fake.endpoint(), "/").await.unwrap();
    fake.freeze();
    let error = ask(&dialer, &fake.endpoint(), "/").await.unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "{error:?}");
    fake.thaw();
    assert_eq!(ask(&dialer, &fake.endpoint(), "/").await.unwrap(), "whole");
}

#[tokio::test]
async fn connections_are_bounded() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::plain().await);
    }
    let dialer = Dialer::plain().with_pace(Pace { connections_max: 2, ..Pace::default() });
    for node in nodes.iter().chain(&nodes) {
        assert_eq!(ask(&dialer, &node.endpoint("dc1"), "/").await.unwrap(), "hello");
        assert!(dialer.connections() <= 2);
    }
    let mut busy = JoinSet::new();
    for node in &nodes[..2] {
        let (asking, to) = (dialer.clone(), node.endpoint("dc1"));
        busy.spawn(async move { ask(&asking, &to, "/wait/2000").await });
        // On the same connection, so it is behind the other.
        ask(&dialer, &node.endpoint("dc1"), "/wait/20").await.unwrap();
    }
    let error = ask(&dialer, &nodes[2].endpoint("dc1"), "/").await.unwrap_err();
    assert!(matches!(&error, DialError::Refused(why) if why.contains("as many connections")), "{error:?}");
    while let Some(answer) = busy.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "waited");
    }
    assert_eq!(ask(&dialer, &nodes[2].endpoint("dc1"), "/").await.unwrap(), "hello");
}

#[tokio::test]
async fn dropping_the_dialer_closes_its_connections() {
    let fake = Fake::start(Duration::ZERO).await;
    let dialer = Dialer::plain();
    ask(&dialer, &fake.endpoint(), "/").await.unwrap();
    assert_eq!(fake.open(), 1);
    drop(dialer);
    eventually("the connection is closed", || fake.open() == 0).await;
}

/// A farewell that names the last request that was looked at: requests have odd numbers from 1.
const fn farewell(last: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0]
}

#[tokio::test]
async fn a_request_that_a_farewell_leaves_out_is_offered_again() {
    let fake = Fake::scripted(&[&farewell(0)]).await;
    assert_eq!(ask(&Dialer::plain(), &fake.endpoint(), "/").await.unwrap(), "whole");
    assert_eq!(fake.accepted(), 2);
    let fake = Fake::scripted(&[&farewell(0), &farewell(0), &farewell(0)]).await;
    let error = ask(&Dialer::plain(), &fake.endpoint(), "/").await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
    assert_eq!(fake.accepted(), 3, "not for ever");
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_never_sent_twice() {
    // Half of a frame; a header that cannot be read; a frame of no known connection; a farewell that includes it.
    let half = [0, 0, 50, 1, 4, 0, 0, 0, 1, 0x88];
    let garbled = [0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    let misplaced = [0, 0, 1, 0, 0, 0, 0, 0, 0, 7];
    let scripts: [&[u8]; 5] = [&half, &garbled, &misplaced, &farewell(1), b""];
    let fake = Fake::scripted(&scripts).await;
    let dialer = Dialer::plain();
    for done in 1..=scripts.len() {
        let error = ask(&dialer, &fake.endpoint(), "/").await.unwrap_err();
        assert!(matches!(error, DialError::Lost(_)), "{done}: {error:?}");
        assert_eq!(fake.accepted(), done);
    }
    assert_eq!(ask(&dialer, &fake.endpoint(), "/").await.unwrap(), "whole");
}
