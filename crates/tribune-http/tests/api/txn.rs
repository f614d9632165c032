//! Transactions.

use serde_json::{Value, json};

use crate::node::{Answer, TestNode};

async fn transact(node: &TestNode, operations: Value) -> Answer {
    node.put("/v1/txn", &operations.to_string()).await
}

#[tokio::test]
async fn all_operations_are_done_in_order() {
    let node = TestNode::start().await;
    let answer = transact(
        &node,
        json!([
            {"KV": {"Verb": "set", "Key": "t/a", "Value": "YQ==", "Flags": 5}},
            {"KV": {"Verb": "get", "Key": "t/a"}},
            {"Node": {"Verb": "set", "Node": {"Node": "db", "Address": "10.0.0.1"}}},
            {"Service": {"Verb": "set", "Node": "db", "Service": {"Service": "pg", "Port": 5432}}},
            {"Check": {"Verb": "set", "Check": {"Node": "db", "CheckID": "c", "ServiceID": "pg", "Status": "passing"}}},
            {"KV": {"Verb": "delete", "Key": "none"}},
            {},
        ]),
    )
    .await;
    let results = answer.json()["Results"].clone();
    assert_eq!(answer.json()["Errors"], json!(null));
    let index = &results[0]["KV"]["ModifyIndex"];
    let entry = |value: Value| json!({"KV": {"LockIndex": 0, "Key": "t/a", "Flags": 5, "Value": value, "CreateIndex": index, "ModifyIndex": index}});
    assert_eq!((&results[0], &results[1]), (&entry(json!(null)), &entry(json!("YQ=="))));
    assert_eq!(results[2]["Node"]["Node"], "db");
    assert_eq!(results[3]["Service"]["Port"], 5432);
    assert_eq!(results[4]["Check"]["ServiceName"], "pg");
    assert_eq!(results.as_array().unwrap().len(), 5);
    assert!(!answer.headers.contains_key("x-consul-index"));
    assert_eq!(node.get("/v1/health/service/pg?passing").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_refusal_undoes_everything() {
    let node = TestNode::start().await;
    node.done("/v1/kv/k", "x").await;
    let answer = transact(
        &node,
        json!([
            {"KV": {"Verb": "set", "Key": "k", "Value": "eQ=="}},
            {"KV": {"Verb": "cas", "Key": "k", "Index": 1}},
            {"KV": {"Verb": "check-not-exists", "Key": "k"}},
            {"Node": {"Verb": "get", "Node": {"Node": "zz"}}},
            {"Service": {"Verb": "set", "Node": "zz", "Service": {"Service": "web"}}},
            {"Service": {"Verb": "delete-cas", "Node": "n1", "Service": {"ID": "web", "ModifyIndex": 3}}},
            {"Check": {"Verb": "cas", "Check": {"Node": "n1", "CheckID": "c", "ModifyIndex": 9}}},
        ]),
    )
    .await;
    assert_eq!(answer.status, 409);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let errors = json!([
        {"OpIndex": 1, "What": "failed to set key \"k\", index is stale"},
        {"OpIndex": 2, "What": "key \"k\" exists"},
        {"OpIndex": 3, "What": "node \"zz\" doesn't exist"},
        {"OpIndex": 4, "What": "Missing node registration"},
        {"OpIndex": 5, "What": "failed to delete service \"web\" on node \"n1\", index is stale"},
        {"OpIndex": 6, "What": "failed to set check \"c\" on node \"n1\", index is stale"},
    ]);
    assert_eq!(body, json!({"Results": null, "Errors": errors}));
    assert_eq!(node.get("/v1/kv/k?raw").await.text(), "x");
}

#[tokio::test]
async fn what_only_reads_says_how_it_was_read() {
    let node = TestNode::start().await;
    node.done("/v1/kv/k", "x").await;
    let answer = transact(&node, json!([{"KV": {"Verb": "get-tree", "Key": ""}}])).await;
    let body = answer.json();
    assert_eq!(body["Results"][0]["KV"]["Value"], "eA==");
    assert_eq!(
        (&body["KnownLeader"], &body["LastContact"], &body["Index"]),
        (&json!(true), &json!(0), &json!(0))
    );
    assert_eq!(answer.headers["x-consul-knownleader"], "true");
    assert!(!answer.headers.contains_key("x-consul-index"));
    let missing = transact(&node, json!([{"KV": {"Verb": "get", "Key": "none"}}])).await;
    assert_eq!(missing.status, 409);
    assert!(missing.text().contains(r#""What":"key \"none\" doesn't exist""#));
    let empty = transact(&node, json!([{"KV": {"Verb": "get-or-empty", "Key": "none"}}])).await;
    assert_eq!(empty.json()["Results"][0]["KV"]["Value"], json!(null));
}

#[tokio::test]
async fn requests_beyond_the_limits_are_refused() {
    let node = TestNode::with(Default::default(), |config| {
        config.value_bytes_max = 8;
        config.txn_bytes_max = 20_000;
    })
    .await;
    let many = vec![json!({"KV": {"Verb": "get", "Key": "a"}}); 129];
    let long = json!([{"KV": {"Verb": "set", "Key": "a", "Value": "MTIzNDU2Nzg5"}}]);
    for (answer, said) in [
        (transact(&node, json!(many)).await, (413, "Transaction contains too many operations (129 > 128)")),
        (transact(&node, long).await, (413, "Value for key \"a\" is too large (9 > 8 bytes)")),
        (
            node.put("/v1/txn", &" ".repeat(20_001)).await,
            (413, "Request body(20001 bytes) too large, max size: 20000 bytes. See limits.txn_max_req_len."),
        ),
        (node.put("/v1/txn", "").await, (400, "Failed to parse body: EOF")),
        (
            node.put("/v1/txn", r#"[{"xx":{}}]"#).await,
            (400, "Failed to parse body: json: unknown field \"xx\""),
        ),
    ] {
        assert_eq!(answer.said(), said);
    }
    assert_eq!(transact(&node, json!(many[..128])).await.status, 409);
    let wrong =
        transact(&node, json!([{"KV": {"Verb": "get-or-else", "Key": "a"}}, {"KV": {"Verb": "set"}}])).await;
    assert_eq!(wrong.status, 409);
    let body: Value = serde_json::from_slice(&wrong.body).unwrap();
    assert_eq!(body["Errors"][0], json!({"OpIndex": 0, "What": "unknown KV verb \"get-or-else\""}));
    assert_eq!(body["Errors"][1], json!({"OpIndex": 1, "What": "Must provide key"}));
}
