//! `/v1/coordinate/…`, and lists that are sorted by distance.

use std::time::Duration;

use serde_json::{Value, json};

use crate::node::TestNode;

/// Registers nodes with one instance of `web` each, and puts them at these distances (in milliseconds) from the
/// origin, each on an axis of its own.
async fn place(node: &TestNode, nodes: &[(&str, Option<f64>)]) {
    for (axis, (name, distance)) in nodes.iter().enumerate() {
        let body = json!({"Node": name, "Address": "10.0.0.1", "Service": {"Service": "web"},
                          "Check": {"Name": "c", "Status": "passing", "ServiceID": "web"}});
        node.done("/v1/catalog/register", &body.to_string()).await;
        if let Some(distance) = distance {
            let mut vec = [0.0; 8];
            vec[axis] = distance / 1000.0;
            node.done("/v1/coordinate/update", &update(name, json!(vec))).await;
        }
    }
}

fn update(node: &str, vec: Value) -> String {
    json!({"Node": node, "Coord": {"Vec": vec, "Error": 1.5, "Adjustment": 0.0, "Height": 1e-5}}).to_string()
}

async fn names(node: &TestNode, uri: &str) -> Vec<String> {
    let list = node.get(uri).await.json();
    let list = list.as_array().unwrap().iter();
    let name = |entry: &Value| {
        if entry["Node"].is_object() { entry["Node"]["Node"].clone() } else { entry["Node"].clone() }
    };
    list.map(|entry| name(entry).as_str().unwrap().to_owned()).filter(|name| name != "n1").collect()
}

#[tokio::test]
async fn places_are_put_and_listed() {
    let node = TestNode::start().await;
    let empty = node.get("/v1/coordinate/nodes").await;
    assert_eq!((empty.index(), empty.json()), (1, json!([])));
    assert_eq!(node.get("/v1/coordinate/node/a").await.said(), (404, ""));
    place(&node, &[("a", Some(4.0)), ("b", None)]).await;
    let coord =
        json!({"Vec": [0.004, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 0.00001});
    let entry = json!([{"Node": "a", "Segment": "", "Coord": coord}]);
    let all = node.get("/v1/coordinate/nodes").await;
    // Go writes whole numbers without a fraction, and so do we.
    assert!(
        all.text().contains(r#""Vec":[0.004,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001"#)
    );
    assert_eq!(all.json()[0]["Node"], entry[0]["Node"]);
    assert!(all.index() > 1);
    assert_eq!(node.get("/v1/coordinate/node/A").await.json().as_array().unwrap().len(), 1);
    assert_eq!(node.get("/v1/coordinate/node/b").await.said(), (404, ""));
    assert_eq!(node.get("/v1/coordinate/node/a?segment=x").await.said(), (404, ""));
    assert_eq!(node.get("/v1/coordinate/nodes?segment=x").await.json(), json!([]));
    let put = async |body: &str| node.put("/v1/coordinate/update", body).await;
    assert_eq!(put(&update("a", json!([1, 2]))).await.said(), (500, "incompatible coordinate"));
    assert_eq!(put(&update("nobody", json!([0, 0, 0, 0, 0, 0, 0, 0]))).await.said(), (200, ""));
    assert_eq!(
        put(r#"{"Nod":"a"}"#).await.said(),
        (400, "Request decode failed: json: unknown field \"Nod\"")
    );
    assert_eq!(put("").await.said(), (400, "Request decode failed: EOF"));
    assert_eq!(put(r#"{"Node":"a"}"#).await.status, 400);
}

#[tokio::test]
async fn a_place_is_put_in_the_datacenter_that_it_names() {
    let node = TestNode::start().await;
    *node.others.datacenters.lock().unwrap() = vec![("dc2".to_owned(), Duration::ZERO, "")];
    let in_datacenter = |name: &str| {
        let mut body: Value = serde_json::from_str(&update("a", json!([0, 0, 0, 0, 0, 0, 0, 0]))).unwrap();
        body["Datacenter"] = json!(name);
        body.to_string()
    };
    let put = async |name: &str| node.put("/v1/coordinate/update", &in_datacenter(name)).await;
    assert_eq!(put("DC2").await.said(), (200, ""));
    assert_eq!(node.others.noted(), ["dc2: PUT /v1/coordinate/update"]);
    assert_eq!(put("dc9").await.said(), (500, "No path to datacenter"));
    node.others.noted();
    assert_eq!(put("DC1").await.said(), (200, ""));
    assert!(node.others.noted().is_empty());
}

#[tokio::test]
async fn datacenters_are_listed_with_their_servers() {
    let node = TestNode::start().await;
    let answer = node.get("/v1/coordinate/datacenters").await;
    let maps = answer.json();
    let place = |map: &Value| (map["Datacenter"].clone(), map["AreaID"].clone(), map["Coordinates"].clone());
    assert_eq!(maps.as_array().unwrap().len(), 2);
    let (name, area, servers) = place(&maps[0]);
    assert_eq!((name, area), (json!("dc1"), json!("wan")));
    assert_eq!((&servers[0]["Node"], &servers[1]["Node"]), (&json!("s1"), &json!("s2")));
    assert!(!answer.headers.contains_key("x-consul-index"));
}

#[tokio::test]
async fn the_nearest_come_first() {
    let node = TestNode::start().await;
    let nodes = [("a", Some(30.0)), ("b", None), ("c", Some(1.0)), ("d", Some(10.0)), ("e", Some(0.0))];
    place(&node, &nodes).await;
    for (uri, expected) in [
        ("/v1/catalog/nodes?near=e", "e c d a b"),
        ("/v1/catalog/nodes?near=E", "e c d a b"),
        ("/v1/catalog/nodes?near=b", "a b c d e"),
        ("/v1/catalog/nodes?near=unknown", "a b c d e"),
        ("/v1/catalog/nodes", "a b c d e"),
        ("/v1/catalog/service/web?near=a", "a e c d b"),
        ("/v1/health/service/web?near=e", "e c d a b"),
        ("/v1/health/checks/web?near=e", "e c d a b"),
        ("/v1/health/state/passing?near=e", "e c d a b"),
    ] {
        assert_eq!(names(&node, uri).await.join(" "), expected, "{uri}");
    }
}

#[tokio::test]
async fn who_waits_for_the_nearest_learns_of_moves() {
    let node = TestNode::start().await;
    place(&node, &[("a", Some(1.0)), ("b", Some(5.0)), ("e", Some(0.0))]).await;
    let before = node.get("/v1/health/service/web?near=e").await;
    let waiting =
        async { node.get(&format!("/v1/health/service/web?near=e&index={}&wait=60s", before.index())).await };
    let moving = async {
        tokio::task::yield_now().await;
        node.done("/v1/coordinate/update", &update("a", json!([0.05, 0, 0, 0, 0, 0, 0, 0]))).await;
    };
    let (after, ()) = tokio::join!(waiting, moving);
    assert_eq!(after.json()[2]["Node"]["Node"], json!("a"));
}
