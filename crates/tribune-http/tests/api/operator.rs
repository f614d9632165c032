//! `/v1/operator/…`, over a server whose fellows are made up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde_json::json;
use tribune_core::autopilot::{Report, ServerHealth};
use tribune_core::coordinate::Coordinate;
use tribune_core::membership::Life;
use tribune_core::{Datacenter, Index, Timestamp};
use tribune_http::{
    Answered, Distance, Errand, HostError, KeyringOperation, KeyringOptions, Operator, PoolKeys,
    RaftConfiguration, RaftServer, ServerLocated,
};

use crate::node::TestNode;

/// Two servers, `s1` that is asked and leads unless told otherwise, and `s2`; and what was asked of them.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) follows: AtomicBool,
    pub(crate) ill: AtomicBool,
    pub(crate) done: Mutex<Vec<String>>,
    /// What other datacenters answer, by name, and how far they are.
    pub(crate) datacenters: Mutex<Vec<(String, Duration, &'static str)>>,
    /// Which of them are known to have nothing of which service.
    pub(crate) lacking: Mutex<Vec<(String, String)>>,
}

impl Others {
    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    /// What was asked since the last look.
    pub(crate) fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.done.lock().unwrap())
    }
}

fn server(id: &str, leads: bool) -> ServerHealth {
    ServerHealth {
        id: id.into(),
        name: format!("node-{id}").into(),
        address: format!("10.0.0.{}:8300", &id[1..]).into(),
        version: "1.8.7".into(),
        life: Some(Life::Alive),
        leader: leads,
        voter: true,
        read_replica: false,
        last_contact: Some(Duration::from_millis(if leads { 0 } else { 35 })),
        last_term: 4,
        last_index: Index(99),
        healthy: true,
        stable_since: Timestamp(1_795_618_884_135),
    }
}

#[async_trait]
impl Operator for Others {
    fn leads(&self) -> bool {
        !self.follows.load(Ordering::Relaxed)
    }

