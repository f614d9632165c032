//! The acceptor against clients that behave badly: floods, slow headers, silence, and the graceful end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tribune_net::{Acceptor, Limits};

const TEXT: &str = "too many";

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

async fn serve(change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::new(TEXT);
    limits.stop_grace = Duration::from_secs(20);
    change(&mut limits);
    let acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limits);
    let address = acceptor.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    });
    let task = tokio::spawn(acceptor.serve(service, async {
        let _ = stopped.await;
    }));
    Server { address, stop: Some(stop), task }
}

async fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while !answer.ends_with(b"hello") && !answer.ends_with(TEXT.as_bytes()) {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the connection ended without an answer: {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(answer).unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn a_client_beyond_its_share_hears_429_and_is_served_again_later() {
    let server = serve(|limits| {
        limits.per_client_max = Some(2);
        limits.loopback_limited = true;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut stream, "/").await.starts_with("HTTP/1.1 200 OK\r\n"));
        open.push(stream);
    }
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let answer = ask(&mut stream, "/").await;
        assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
        assert!(answer.ends_with(TEXT));
        assert_eq!(rest(&mut stream).await, "");
    }
    drop(open);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if ask(&mut stream, "/").await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the share was not given back");
    }
}

#[tokio::test]
async fn this_machine_is_not_limited_unless_asked_for() {
    let server = serve(|limits| limits.per_client_max = Some(1)).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut stream, "/").await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_closes_the_connection_but_an_idle_one_stays() {
    let server = serve(|limits| limits.header_timeout = Duration::from_millis(200)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/").await;

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
    let mut late = TcpStream::connect(server.address).await.unwrap();
    ask(&mut late, "/").await;
    late.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut late).await, "");
    let mut preface = TcpStream::connect(server.address).await.unwrap();
    preface.write_all(b"P").await.unwrap();
    assert_eq!(rest(&mut preface).await, "");

    assert!(ask(&mut idle, "/slow").await.starts_with("HTTP/1.1 200"), "slower than the header limit");
    assert!(ask(&mut idle, "/").await.starts_with("HTTP/1.1 200"), "idle longer than the header limit");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let server = serve(|limits| {
        limits.header_timeout = Duration::from_millis(50);
        limits.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/").await;
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn headers_beyond_the_limits_are_answered_with_431() {
    let server = serve(|_| {}).await;
    for (name, count, size) in [("many", 200, 1), ("large", 1, 200_000)] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let field = format!("X-A: {}\r\n", "a".repeat(size)).repeat(count);
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n");
        let (mut reading, mut writing) = stream.split();
        let _sent = writing.write_all(request.as_bytes()).await;
        let mut answer = [0; 64];
        let read = reading.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 431"), "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_end() {
    let mut server = serve(|_| {}).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/").await;
    server.stop.take().unwrap().send(()).unwrap();
    assert!(rest(&mut busy).await.ends_with("hello"));
    assert_eq!(rest(&mut idle).await, "");
    tokio::time::timeout(Duration::from_secs(20), server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
