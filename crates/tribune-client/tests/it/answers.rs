//! What is read out of an answer, and answers nobody should read.

use tribune_client::{Client, Config, Error, Token, catalog, health};

use crate::server::{Reply, Server, config};

#[tokio::test]
async fn parameters_and_names_arrive() {
    let server = Server::start(|_, uri| {
        assert_eq!(
            uri,
            "/v1/health/service/a%2Fb?passing=1&tag=x&dc=dc2&stale=&node-meta=rack%3A7&filter=Node+%3D%3D+n"
        );
        Reply::Json(5, "[]".into())
    })
    .await;
    let question = health::service("a/b").passing().tag("x").datacenter("dc2").stale();
    let question = question.node_meta("rack", "7").filter("Node == n");
    let answer = server.client().ask(&question).await.unwrap();
    assert_eq!((answer.value.len(), answer.index.0, answer.known_leader), (0, 5, false));
}

#[tokio::test]
async fn garbage_is_called_garbage() {
    for body in ["<html>Welcome</html>", "", "{\"a\":", "\u{0}", "[1,2]", "null"] {
        let server = Server::start(move |_, _| Reply::Json(5, body.into())).await;
        let error = server.client().ask(&catalog::datacenters()).await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{body:?}: {error:?}");
        assert!(error.to_string().contains("is this the HTTP address of an agent?"));
    }
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused_while_it_comes_in() {
    let server = Server::start(|_, _| Reply::Json(5, format!("[\"{}\"]", "x".repeat(100_000)))).await;
    let config = Config { answer_bytes_max: 50_000, ..config(&[&server.address]) };
    let error = Client::new(config).unwrap().ask(&catalog::datacenters()).await.unwrap_err();
    assert!(error.to_string().contains("larger than 50000 bytes"), "{error}");
}

#[tokio::test]
async fn the_text_of_a_refusal_is_bounded() {
    let text: &'static str = "x".repeat(1 << 20).leak();
    let server = Server::start(move |_, _| Reply::Status(400, text)).await;
    let error = server.client().ask(&catalog::datacenters()).await.unwrap_err();
    let Error::Refused { message, .. } = error else { panic!("{error:?}") };
    assert_eq!(message.len(), 4096);
}

#[test]
fn a_token_that_no_header_can_hold_is_refused_without_being_shown() {
    let config = Config { token: Some(Token::new("se\ncret")), ..Config::default() };
    let error = Client::new(config).unwrap_err().to_string();
    assert!(error.contains("x-consul-token") && !error.contains("cret"), "{error}");
}
