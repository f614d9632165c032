//! Catalog, health and status.

use std::time::Duration;

use serde_json::json;

use crate::node::TestNode;

/// Three instances of `web` on two nodes: one warning, one tagged, one on a node with other metadata.
async fn populated() -> TestNode {
    let node = TestNode::start().await;
    for body in [
        r#"{"Node":"a","ID":"40e4a748-2192-161a-0510-9bf59fe950b5","Address":"10.0.0.1","NodeMeta":{"rack":"a"},"Service":{"ID":"w1","Service":"web","Tags":["V1","x"],"Port":80},
            "Checks":[{"CheckID":"c1","Name":"c1","ServiceID":"w1","Status":"passing"},{"CheckID":"n","Name":"n","Status":"passing"}]}"#,
        r#"{"Node":"a","Address":"10.0.0.1","SkipNodeUpdate":true,"Service":{"ID":"w2","Service":"web","Tags":["v2"],"Port":81},
            "Check":{"CheckID":"c2","Name":"c2","ServiceID":"w2","Status":"warning"}}"#,
        r#"{"Node":"b","Address":"10.0.0.2","NodeMeta":{"rack":"b"},"Service":{"Service":"web","Tags":["v2"],"Port":82}}"#,
    ] {
        let answer = node.put("/v1/catalog/register", body).await;
        assert_eq!(answer.said(), (200, "true"));
    }
    node
}

#[tokio::test]
async fn lists_can_be_narrowed() {
    let node = populated().await;
    for (question, ports) in [
        ("", vec![80, 81, 82]),
        ("?passing", vec![80, 82]),
        ("?passing=false", vec![80, 81, 82]),
        ("?tag=v1", vec![80]),
        ("?tag=v1&tag=X", vec![80]),
        ("?tag=v1&tag=v2", vec![]),
        ("?node-meta=rack:b", vec![82]),
        ("?node-meta=rack:b&node-meta=rack:a", vec![]),
        ("?filter=Service.Port%3D%3D81", vec![81]),
        ("?filter=Node.Meta.rack%3D%3Da%20and%20not%20%22v2%22%20in%20Service.Tags", vec![80]),
        ("?near=a&tag=v2&passing", vec![82]),
    ] {
        let answer = node.get(&format!("/v1/health/service/WEB{question}")).await;
        let list = answer.json();
        let found: Vec<u64> =
            list.as_array().unwrap().iter().map(|entry| entry["Service"]["Port"].as_u64().unwrap()).collect();
        assert_eq!(found, ports, "{question}");
    }
    let list = node.get("/v1/catalog/service/web?tag=v2").await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0]["ServicePort"], 81);
    let checks = node.get("/v1/health/checks/web").await.json();
    assert_eq!(checks.as_array().unwrap().len(), 2);
    assert_eq!(node.get("/v1/health/state/warning").await.json()[0]["CheckID"], "c2");
    assert_eq!(node.get("/v1/health/state/any?node-meta=rack:a").await.json().as_array().unwrap().len(), 3);
    assert_eq!(node.get("/v1/health/state/unheard").await.text(), "[]");
    assert_eq!(node.get("/v1/health/node/a").await.json().as_array().unwrap().len(), 3);
    assert_eq!(node.get("/v1/catalog/services").await.json()["web"], json!(["V1", "v2", "x"]));
    assert_eq!(node.get("/v1/catalog/services?node-meta=rack:b").await.json(), json!({"web": ["v2"]}));
    assert_eq!(node.get("/v1/catalog/nodes?node-meta=rack:b").await.json()[0]["Node"], "b");
}

