//! Keys and values.

use serde_json::json;

use crate::node::TestNode;

const UUID: &str = "11111111-1111-1111-1111-111111111111";

#[tokio::test]
async fn values_are_written_and_read() {
    let node = TestNode::start().await;
    assert_eq!(node.put("/v1/kv/a/b?flags=42", "hello<").await.said(), (200, "true"));
    let answer = node.get("/v1/kv/a/b").await;
    let index = answer.index();
    let expected = format!(
        r#"[{{"LockIndex":0,"Key":"a/b","Flags":42,"Value":"aGVsbG88","CreateIndex":{index},"ModifyIndex":{index}}}]"#
    );
    assert_eq!(answer.said(), (200, expected.as_str()));
    assert_eq!(answer.headers["x-consul-knownleader"], "true");
    assert_eq!(answer.headers["x-consul-lastcontact"], "0");
    assert!(!answer.headers.contains_key("x-consul-effective-consistency"));

    node.done("/v1/kv/a/b?flags=42", "hello<").await;
    assert_eq!(node.get("/v1/kv/a/b").await.index(), index, "the same again changes nothing");
    node.done("/v1/kv/empty", "").await;
    assert_eq!(node.get("/v1/kv/empty").await.json()[0]["Value"], json!(null));
    node.done("/v1/kv/%C3%A4%20b%3F", "x").await;
    assert_eq!(node.get("/v1/kv/%C3%A4%20b%3F").await.json()[0]["Key"], "ä b?");
    assert_eq!(node.delete("/v1/kv/a/b").await.said(), (200, "true"));
    assert_eq!(node.delete("/v1/kv/a/b").await.said(), (200, "true"));
    assert!(node.get("/v1/kv/a/b").await.index() > index, "an index must not fall with its key");
}

#[tokio::test]
async fn what_is_not_there_is_404_with_an_index() {
    let node = TestNode::start().await;
    for question in ["none", "none?raw", "none?recurse", "none?keys", "?recurse"] {
        let answer = node.get(&format!("/v1/kv/{question}")).await;
        assert_eq!(answer.said(), (404, ""), "{question}");
        assert!(answer.index() >= 1 && answer.headers.contains_key("x-consul-lastcontact"), "{question}");
        assert!(!answer.headers.contains_key("content-type"), "{question}");
    }
    assert_eq!(node.get("/v1/kv/?keys").await.said(), (200, "[]"));
}

#[tokio::test]
async fn raw_values_are_bytes_under_safe_headers() {
    let node = TestNode::start().await;
    node.done("/v1/kv/script", "<script>").await;
    node.done("/v1/kv/empty", "").await;
    let raw = node.get("/v1/kv/script?raw").await;
    assert_eq!(raw.said(), (200, "<script>"));
    assert_eq!(raw.headers["content-type"], "text/plain");
    assert_eq!(raw.headers["x-content-type-options"], "nosniff");
    assert_eq!(raw.headers["content-security-policy"], "sandbox");
    assert!(raw.index() > 1);
    assert_eq!(node.get("/v1/kv/empty?raw").await.said(), (200, ""));
}

#[tokio::test]
async fn prefixes_list_entries_and_names() {
    let node = TestNode::start().await;
    for key in ["web/b", "web/a/x", "web/a/y", "web", "webs", "other"] {
        node.done(&format!("/v1/kv/{key}"), key).await;
    }
    let keys = async |question: &str| node.get(&format!("/v1/kv/{question}")).await.json();
    assert_eq!(keys("web?keys").await, json!(["web", "web/a/x", "web/a/y", "web/b", "webs"]));
    assert_eq!(keys("web/?keys&separator=/").await, json!(["web/a/", "web/b"]));
    assert_eq!(keys("?keys&separator=/").await, json!(["other", "web", "web/", "webs"]));
    assert_eq!(keys("?keys&seperator=/&recurse").await, json!(["other", "web", "web/", "webs"]));
    let tree = keys("web/?recurse&raw").await;
    let names: Vec<_> = tree.as_array().unwrap().iter().map(|entry| entry["Key"].as_str().unwrap()).collect();
    assert_eq!(names, ["web/a/x", "web/a/y", "web/b"]);
    assert_eq!(node.delete("/v1/kv/web/?recurse").await.said(), (200, "true"));
    assert_eq!(keys("?keys").await, json!(["other", "web", "webs"]));
}