    async fn ask_leader(&self, errand: Errand) -> Result<Answered, HostError> {
        self.note(format!("{} {} {}", errand.method, errand.path_and_query, errand.headers.len()));
        let headers = HeaderMap::from_iter([
            (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (http::header::CONTENT_LENGTH, HeaderValue::from_static("12345")),
        ]);
        Ok(Answered { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Bytes::from("[\"from afar\"]") })
    }

    async fn ask_datacenter(&self, datacenter: &Datacenter, errand: Errand) -> Result<Answered, HostError> {
        self.note(format!("{datacenter}: {} {}", errand.method, errand.path_and_query));
        let known = self.datacenters.lock().unwrap();
        let Some((_, _, body)) = known.iter().find(|(name, ..)| *name == datacenter.as_str()) else {
            return Err(HostError::Failed("No path to datacenter".to_owned()));
        };
        Ok(Answered { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from(*body) })
    }

    fn datacenters(&self) -> Vec<Distance> {
        let own = Distance { datacenter: Datacenter::new("dc1").unwrap(), round_trip: Some(Duration::ZERO) };
        let known = self.datacenters.lock().unwrap();
        let others = known.iter().map(|(name, round_trip, _)| Distance {
            datacenter: Datacenter::new(name.as_str()).unwrap(),
            round_trip: Some(*round_trip),
        });
        std::iter::once(own).chain(others).collect()
    }

    fn lacks(&self, datacenter: &Datacenter, service: &str) -> bool {
        self.lacking.lock().unwrap().iter().any(|it| *it == (datacenter.to_string(), service.to_owned()))
    }

    fn raft(&self) -> RaftConfiguration {
        let server = |id: &str, leader: bool| RaftServer {
            id: id.to_owned(),
            node: leader.then(|| format!("node-{id}")),
            address: format!("10.0.0.{}:8300", &id[1..]),
            leader,
            voter: leader,
            last_index: leader.then_some(Index(99)),
        };
        RaftConfiguration { servers: vec![server("s1", true), server("s2", false)], index: Index(7) }
    }

    async fn remove_peer(&self, id: &str) -> Result<(), HostError> {
        self.note(format!("remove {id}"));
        Ok(())
    }

    async fn transfer_leader(&self, to: Option<&str>) -> Result<(), HostError> {
        self.note(format!("transfer to {to:?}"));
        Ok(())
    }

    fn health(&self) -> Option<Report> {
        let ill = self.ill.load(Ordering::Relaxed);
        let mut second = server("s2", false);
        if ill {
            second = ServerHealth { healthy: false, life: None, last_contact: None, ..second };
        }
        let servers = vec![server("s1", true), second];
        Some(Report { healthy: !ill, failure_tolerance: 0, leader: "s1".into(), servers })
    }

    async fn keyring(
        &self,
        operation: &KeyringOperation,
        options: KeyringOptions,
    ) -> Result<Vec<PoolKeys>, HostError> {
        self.note(format!("{operation:?} {} {}", options.relay_factor, options.local_only));
        let keys = BTreeMap::from([("a2V5".to_owned(), 2)]);
        let pool = PoolKeys { datacenter: "dc1".to_owned(), keys, nodes: 2, ..PoolKeys::default() };
        Ok(vec![PoolKeys { wan: true, ..pool.clone() }, pool])
    }

    fn servers_located(&self) -> Vec<ServerLocated> {
        let near = Coordinate::unknown();
        let far = Coordinate::at_distance(Duration::from_millis(80));
        [("dc1", "s1", near), ("dc2", "t1", far), ("dc1", "s2", near)]
            .map(|(datacenter, node, coordinate)| ServerLocated {
                datacenter: Datacenter::new(datacenter).unwrap(),
                node: node.to_owned(),
                coordinate,
            })
            .to_vec()
    }
}

async fn start() -> (TestNode, Arc<Others>) {
    let node = TestNode::start().await;
    let others = Arc::clone(&node.others);
    (node, others)
}

#[tokio::test]
async fn the_agreement_is_listed_and_changed() {
    let (node, others) = start().await;
    let answer = node.get("/v1/operator/raft/configuration").await;
    assert_eq!(
        answer.json(),
        json!({"Servers": [
            {"ID": "s1", "Node": "node-s1", "Address": "10.0.0.1:8300", "Leader": true, "ProtocolVersion": "3",
             "Voter": true, "LastIndex": 99},
            {"ID": "s2", "Node": "(unknown)", "Address": "10.0.0.2:8300", "Leader": false,
             "ProtocolVersion": "3", "Voter": false, "LastIndex": 0},
        ], "Index": 7})
    );
    assert!(!answer.headers.contains_key("x-consul-index"));
    let delete =
        async |query: &str| node.ask(Request::delete(format!("/v1/operator/raft/peer{query}")), "").await;
    let neither = "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of peer to remove";
    assert_eq!(delete("").await.said(), (400, neither));
    assert_eq!(
        delete("?id=a&address=b").await.said(),
        (400, "Bad request: Must specify only one of ?id or ?address")
    );
    assert_eq!(delete("?id=x").await.said(), (500, "id \"x\" was not found in the Raft configuration"));
    assert_eq!(
        delete("?address=1.2.3.4:5").await.said(),
        (500, "address \"1.2.3.4:5\" was not found in the Raft configuration")
    );
    assert_eq!(delete("?address=10.0.0.2:8300").await.said(), (200, ""));
    assert_eq!(delete("?id=s2").await.said(), (200, ""));
    let transfer = "/v1/operator/raft/transfer-leader";
    assert_eq!(node.ask(Request::post(transfer), "").await.said(), (200, "{\"Success\":true}"));
    assert_eq!(node.ask(Request::post(format!("{transfer}?id=s2")), "").await.status, 200);
    assert_eq!(node.ask(Request::post(format!("{transfer}?id=s9")), "").await.status, 500);
    assert_eq!(others.noted(), ["remove s2", "remove s2", "transfer to None", "transfer to Some(\"s2\")"]);
}

#[tokio::test]
async fn a_follower_asks_the_leader_once() {
    let (node, others) = start().await;
    others.follows.store(true, Ordering::Relaxed);
    let request =
        Request::get("/v1/operator/autopilot/health?pretty&dc=dc%201").header("x-consul-token", "t");
    let answer = node.ask(request, "").await;
    assert_eq!(answer.said(), (429, "[\"from afar\"]"));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(!answer.headers.contains_key("content-length"));
    assert_eq!(others.noted(), ["GET /v1/operator/autopilot/health?pretty=&dc=dc%201 2"]);
    let sent_on = Request::delete("/v1/operator/raft/peer?id=s2").header("x-tribune-for-leader", "1");
    assert_eq!(node.ask(sent_on, "").await.said(), (500, "No cluster leader"));
    assert_eq!(node.get("/v1/operator/raft/configuration?stale").await.status, 200);
    assert_eq!(others.noted(), Vec::<String>::new());
}

#[tokio::test]
async fn the_health_of_servers_is_shown() {
    let (node, others) = start().await;
    let answer = node.get("/v1/operator/autopilot/health").await;
    let health = answer.json();
    assert_eq!((health["Healthy"].clone(), health["FailureTolerance"].clone()), (json!(true), json!(0)));
    assert_eq!(
        health["Servers"][1],
        json!({"ID": "s2", "Name": "node-s2", "Address": "10.0.0.2:8300", "SerfStatus": "alive",
               "Version": "1.8.7", "Leader": false, "LastContact": "35ms", "LastTerm": 4, "LastIndex": 99,
               "Healthy": true, "Voter": true, "StableSince": "2026-11-25T15:01:24Z"})
    );
    others.ill.store(true, Ordering::Relaxed);
    let answer = node.get("/v1/operator/autopilot/health").await;
    assert_eq!(answer.status, 429);
    let second = &serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["Servers"][1];
    assert_eq!((&second["SerfStatus"], &second["LastContact"]), (&json!("none"), &json!("-1ns")));
    let state = node.get("/v1/operator/autopilot/state").await.json();
    assert_eq!(state["Voters"], json!(["s1", "s2"]));
    assert_eq!(state["Leader"], json!("s1"));
    assert_eq!(state["Servers"]["s1"]["Status"], json!("leader"));
    assert_eq!(state["Servers"]["s2"]["NodeType"], json!("voter"));
}

#[tokio::test]
async fn the_settings_of_the_autopilot_are_part_of_the_log() {
    let (node, _) = start().await;
    let path = "/v1/operator/autopilot/configuration";
    assert_eq!(node.get(path).await.said(), (500, "autopilot config not initialized yet"));
    let body = r#"{"CleanupDeadServers":true,"LastContactThreshold":"300ms","MaxTrailingLogs":200}"#;
    assert_eq!(node.put(path, body).await.said(), (200, "true"));
    let shown = node.get(path).await.json();
    assert_eq!((&shown["LastContactThreshold"], &shown["MaxTrailingLogs"]), (&json!("300ms"), &json!(200)));
    assert_eq!(shown["ServerStabilizationTime"], json!("0s"));
    let index = shown["ModifyIndex"].as_u64().unwrap();
    assert_eq!(node.put(&format!("{path}?cas={}", index + 1), "{}").await.said(), (200, "false"));
    assert_eq!(node.put(&format!("{path}?cas={index}"), "{}").await.said(), (200, "true"));
    assert_eq!(node.get(path).await.json()["MaxTrailingLogs"], json!(0));
    for (query, body, text) in [
        ("?cas=x", "{}", "Error parsing cas value: strconv.ParseUint: parsing \"x\": invalid syntax"),
        ("", "", "Error parsing autopilot config: EOF"),
        ("", r#"{"Foo":5}"#, "Error parsing autopilot config: json: unknown field \"Foo\""),
        (
            "",
            r#"{"LastContactThreshold":"x"}"#,
            "Error parsing autopilot config: time: invalid duration \"x\"",
        ),
    ] {
        let answer = node.put(&format!("{path}{query}"), body).await;
        assert_eq!(answer.said(), (400, format!("Bad request: {text}").as_str()));
    }
}

#[tokio::test]
async fn keys_are_listed_and_changed() {
    let (node, others) = start().await;
    let path = "/v1/operator/keyring";
    assert_eq!(
        node.get(&format!("{path}?relay-factor=3&local-only=true")).await.json()[0],
        json!({"WAN": true, "Datacenter": "dc1", "Segment": "", "Keys": {"a2V5": 2}, "PrimaryKeys": {},
               "NumNodes": 2})
    );
    let body = r#"{"Key":"a2V5"}"#;
    assert_eq!(node.ask(Request::post(path), body).await.said(), (200, ""));
    assert_eq!(node.put(path, body).await.said(), (200, ""));
    assert_eq!(node.ask(Request::delete(path), body).await.said(), (200, ""));
    assert_eq!(
        others.noted(),
        ["List 3 true", "Install(\"a2V5\") 0 false", "Use(\"a2V5\") 0 false", "Remove(\"a2V5\") 0 false"]
    );
    for (query, text) in [
        ("relay-factor=6", "Invalid relay-factor: Relay factor must be in range: [0, 5]"),
        ("relay-factor=x", "Error parsing relay factor: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("local-only=x", "Error parsing local-only: strconv.ParseBool: parsing \"x\": invalid syntax"),
    ] {
        let answer = node.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.said(), (400, format!("Bad request: {text}").as_str()));
    }
    let refused = node.put(&format!("{path}?local-only=true"), body).await;
    assert!(refused.text().ends_with("local-only can only be set for list requests"));
    assert_eq!(node.put(path, "").await.said(), (400, "Bad request: Request decode failed: EOF"));
}