#[tokio::test]
async fn nodes_are_found_by_name_and_by_id() {
    let node = populated().await;
    for asked in ["a", "A", "40e4a748-2192-161a-0510-9bf59fe950b5", "40e4"] {
        let found = node.get(&format!("/v1/catalog/node/{asked}")).await.json();
        assert_eq!(found["Node"]["Node"], "a", "{asked}");
        assert_eq!(found["Services"]["w2"]["Port"], 81);
        let list = node.get(&format!("/v1/catalog/node-services/{asked}")).await.json();
        assert_eq!(list["Services"][0]["ID"], "w1");
    }
    assert_eq!(node.get("/v1/catalog/node/nobody").await.said(), (200, "null"));
    let nobody = node.get("/v1/catalog/node-services/nobody").await;
    assert_eq!(nobody.text(), r#"{"Node":null,"Services":null}"#);
    assert_eq!(node.get("/v1/catalog/node/4").await.text(), "null", "one digit is no prefix");
}

#[tokio::test]
async fn reads_say_how_they_were_made() {
    let node = populated().await;
    for (question, mode) in [
        ("", "leader"),
        ("?stale", "stale"),
        ("?consistent", "consistent"),
        ("?max_stale=5s", "stale"),
        ("?leader", "leader"),
    ] {
        let answer = node.get(&format!("/v1/health/service/web{question}")).await;
        assert_eq!(answer.headers["x-consul-effective-consistency"], mode, "{question}");
        assert_eq!(answer.headers["x-consul-knownleader"], "true");
        assert_eq!(answer.headers["x-consul-lastcontact"], "0");
        assert!(answer.index() > 0 && answer.headers.get("x-cache").is_none());
    }
    assert_eq!(node.get("/v1/catalog/services?cached").await.headers["x-cache"], "MISS");
    let hit = node.get("/v1/catalog/services?cached").await;
    assert_eq!(
        (&hit.headers["x-cache"], &hit.headers["age"]),
        (&"HIT".parse().unwrap(), &"0".parse().unwrap())
    );
    let uncached = TestNode::with(Default::default(), |config| config.use_cache = false).await;
    assert_eq!(uncached.get("/v1/catalog/services?cached").await.headers.get("x-cache"), None);
    assert_eq!(node.get("/v1/catalog/datacenters").await.headers.get("x-consul-index"), None);
    assert_eq!(node.get("/v1/status/leader").await.text(), r#""127.0.0.1:8300""#);
    assert_eq!(node.get("/v1/status/peers").await.text(), r#"["127.0.0.1:8300"]"#);
    let stale = TestNode::with(Default::default(), |config| {
        config.discovery_max_stale = Some(Duration::from_secs(5));
    })
    .await;
    let mode = |answer: crate::node::Answer| answer.headers["x-consul-effective-consistency"].clone();
    assert_eq!(mode(stale.get("/v1/catalog/nodes").await), "stale");
    assert_eq!(mode(stale.get("/v1/catalog/nodes?leader").await), "leader");
}

#[tokio::test]
async fn indexes_outlive_what_they_spoke_of() {
    let node = populated().await;
    let before = node.get("/v1/health/service/web").await.index();
    for name in ["a", "b"] {
        node.done("/v1/catalog/deregister", &format!("{{\"Node\":\"{name}\"}}")).await;
    }
    let after = node.get("/v1/health/service/web").await;
    assert_eq!(after.text(), "[]");
    assert!(after.index() > before, "an index must not fall when its service ends");
    let waiting = format!("/v1/health/service/web?index={}&wait=1m", after.index());
    let register = r#"{"Node":"c","Address":"10.0.0.3","Service":{"Service":"web","Port":90}}"#;
    let (woken, put) = tokio::join!(node.get(&waiting), node.put("/v1/catalog/register", register));
    assert_eq!(put.text(), "true");
    assert_eq!(woken.json()[0]["Service"]["Port"], 90);
}

#[tokio::test]
async fn refusals_have_consuls_words() {
    let node = populated().await;
    for (uri, body, status, text) in [
        ("register", r#"{"Node":"x","Address":"1","Datacenter":"dc9"}"#, 500, "No path to datacenter"),
        ("deregister", r#"{"Node":"x","Datacenter":"dc9"}"#, 500, "No path to datacenter"),
        ("register", r#"{"Address":"10.0.0.9"}"#, 0, "Must provide node"),
        (
            "register",
            r#"{"Node":"a","Address":"1","Check":{"Name":"c","ServiceID":"none"}}"#,
            500,
            "Missing service registration",
        ),
        (
            "register",
            r#"{"Node":"a","ID":"50e4a748-2192-161a-0510-9bf59fe950b5","Address":"1"}"#,
            500,
            "Node name a is reserved by node 40e4a748",
        ),
    ] {
        let answer = node.put(&format!("/v1/catalog/{uri}"), body).await;
        assert!(status == 0 || answer.status == status, "{body}: {:?}", answer.said());
        assert!(answer.text().contains(text), "{body}: {:?}", answer.said());
    }
    assert_eq!(node.put("/v1/catalog/deregister", r#"{"Node":"nobody"}"#).await.said(), (200, "true"));
}
