//! The agent's endpoints.

use std::time::Duration;

use http::Request;
use tribune_api::params::WaitLimits;

use crate::node::{PATIENCE, TestNode};

#[tokio::test]
async fn what_is_registered_is_found() {
    let node = TestNode::start().await;
    node.done("/v1/agent/service/register", r#"{"Name":"web","Port":80,"Check":{"TTL":"10m"}}"#).await;
    assert_eq!(node.get("/v1/agent/services").await.json()["web"]["Port"], 80);
    assert_eq!(node.get("/v1/agent/checks").await.json()["service:web"]["Status"], "critical");
    assert_eq!(node.get("/v1/health/service/web").await.json()[0]["Service"]["Port"], 80);
    assert_eq!(node.get("/v1/health/service/web?passing").await.text(), "[]");
    node.done("/v1/agent/check/pass/service:web?note=fine", "").await;
    assert_eq!(node.get("/v1/agent/checks").await.json()["service:web"]["Output"], "fine");
    node.done("/v1/agent/check/update/service:web", r#"{"Status":"warning","Output":"slow"}"#).await;
    assert_eq!(
        node.get("/v1/agent/checks?filter=Status%3D%3Dwarning").await.json()["service:web"]["Output"],
        "slow"
    );
    assert_eq!(node.get("/v1/agent/services?filter=Port%3D%3D81").await.text(), "{}");
    node.done("/v1/agent/check/register", r#"{"Name":"disk","TTL":"10m"}"#).await;
    node.done("/v1/agent/check/deregister/disk", "").await;
    node.done("/v1/agent/service/deregister/web", "").await;
    assert_eq!(node.get("/v1/agent/services").await.text(), "{}");
    assert_eq!(node.get("/v1/agent/checks").await.text(), "{}");
    assert_eq!(node.get("/v1/health/service/web").await.text(), "[]");
}

#[tokio::test]
async fn refusals_have_consuls_words() {
    let node = TestNode::start().await;
    node.done("/v1/agent/check/register", r#"{"Name":"port","TCP":"127.0.0.1:9","Interval":"1h"}"#).await;
    for (uri, body, status, text) in [
        (
            "/v1/agent/service/deregister/x",
            "",
            404,
            "Unknown service ID \"x\". Ensure that the service ID is passed",
        ),
        ("/v1/agent/check/deregister/x", "", 404, "Unknown check ID \"x\""),
        ("/v1/agent/check/pass/x", "", 500, "CheckID \"x\" does not have associated TTL"),
        ("/v1/agent/check/warn/port", "", 500, "CheckID \"port\" does not have associated TTL"),
        ("/v1/agent/check/update/port", r#"{"Status":"fine"}"#, 400, "Invalid check status: 'fine'"),
        (
            "/v1/agent/check/register",
            r#"{"Name":"c","ServiceID":"x","TTL":"1m"}"#,
            500,
            "ServiceID \"x\" does not exist",
        ),
        (
            "/v1/agent/check/register",
            r#"{"Name":"c","Args":["ls"],"Interval":"1m"}"#,
            400,
            "Scripts are disabled on this agent",
        ),
        ("/v1/agent/check/register", r#"{"TTL":"1m"}"#, 400, "Missing check name"),
        ("/v1/agent/service/register", r#"{"ID":"x"}"#, 400, "Missing service name"),
        ("/v1/agent/service/maintenance/x?enable=true", "", 404, "No service registered with ID \"x\""),
        ("/v1/agent/service/maintenance/?enable=true", "", 400, "Missing service ID"),
        ("/v1/agent/maintenance", "", 400, "Missing value for enable"),
        ("/v1/agent/maintenance?enable=x", "", 400, "Invalid value for enable: \"x\""),
        ("/v1/agent/join/10.0.0.1", "", 500, "nobody answers at 10.0.0.1"),
        ("/v1/agent/force-leave/x", "", 500, "agent: No node found with name 'x'"),
    ] {
        let answer = node.put(uri, body).await;
        assert_eq!(answer.status, status, "{uri}: {}", answer.text());
        assert!(answer.text().contains(text), "{uri}: {}", answer.text());
    }
    assert_eq!(node.get("/v1/agent/service/x").await.said(), (404, "unknown service ID: x"));
    assert_eq!(node.get("/v1/agent/monitor?loglevel=loud").await.said(), (400, "Unknown log level: loud"));
    assert_eq!(node.get("/v1/agent/metrics?format=prometheus").await.status, 415);
}

#[tokio::test]
async fn health_is_a_status_code() {
    let node = TestNode::start().await;
    let missing = node.get("/v1/agent/health/service/id/web").await;
    assert_eq!(missing.said(), (404, r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#));
    assert_eq!(missing.headers["x-consul-reason"], "ServiceId web not found");
    assert_eq!(node.get("/v1/agent/health/service/name/web").await.said(), (404, "[]"));
    let text = node.get("/v1/agent/health/service/id/web?format=text").await;
    assert_eq!(text.said(), (404, "ServiceId web not found"));
    node.done(
        "/v1/agent/service/register",
        r#"{"Name":"web","Checks":[{"CheckID":"c","TTL":"10m","Status":"passing"}]}"#,
    )
    .await;
    for (set, status, reason) in [
        ("/v1/agent/check/pass/c", 200, "passing"),
        ("/v1/agent/check/warn/c", 429, "warning"),
        ("/v1/agent/check/fail/c", 503, "critical"),
        ("/v1/agent/service/maintenance/web?enable=true", 503, "maintenance"),
        ("/v1/agent/service/maintenance/web?enable=false", 503, "critical"),
        ("/v1/agent/maintenance?enable=true&reason=disk", 503, "maintenance"),
    ] {
        node.done(set, "").await;
        for way in ["id", "name"] {
            let uri = format!("/v1/agent/health/service/{way}/web");
            let answer = node.get(&uri).await;
            assert_eq!(
                (answer.status, &answer.headers["x-consul-reason"]),
                (status, &reason.parse().unwrap()),
                "{set}"
            );
            assert!(answer.text().contains(&format!("\"AggregatedStatus\":\"{reason}\"")));
            assert_eq!(node.get(&format!("{uri}?format=text")).await.said(), (status, reason));
            let text = node.ask(Request::get(&uri).header("accept", "text/plain"), "").await;
            assert_eq!(text.said(), (status, reason));
        }
    }
}

#[tokio::test]
async fn a_service_can_be_waited_for_by_its_hash() {
    let node = TestNode::start().await;
    node.done("/v1/agent/service/register", r#"{"Name":"web","Port":80}"#).await;
    let first = node.get("/v1/agent/service/web").await;
    let hash = first.headers["x-consul-contenthash"].to_str().unwrap().to_owned();
    assert_eq!(first.json()["ContentHash"], hash.as_str());
    let same = node.get(&format!("/v1/agent/service/web?hash={hash}&wait=10ms")).await;
    assert_eq!(same.headers["x-consul-contenthash"], hash.as_str());
    let uri = format!("/v1/agent/service/web?hash={hash}&wait=5m");
    let (changed, ()) =
        tokio::join!(node.get(&uri), node.done("/v1/agent/service/register", r#"{"Name":"web","Port":81}"#));
    assert_eq!(changed.json()["Port"], 81);
    assert_ne!(changed.headers["x-consul-contenthash"], hash.as_str());
}

/// Without the bound the wait would outlast the test's patience.
#[tokio::test]
async fn a_wait_by_hash_has_the_bounds_of_the_configuration() {
    let moment = Duration::from_millis(10);
    let waits = WaitLimits { default: moment, max: moment };
    let node = TestNode::with(Default::default(), |config| config.waits = waits).await;
    node.done("/v1/agent/service/register", r#"{"Name":"web","Port":80}"#).await;
    let hash = node.get("/v1/agent/service/web").await.json()["ContentHash"].as_str().unwrap().to_owned();
    for wait in ["", "&wait=5m"] {
        let uri = format!("/v1/agent/service/web?hash={hash}{wait}");
        let answer = tokio::time::timeout(PATIENCE, node.get(&uri)).await.unwrap();
        assert_eq!(answer.headers["x-consul-contenthash"], hash.as_str());
    }
}

#[tokio::test]
async fn the_process_speaks_for_itself() {
    let node = TestNode::start().await;
    assert_eq!(node.get("/v1/agent/self").await.json()["Config"]["NodeName"], "n1");
    assert_eq!(node.get("/v1/agent/members").await.json()[0]["Name"], "n1");
    assert_eq!(node.get("/v1/agent/members?wan=1").await.text(), "[]");
    assert_eq!(node.get("/v1/agent/version").await.json()["HumanVersion"], "1.2.3");
    assert_eq!(node.get("/v1/agent/host").await.text(), "{}");
    assert!(node.get("/v1/agent/metrics").await.json()["Points"].is_array());
    assert_eq!(node.get("/v1/agent/monitor?loglevel=DEBUG&logjson").await.text(), "Debug true\nsecond\n");
    for uri in ["/v1/agent/reload", "/v1/agent/leave"] {
        assert_eq!(node.put(uri, "").await.said(), (200, ""));
    }
}
