//! Connections that carry requests back.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tribune_net::authority::{Holder, Pem};
use tribune_net::{ClientAuth, DialError, Dialer, ReverseConnection, ReverseRegistry, Tls};

use crate::node::{Node, PATIENCE, answer, ask, request};
use crate::pki::{self, ca};

#[derive(Default)]
struct Registry {
    open: Mutex<Vec<ReverseConnection>>,
    came: Notify,
}

impl ReverseRegistry for Registry {
    fn opened(&self, connection: ReverseConnection) {
        self.open.lock().push(connection);
        self.came.notify_one();
    }
}

#[tokio::test]
async fn a_node_behind_nat_is_asked_over_the_connection_it_opened() {
    let ca = ca();
    let registry = Arc::new(Registry::default());
    let gateway = Node::with_reverse(&pki::server(&ca, "dc1"), registry.clone()).await;
    let dialer = Dialer::tls(pki::server(&ca, "dc2"), true);
    let to = gateway.endpoint("dc1");
    let road = dialer.reverse(&to).await.unwrap();
    assert_eq!(road.identity().unwrap().datacenter.as_str(), "dc1");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(road.serve(tower::service_fn(answer), async {
        let _ = stopped.await;
    }));
    timeout(PATIENCE, registry.came.notified()).await.unwrap();
    let back = registry.open.lock()[0].clone();
    assert_eq!(back.identity().datacenter.as_str(), "dc2");
    let answer = back.send(request("/who"), Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(
        answer.into_body().collect(100).await.unwrap(),
        "server dc1",
        "the one who asks, not who dialled"
    );
    assert_eq!(ask(&dialer, &to, "/who").await.unwrap(), "server dc2", "the other way at the same time");

    stop.send(()).unwrap();
    timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
    timeout(PATIENCE, back.closed()).await.unwrap();
    let error = back.send(request("/who"), Instant::now() + PATIENCE).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_gateway_that_takes_no_such_connections_refuses_them() {
    let ca = ca();
    let gateway = Node::tls(&pki::server(&ca, "dc1"), ClientAuth::Server(None)).await;
    let dialer = Dialer::tls(pki::server(&ca, "dc2"), true);
    let error = dialer.reverse(&gateway.endpoint("dc1")).await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
    let error = Dialer::plain().reverse(&gateway.endpoint("dc1")).await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

/// A gateway of dc1, the road of a server in dc2 to it, and the gateway's end of that road.
struct Both {
    gateway: Node,
    gateway_tls: Tls,
    back: ReverseConnection,
    serving: tokio::task::JoinHandle<Result<(), DialError>>,
}

async fn both(ca: &Pem) -> Both {
    let registry = Arc::new(Registry::default());
    let gateway_tls = pki::server(ca, "dc1");
    let gateway = Node::with_reverse(&gateway_tls, registry.clone()).await;
    let dialer = Dialer::tls(pki::server(ca, "dc2"), true);
    let road = dialer.reverse(&gateway.endpoint("dc1")).await.unwrap();
    let serving = tokio::spawn(road.serve(tower::service_fn(answer), std::future::pending()));
    timeout(PATIENCE, registry.came.notified()).await.unwrap();
    let back = registry.open.lock()[0].clone();
    Both { gateway, gateway_tls, back, serving }
}

#[tokio::test]
async fn a_road_whose_builder_dies_is_closed() {
    let Both { gateway: _gateway, back, serving, .. } = both(&ca()).await;
    let asked = {
        let back = back.clone();
        tokio::spawn(async move { back.send(request("/wait/60000"), Instant::now() + PATIENCE).await })
    };
    back.send(request("/wait/20"), Instant::now() + PATIENCE).await.unwrap();
    serving.abort();
    timeout(PATIENCE, back.closed()).await.unwrap();
    assert!(back.is_closed());
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "it may have been processed: {error:?}");
}

#[tokio::test]
async fn a_gateway_that_stops_lets_answers_come_and_closes_the_road() {
    let Both { gateway, back, serving, .. } = both(&ca()).await;
    let asked = {
        let back = back.clone();
        tokio::spawn(async move { back.send(request("/wait/300"), Instant::now() + PATIENCE).await })
    };
    back.send(request("/wait/20"), Instant::now() + PATIENCE).await.unwrap();
    gateway.stop().await;
    assert_eq!(asked.await.unwrap().unwrap().into_body().collect(100).await.unwrap(), "waited");
    timeout(PATIENCE, back.closed()).await.unwrap();
    let _ended = timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_road_is_built_anew_after_a_reload() {
    let ca = ca();
    let Both { gateway: _gateway, gateway_tls, back, serving } = both(&ca).await;
    gateway_tls.replace(&ca.certificate, Some(&pki::issued(&ca, Holder::Server, "dc1"))).unwrap();
    timeout(PATIENCE, back.closed()).await.unwrap();
    let _ended = timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_road_of_nobody_in_particular_is_not_taken() {
    let ca = ca();
    let registry = Arc::new(Registry::default());
    let acceptor = crate::node::acceptor().await.with_reverse(registry.clone());
    let gateway = Node::start(acceptor.with_tls(pki::server(&ca, "dc1"), ClientAuth::Required).unwrap());
    let person = pki::tls(&ca, &pki::issued(&ca, Holder::Cli, "dc1"));
    let road = Dialer::tls(person, true).reverse(&gateway.endpoint("dc1")).await.unwrap();
    let ended = road.serve(tower::service_fn(answer), std::future::pending());
    let _ended = timeout(PATIENCE, ended).await.unwrap();
    assert!(registry.open.lock().is_empty());
}
