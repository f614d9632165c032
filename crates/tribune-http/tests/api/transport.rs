//! Rules that hold for every endpoint.

use std::io::Read;

use flate2::read::GzDecoder;
use http::{HeaderName, HeaderValue, Request};
use tribune_http::{Presentation, REQUEST_BYTES_MAX};

use crate::node::TestNode;

#[tokio::test]
async fn methods_paths_and_bodies_have_rules() {
    let node = TestNode::start().await;
    let deep = format!("{{\"Name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = " ".repeat(REQUEST_BYTES_MAX + 1);
    for (method, uri, body, status, text) in [
        ("POST", "/v1/agent/service/register", "{}", 405, "method POST not allowed"),
        ("GET", "/v1/agent/service/register/x", "", 404, "unknown service ID: register/x"),
        ("GET", "/", "", 200, "Tribune Agent"),
        ("GET", "/v1/unheard-of", "", 404, "Invalid URL path: not a recognized HTTP API endpoint"),
        ("GET", "/v1/catalog/service/a%01", "", 400, ""),
        ("GET", "/v1/catalog/service/%ff", "", 400, "Invalid URL path"),
        ("GET", "/v1/catalog/service/", "", 400, "Missing service name"),
        ("GET", "/v1/health/state/", "", 400, "Missing check state"),
        ("GET", "/v1/health/node/", "", 400, "Missing node name"),
        ("GET", "/v1/catalog/nodes?index=x", "", 400, "Invalid index"),
        ("GET", "/v1/catalog/nodes?index=1&index=x&wait=1ms", "", 200, "["),
        ("GET", "/v1/health/service/x?passing=maybe", "", 400, "Invalid value for ?passing"),
        ("GET", "/v1/catalog/nodes?filter=Nonsense==1", "", 500, "Selector \"Nonsense\" is not valid"),
        ("GET", "/v1/catalog/nodes?ns=x", "", 400, "Namespaces are a Consul Enterprise feature"),
        ("PUT", "/v1/agent/service/register", "", 400, "Request decode failed: EOF"),
        ("PUT", "/v1/agent/service/register", "{", 400, "Request decode failed: unexpected EOF"),
        ("PUT", "/v1/agent/service/register", "{\"Foo\":1}", 400, "json: unknown field \"Foo\""),
        ("PUT", "/v1/agent/service/register", &deep, 400, "Request decode failed"),
        ("PUT", "/v1/agent/service/register", &large, 413, "too large, max size: 1048576 bytes"),
        ("GET", "/v1/config/proxy-defaults", "", 501, "configuration entries: not part of this version"),
        ("GET", "/v1/acl/tokens", "", 401, "ACL support disabled"),
        ("PUT", "/v1/agent/token/default", "{}", 401, "ACL support disabled"),
        ("GET", "/v1/connect/ca/roots", "", 500, "Connect must be enabled"),
        ("PATCH", "/v1/kv/a", "", 405, "method PATCH not allowed"),
    ] {
        let answer = node.ask(Request::builder().method(method).uri(uri), body.to_owned()).await;
        assert_eq!(answer.status, status, "{method} {uri}: {}", answer.text());
        assert!(answer.text().contains(text), "{method} {uri}: {}", answer.text());
        assert_eq!(answer.headers["vary"], "Accept-Encoding");
    }
    assert_eq!(node.get("/v1/agent/services").await.text(), "{}", "nothing of the bad bodies is kept");
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let node = TestNode::start().await;
    for n in 0..20 {
        let body = format!("{{\"Name\":\"web\",\"ID\":\"web{n}\",\"Port\":{n}}}");
        node.done("/v1/agent/service/register", &body).await;
    }
    for uri in ["/v1/health/service/web", "/v1/agent/services"] {
        let plain = node.get(uri).await;
        let packed = node.ask(Request::get(uri).header("accept-encoding", "gzip"), "").await;
        assert!(plain.headers.get("content-encoding").is_none());
        assert_eq!(packed.headers["content-encoding"], "gzip");
        let mut unpacked = String::new();
        GzDecoder::new(&packed.body[..]).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.text());
        assert!(packed.body.len() * 4 < plain.body.len());
    }
    let short = node.ask(Request::get("/v1/status/leader").header("accept-encoding", "gzip"), "").await;
    assert!(short.headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn presentation_is_the_same_everywhere() {
    let header = (HeaderName::from_static("x-house"), HeaderValue::from_static("green"));
    let presentation = Presentation { pretty: true, response_headers: vec![header] };
    let node = TestNode::with(presentation, |_| {}).await;
    assert_eq!(node.get("/v1/catalog/datacenters").await.text(), "[\n    \"dc1\"\n]\n");
    for uri in ["/v1/catalog/nodes", "/v1/catalog/nodes?index=x", "/v1//x", "/nothing", "/v1/agent/self"] {
        assert_eq!(node.get(uri).await.headers["x-house"], "green", "{uri}");
    }
    let plain = TestNode::start().await;
    assert_eq!(plain.get("/v1/catalog/datacenters").await.text(), "[\"dc1\"]");
    assert_eq!(plain.get("/v1/catalog/datacenters?pretty").await.text(), "[\n    \"dc1\"\n]\n");
}