#[tokio::test]
async fn conditions_are_answered_with_false() {
    let node = TestNode::start().await;
    assert_eq!(node.put("/v1/kv/k?cas=0", "1").await.text(), "true");
    assert_eq!(node.put("/v1/kv/k?cas=0", "2").await.text(), "false");
    let index = node.get("/v1/kv/k").await.index();
    assert_eq!(node.put(&format!("/v1/kv/k?cas={index}"), "2").await.text(), "true");
    assert_eq!(node.delete(&format!("/v1/kv/k?cas={index}")).await.text(), "false");
    assert_eq!(node.delete("/v1/kv/none?cas=9").await.text(), "true");
    assert_eq!(node.put(&format!("/v1/kv/k?release={UUID}"), "").await.text(), "false");
    let missing = node.put(&format!("/v1/kv/k?acquire={UUID}"), "").await;
    assert_eq!(missing.said(), (500, format!("invalid session \"{UUID}\"").as_str()));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let node = TestNode::with(Default::default(), |config| config.value_bytes_max = 8).await;
    for (answer, said) in [
        (node.get("/v1/kv/").await, (400, "Missing key name")),
        (node.put("/v1/kv/", "x").await, (400, "Missing key name")),
        (node.delete("/v1/kv/").await, (400, "Missing key name")),
        (node.put("/v1/kv/k?cas=1&acquire=x", "").await, (400, "Conflicting flags: acquire=x&cas=1\n")),
        (node.delete("/v1/kv/k?recurse&cas=1").await, (400, "Conflicting flags: cas=1&recurse=\n")),
        (node.put("/v1/kv/k?flags=x", "").await, (500, "strconv.ParseUint: parsing \"x\": invalid syntax")),
        (
            node.put("/v1/kv/k?ns=x", "").await,
            (400, "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature"),
        ),
        (
            node.put("/v1/kv/k", "123456789").await,
            (413, "Request body(9 bytes) too large, max size: 8 bytes. See limits.kv_max_value_size."),
        ),
    ] {
        assert_eq!(answer.said(), said);
    }
    node.done("/v1/kv/k", "12345678").await;
}

#[tokio::test]
async fn who_waits_is_woken_by_its_own_key_or_prefix_alone() {
    let node = TestNode::start().await;
    node.done("/v1/kv/a/1", "x").await;
    let tree = node.get("/v1/kv/a/?recurse").await.index();
    let absent = node.get("/v1/kv/b").await.index();
    node.done("/v1/kv/c", "x").await;
    let unmoved = node.get(&format!("/v1/kv/a/?recurse&index={tree}&wait=10ms")).await;
    assert_eq!(unmoved.index(), tree);
    assert_eq!(node.get(&format!("/v1/kv/b?index={absent}&wait=10ms")).await.status, 404);

    let waiting = format!("/v1/kv/b?index={absent}&wait=1m");
    let (woken, _) = tokio::join!(node.get(&waiting), node.put("/v1/kv/b", "now"));
    assert_eq!(woken.json()[0]["Value"], "bm93");
    let waiting = format!("/v1/kv/a/?keys&index={tree}&wait=1m");
    let (woken, _) = tokio::join!(node.get(&waiting), node.put("/v1/kv/a/2", "x"));
    assert_eq!(woken.json(), json!(["a/1", "a/2"]));
    let waiting = format!("/v1/kv/a/?recurse&index={}&wait=1m", woken.index());
    let (woken, _) = tokio::join!(node.get(&waiting), node.delete("/v1/kv/a/?recurse"));
    assert_eq!(woken.said(), (404, ""));
    assert!(woken.index() > tree);
}
