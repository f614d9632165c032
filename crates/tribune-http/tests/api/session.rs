//! Sessions, and the keys that they hold.

use serde_json::{Value, json};

use crate::node::TestNode;

const UUID: &str = "11111111-1111-1111-1111-111111111111";

/// A node whose liveness is known, as the leader makes sure of.
async fn alive() -> TestNode {
    let node = TestNode::start().await;
    health(&node, "passing").await;
    node
}

async fn health(node: &TestNode, status: &str) {
    let body = format!(
        r#"{{"Node":"n1","Address":"127.0.0.1","Check":{{"CheckID":"serfHealth","Name":"s","Status":"{status}"}}}}"#
    );
    node.done("/v1/catalog/register", &body).await;
}

async fn create(node: &TestNode, body: &str) -> String {
    let answer = node.put("/v1/session/create", body).await;
    answer.json()["ID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sessions_are_created_shown_and_ended() {
    let node = alive().await;
    assert_eq!(node.get("/v1/session/list").await.said(), (200, "[]"));
    let id = create(&node, r#"{"Name":"n","TTL":"90s","LockDelay":20,"Behavior":"delete"}"#).await;
    let answer = node.get(&format!("/v1/session/info/{}", id.to_uppercase())).await;
    let index = answer.index();
    let expected = json!([{
        "ID": id, "Name": "n", "Node": "n1", "LockDelay": 20_000_000_000_u64, "Behavior": "delete", "TTL": "90s",
        "NodeChecks": ["serfHealth"], "ServiceChecks": null, "CreateIndex": index, "ModifyIndex": index,
    }]);
    assert_eq!(answer.json(), expected);
    assert!(answer.headers.contains_key("x-consul-lastcontact"));
    for list in ["list", "node/n1", "node/N1"] {
        assert_eq!(node.get(&format!("/v1/session/{list}")).await.json(), expected, "{list}");
    }
    assert_eq!(node.get("/v1/session/node/other").await.said(), (200, "[]"));
    assert_eq!(node.put(&format!("/v1/session/renew/{id}"), "").await.json(), expected);
    for _ in 0..2 {
        assert_eq!(node.put(&format!("/v1/session/destroy/{id}"), "").await.said(), (200, "true"));
    }
    let gone = node.get(&format!("/v1/session/info/{id}")).await;
    assert_eq!(gone.said(), (200, "[]"));
    assert!(gone.index() > index);
    let late = node.put(&format!("/v1/session/renew/{id}"), "").await;
    assert_eq!(late.said(), (404, format!("Session id '{id}' not found").as_str()));
}

#[tokio::test]
async fn sessions_that_cannot_be_are_refused_in_consuls_words() {
    let node = alive().await;
    for (body, status, text) in [
        (r#"{"Node":"zz"}"#, 500, "Missing node registration"),
        (r#"{"Checks":["zz"]}"#, 500, "Missing check 'zz' registration"),
        (r#"{"TTL":"5s"}"#, 500, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"),
        (r#"{"Behavior":"x"}"#, 500, "Invalid Behavior setting 'x'"),
        (r#"{"LockDelay":"x"}"#, 400, "Request decode failed: time: invalid duration \"x\""),
        ("{", 400, "Request decode failed: unexpected EOF"),
    ] {
        assert_eq!(node.put("/v1/session/create", body).await.said(), (status, text), "{body}");
    }
    const NO_ID: &str = "failed session lookup: index error: UUID must be 36 characters";
    for (answer, said) in [
        (node.get("/v1/session/info/").await, (400, "Missing session")),
        (node.get("/v1/session/node/").await, (400, "Missing node name")),
        (node.put("/v1/session/renew/", "").await, (400, "Missing session")),
        (node.put("/v1/session/destroy/", "").await, (400, "Missing session")),
        (node.put("/v1/session/destroy/x", "").await, (500, NO_ID)),
        (node.get("/v1/session/info/x").await, (500, NO_ID)),
    ] {
        assert_eq!(answer.said(), said);
    }
    assert_eq!(node.put(&format!("/v1/session/destroy/{UUID}"), "").await.said(), (200, "true"));
    health(&node, "critical").await;
    assert_eq!(node.put("/v1/session/create", "").await.text(), "Check 'serfHealth' is in critical state");
    create(&node, r#"{"Checks":[]}"#).await;
}

#[tokio::test]
async fn a_key_has_one_holder() {
    let node = alive().await;
    let (one, two) = (create(&node, r#"{"LockDelay":"0s"}"#).await, create(&node, "").await);
    let held = async || -> Value { node.get("/v1/kv/lock").await.json()[0].clone() };
    assert_eq!(node.put(&format!("/v1/kv/lock?acquire={one}"), "1").await.text(), "true");
    assert_eq!(node.put(&format!("/v1/kv/lock?acquire={two}"), "2").await.text(), "false");
    assert_eq!(node.put(&format!("/v1/kv/lock?release={two}"), "2").await.text(), "false");
    assert_eq!(
        (held().await["Session"].as_str(), held().await["LockIndex"].as_u64()),
        (Some(one.as_str()), Some(1))
    );
    let index = node.get("/v1/kv/lock").await.index();
    let waiting = format!("/v1/kv/lock?index={index}&wait=1m");
    let end = format!("/v1/session/destroy/{one}");
    let (woken, _) = tokio::join!(node.get(&waiting), node.put(&end, ""));
    assert_eq!(woken.json()[0].get("Session"), None, "the end of a session lets go of its keys");
    assert_eq!(node.put(&format!("/v1/kv/lock?acquire={two}"), "2").await.text(), "true");
    assert_eq!(held().await["LockIndex"], 2);

    health(&node, "critical").await;
    assert_eq!(node.get("/v1/session/list").await.text(), "[]");
    assert_eq!(held().await.get("Session"), None);
    health(&node, "passing").await;
    let three = create(&node, "").await;
    let early = node.put(&format!("/v1/kv/lock?acquire={three}"), "3").await;
    assert_eq!(early.said(), (200, "false"), "the delay after a failed holder");
}
