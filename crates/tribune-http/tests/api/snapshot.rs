//! `/v1/snapshot`.

use http::Request;
use serde_json::json;

use crate::node::TestNode;

const NODE: &str = r#"{"Node":"web1","Address":"10.0.0.1","Service":{"Service":"web","Port":80}}"#;
const OTHER: &str = r#"{"Node":"web2","Address":"10.0.0.2","Service":{"Service":"web","Port":80}}"#;

#[tokio::test]
async fn a_state_is_saved_and_comes_back() {
    let node = TestNode::start().await;
    node.done("/v1/catalog/register", NODE).await;
    let saved = node.ask(Request::get("/v1/snapshot").header("accept-encoding", "gzip"), "").await;
    assert_eq!((saved.status, &saved.headers["content-type"]), (200, &"application/x-gzip".parse().unwrap()));
    assert!(!saved.headers.contains_key("content-encoding"));
    let (meta, records) = tribune_api::snapshot::read(saved.body.as_ref()).unwrap();
    assert_eq!(meta.index, saved.index());
    assert_eq!(meta.configuration.servers[0].address, "127.0.0.1:8300");
    assert!(!records.is_empty());

    node.done("/v1/catalog/register", OTHER).await;
    let before = node.get("/v1/catalog/service/web").await;
    assert_eq!(before.json().as_array().unwrap().len(), 2);
    let watcher = format!("/v1/catalog/service/web?index={}&wait=60s", before.index());
    let restore = async {
        tokio::task::yield_now().await;
        node.ask(Request::put("/v1/snapshot"), saved.body.clone()).await
    };
    let (watched, restored) = tokio::join!(node.get(&watcher), restore);
    assert_eq!(restored.said(), (200, ""));
    assert!(watched.index() > before.index());
    let after = node.get("/v1/catalog/service/web").await;
    let names: Vec<_> = after.json().as_array().unwrap().iter().map(|node| node["Node"].clone()).collect();
    assert_eq!(names, [json!("web1")]);
    assert_eq!(node.get("/v1/health/service/web").await.json().as_array().unwrap().len(), 1);
    let stale = node.get("/v1/snapshot?stale").await;
    assert!(tribune_api::snapshot::inspect(stale.body.as_ref()).unwrap().meta.index >= after.index());
}

#[tokio::test]
async fn what_is_no_snapshot_changes_nothing() {
    let node = TestNode::start().await;
    node.done("/v1/catalog/register", NODE).await;
    let before = node.get("/v1/catalog/service/web").await.index();
    let put = async |body: Vec<u8>| node.ask(Request::put("/v1/snapshot"), body).await;
    assert_eq!(put(Vec::new()).await.said(), (500, "failed to decompress snapshot: EOF"));
    assert_eq!(
        put(b"no archive".to_vec()).await.said(),
        (500, "failed to decompress snapshot: gzip: invalid header")
    );
    let stale = node.ask(Request::put("/v1/snapshot?stale"), "x").await;
    assert_eq!(stale.said(), (500, "stale not allowed for restore"));
    let mut cut = node.get("/v1/snapshot").await.body.to_vec();
    cut.truncate(cut.len() - 4);
    assert_eq!(put(cut).await.said(), (500, "failed to read snapshot file: unexpected EOF"));
    // Larger than any other body may be, and still only no archive.
    assert_eq!(put(vec![b'x'; 3 << 20]).await.status, 500);
    assert_eq!(node.get("/v1/catalog/service/web").await.index(), before);
}
