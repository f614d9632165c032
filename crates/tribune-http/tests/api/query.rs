//! `/v1/query/…`.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::node::TestNode;

async fn create(node: &TestNode, body: Value) -> String {
    let answer = node.ask(Request::post("/v1/query"), body.to_string()).await;
    answer.json()["ID"].as_str().unwrap().to_owned()
}

async fn register(node: &TestNode, name: &str, service: &str, status: &str, tags: &[&str]) {
    let body = json!({"Node": name, "Address": "10.0.0.1", "NodeMeta": {"rack": name},
                      "Service": {"Service": service, "Tags": tags, "Meta": {"version": "2"}},
                      "Check": {"Name": "c", "CheckID": "c", "Status": status, "ServiceID": service}});
    node.done("/v1/catalog/register", &body.to_string()).await;
}

async fn nodes(node: &TestNode, uri: &str) -> String {
    let answer = node.get(uri).await.json();
    let mut names: Vec<_> =
        answer["Nodes"].as_array().unwrap().iter().map(|it| it["Node"]["Node"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.join(" ")
}

#[tokio::test]
async fn queries_are_kept_changed_and_forgotten() {
    let node = TestNode::start().await;
    let empty = node.get("/v1/query").await;
    assert_eq!((empty.index(), empty.json()), (1, json!([])));
    let id = create(&node, json!({"Name": "q1", "Service": {"Service": "web"}, "Token": "secret"})).await;
    let one = node.get(&format!("/v1/query/{id}")).await;
    let index = one.index();
    assert_eq!(
        one.json(),
        json!([{"ID": id, "Name": "q1", "Session": "", "Token": "<hidden>",
                "Template": {"Type": "", "Regexp": "", "RemoveEmptyTags": false},
                "Service": {"Service": "web", "Failover": {"NearestN": 0, "Datacenters": null},
                            "OnlyPassing": false, "IgnoreCheckIDs": null, "Near": "", "Tags": null,
                            "NodeMeta": null, "ServiceMeta": null, "Connect": false},
                "DNS": {"TTL": ""}, "CreateIndex": index, "ModifyIndex": index}])
    );
    let change = json!({"Name": "q1", "Service": {"Service": "api"}, "DNS": {"TTL": "10s"}}).to_string();
    assert_eq!(node.put(&format!("/v1/query/{id}"), &change).await.said(), (200, ""));
    let list = node.get("/v1/query").await;
    assert_eq!(list.json()[0]["Service"]["Service"], json!("api"));
    assert_eq!(list.json()[0]["CreateIndex"], json!(index));
    assert!(list.index() > index);
    let delete = async |id: &str| node.ask(Request::delete(format!("/v1/query/{id}")), "").await;
    assert_eq!(delete(&id).await.said(), (200, ""));
    let gone = format!("Cannot modify non-existent prepared query: '{id}'");
    assert_eq!(delete(&id).await.said(), (500, gone.as_str()));
    assert_eq!(node.put(&format!("/v1/query/{id}"), &change).await.said(), (500, gone.as_str()));
    assert_eq!(node.get(&format!("/v1/query/{id}")).await.said(), (404, "Query not found"));
    let no_id = "failed prepared query lookup: index error: UUID must be 36 characters";
    assert_eq!(node.get("/v1/query/x").await.said(), (500, no_id));
}

#[tokio::test]
async fn queries_that_cannot_be_kept_say_why() {
    let node = TestNode::start().await;
    create(&node, json!({"Name": "q1", "Service": {"Service": "web"}})).await;
    create(
        &node,
        json!({"Name": "", "Template": {"Type": "name_prefix_match"}, "Service": {"Service": "x"}}),
    )
    .await;
    let session = "e4eb0c64-29ce-4ee4-44ad-f7894a96ba0b";
    for (body, status, text) in [
        (
            json!({"Name": "Q1", "Service": {"Service": "web"}}),
            500,
            "name 'Q1' aliases an existing query name",
        ),
        (
            json!({"Template": {"Type": "name_prefix_match"}, "Service": {"Service": "x"}}),
            500,
            "a query template with an empty name already exists",
        ),
        (
            json!({"Name": "s", "Session": session, "Service": {"Service": "x"}}),
            500,
            "invalid session \"e4eb0c64-29ce-4ee4-44ad-f7894a96ba0b\"",
        ),
        (
            json!({"ID": session, "Name": "i", "Service": {"Service": "x"}}),
            500,
            "ID must be empty when creating a new prepared query",
        ),
        (
            json!({"Name": "t", "Template": {"Type": "name_prefix_match"}, "Service": {"Service": "${foo.bar}"}}),
            500,
            "failed compiling template: Bad evaluation for '${foo.bar}' in Service.Service: 1:3: unknown \
             variable accessed: foo.bar",
        ),
        (json!({"Foo": 1}), 400, "Request decode failed: json: unknown field \"Foo\""),
    ] {
        let answer = node.ask(Request::post("/v1/query"), body.to_string()).await;
        assert_eq!(answer.said(), (status, text));
    }
}

#[tokio::test]
async fn executing_gives_the_instances_that_are_wanted() {
    let node = TestNode::start().await;
    register(&node, "a", "web", "passing", &["v1"]).await;
    register(&node, "b", "web", "warning", &["v2", "Blue"]).await;
    register(&node, "c", "web", "critical", &["v3"]).await;
    for (name, service, expected) in [
        ("plain", json!({}), "a b"),
        ("passing", json!({"OnlyPassing": true}), "a"),
        ("ignoring", json!({"IgnoreCheckIDs": ["C"]}), "a b c"),
        ("tagged", json!({"Tags": ["V2", "blue"]}), "b"),
        ("not-tagged", json!({"Tags": ["!v2"]}), "a"),
        ("of-rack", json!({"NodeMeta": {"rack": "b"}}), "b"),
        ("of-version", json!({"ServiceMeta": {"version": "3"}}), ""),
        ("mesh", json!({"Connect": true}), ""),
    ] {
        let mut service = service;
        service["Service"] = json!("web");
        create(&node, json!({"Name": name, "Service": service})).await;
        assert_eq!(nodes(&node, &format!("/v1/query/{name}/execute")).await, expected, "{name}");
    }
    assert_eq!(nodes(&node, "/v1/query/plain/execute?connect").await, "");
    assert_eq!(
        node.get("/v1/query/plain/execute?limit=1").await.json()["Nodes"].as_array().unwrap().len(),
        1
    );
    let bad = node.get("/v1/query/plain/execute?limit=x").await;
    assert_eq!(bad.said(), (500, "Bad limit: strconv.Atoi: parsing \"x\": invalid syntax"));
    let empty = node.get("/v1/query/of-version/execute").await;
    assert_eq!(
        empty.text(),
        "{\"Service\":\"web\",\"Nodes\":[],\"DNS\":{\"TTL\":\"\"},\"Datacenter\":\"dc1\",\"Failovers\":0,\
         \"Index\":0,\"LastContact\":0,\"KnownLeader\":true,\"ConsistencyLevel\":\"leader\"}"
    );
    assert_eq!(node.get("/v1/query/unknown/execute").await.said(), (404, "Query not found"));
}

#[tokio::test]
async fn the_nearest_are_given_first() {
    let node = TestNode::start().await;
    for (name, distance) in [("a", 0.03), ("b", 0.001), ("c", 0.01)] {
        register(&node, name, "web", "passing", &[]).await;
        let coord =
            json!({"Vec": [distance, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 1e-5});
        node.done("/v1/coordinate/update", &json!({"Node": name, "Coord": coord}).to_string()).await;
    }
    create(&node, json!({"Name": "near", "Service": {"Service": "web", "Near": "b"}})).await;
    let order = async |uri: &str| {
        let answer = node.get(uri).await.json();
        let list = answer["Nodes"].as_array().unwrap().iter();
        list.map(|it| it["Node"]["Node"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    for _ in 0..5 {
        assert_eq!(order("/v1/query/near/execute").await, "b c a");
        assert_eq!(order("/v1/query/near/execute?near=a").await, "a c b");
    }
}

#[tokio::test]
async fn templates_are_filled_in() {
    let node = TestNode::start().await;
    register(&node, "a", "web", "passing", &["blue"]).await;
    let template = json!({"Name": "geo-", "Template": {"Type": "name_prefix_match", "Regexp": "^geo-(.*)-(.*)$"},
                          "Service": {"Service": "${match(1)}", "Tags": ["${match(2)}"]}});
    let id = create(&node, template).await;
    assert_eq!(nodes(&node, "/v1/query/geo-web-blue/execute").await, "a");
    assert_eq!(nodes(&node, "/v1/query/geo-web-red/execute").await, "");
    let explained = node.get("/v1/query/geo-web-red/explain").await.json();
    assert_eq!((&explained["Query"]["ID"], &explained["Query"]["Name"]), (&json!(id), &json!("geo-")));
    assert_eq!(explained["Query"]["Service"]["Tags"], json!(["red"]));
    assert_eq!(explained["ConsistencyLevel"], json!("leader"));
    assert_eq!(node.get("/v1/query/xyz/explain").await.said(), (404, "Query not found"));
}

#[tokio::test]
async fn an_execution_can_be_waited_for() {
    let node = TestNode::start().await;
    create(&node, json!({"Name": "q", "Service": {"Service": "web"}})).await;
    let before = node.get("/v1/query/q/execute").await;
    let uri = format!("/v1/query/q/execute?index={}&wait=60s", before.index());
    let registering = async {
        tokio::task::yield_now().await;
        register(&node, "x", "other", "passing", &[]).await;
        register(&node, "a", "web", "passing", &[]).await;
    };
    let (after, ()) = tokio::join!(node.get(&uri), registering);
    assert!(after.index() > before.index());
    assert_eq!(after.json()["Nodes"][0]["Node"]["Node"], json!("a"));
}

#[tokio::test]
async fn other_datacenters_answer_when_nobody_is_here() {
    let node = TestNode::start().await;
    const EMPTY: &str = r#"{"Service":"web","Nodes":[],"DNS":{"TTL":""},"Datacenter":"dc2","Failovers":0}"#;
    const FULL: &str = r#"{"Service":"web","Nodes":[{"Node":{"Node":"far"}}],"DNS":{"TTL":"5s"},"Datacenter":"x","Failovers":0}"#;
    let millis = Duration::from_millis;
    *node.others.datacenters.lock().unwrap() = vec![
        ("dc2".to_owned(), millis(5), EMPTY),
        ("dc3".to_owned(), millis(9), "no json"),
        ("dc4".to_owned(), millis(80), FULL),
    ];
    let failover = json!({"NearestN": 2, "Datacenters": ["dc9", "dc4", "dc2"]});
    create(&node, json!({"Name": "q", "Service": {"Service": "web", "Failover": failover}})).await;
    let answer = node.get("/v1/query/q/execute?limit=3").await.json();
    assert_eq!(answer["Nodes"][0]["Node"]["Node"], json!("far"));
    assert_eq!((&answer["Datacenter"], &answer["Failovers"]), (&json!("dc4"), &json!(3)));
    assert_eq!(answer["DNS"]["TTL"], json!("5s"));
    let path = "GET /v1/internal/query/execute?limit=3";
    assert_eq!(node.others.noted(), [format!("dc2: {path}"), format!("dc3: {path}"), format!("dc4: {path}")]);
    // Who is known to have nothing is not asked, and counts as tried; unless checks are to be ignored.
    *node.others.lacking.lock().unwrap() = vec![("dc2".to_owned(), "web".to_owned())];
    let answer = node.get("/v1/query/q/execute?limit=3").await.json();
    assert_eq!((&answer["Datacenter"], &answer["Failovers"]), (&json!("dc4"), &json!(3)));
    assert_eq!(node.others.noted(), [format!("dc3: {path}"), format!("dc4: {path}")]);
    let failover = json!({"NearestN": 1});
    let service = json!({"Service": "web", "IgnoreCheckIDs": ["c"], "Failover": failover});
    create(&node, json!({"Name": "ignoring", "Service": service})).await;
    node.get("/v1/query/ignoring/execute?limit=3").await;
    assert_eq!(node.others.noted(), [format!("dc2: {path}")]);
    register(&node, "a", "web", "passing", &[]).await;
    let answer = node.get("/v1/query/q/execute").await.json();
    assert_eq!((&answer["Datacenter"], &answer["Failovers"]), (&json!("dc1"), &json!(0)));
    assert!(node.others.noted().is_empty());
    // What the other side does with it.
    let body =
        json!({"ID": "1", "Name": "q", "Service": {"Service": "web"}, "DNS": {"TTL": "9s"}}).to_string();
    let answer = node.ask(Request::get("/v1/internal/query/execute?limit=1"), body).await.json();
    assert_eq!((&answer["Nodes"][0]["Node"]["Node"], &answer["DNS"]["TTL"]), (&json!("a"), &json!("9s")));
}

#[tokio::test]
async fn answers_for_readers_elsewhere_give_their_addresses() {
    let node = TestNode::start().await;
    let body = json!({"Node": "far", "Address": "10.0.0.1", "TaggedAddresses": {"wan": "198.51.100.1"},
                      "Service": {"Service": "web", "Port": 80, "Address": "10.9.9.9",
                                  "TaggedAddresses": {"wan": {"Address": "203.0.113.1", "Port": 8080}}}});
    node.done("/v1/catalog/register", &body.to_string()).await;
    create(&node, json!({"Name": "q", "Service": {"Service": "web"}})).await;
    let own = json!(["10.0.0.1", "10.9.9.9", 80]);
    let wan = json!(["198.51.100.1", "203.0.113.1", 8080]);
    // Each is kept apart from the other, and filters see what is stored.
    for (manner, shown) in [("", &own), ("?addresses=wan", &wan), ("", &own), ("?addresses=other", &own)] {
        let get = async |uri: &str| node.get(&format!("{uri}{manner}")).await.json();
        let show = |node: &Value, service: &Value, prefix: &str| {
            json!([node["Address"], service[format!("{prefix}Address")], service[format!("{prefix}Port")]])
        };
        let health = &get("/v1/health/service/web").await[0];
        assert_eq!(show(&health["Node"], &health["Service"], ""), *shown);
        let catalog = &get("/v1/catalog/service/web").await[0];
        assert_eq!(show(catalog, catalog, "Service"), *shown);
        let found = &get("/v1/query/q/execute").await["Nodes"][0];
        assert_eq!(show(&found["Node"], &found["Service"], ""), *shown);
        let node = get("/v1/catalog/node/far").await;
        assert_eq!(show(&node["Node"], &node["Services"]["web"], ""), *shown);
        let list = get("/v1/catalog/node-services/far").await;
        assert_eq!(show(&list["Node"], &list["Services"][0], ""), *shown);
        let nodes = get("/v1/catalog/nodes").await;
        let far = nodes.as_array().unwrap().iter().find(|node| node["Node"] == "far").unwrap();
        assert_eq!(far["Address"], shown[0]);
    }
    let filtered = node.get("/v1/catalog/nodes?addresses=wan&filter=Address==%2210.0.0.1%22").await.json();
    assert_eq!(filtered[0]["Address"], wan[0]);
}
