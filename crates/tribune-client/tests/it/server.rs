//! An agent that does as a test tells it, on a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tribune_client::{Address, Client, Config, breaker, retry};

/// What to do with one request.
pub(crate) enum Reply {
    /// 200 with an index and a body.
    Json(u64, String),
    /// A status and a text.
    Status(u16, &'static str),
    /// Nothing, ever.
    Silence,
    /// The connection breaks after the request was read.
    Break,
}

/// A running agent; it ends with this value.
pub(crate) struct Server {
    pub(crate) address: Address,
    seen: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts an agent. `answer` is given the number of the request, from 0, and its path with parameters.
    pub(crate) async fn start(answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), seen.clone());
        let router = Router::new().fallback(move |request: Request| {
            let reply = answer(count.fetch_add(1, Ordering::SeqCst), &request.uri().to_string());
            respond(reply)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    /// How many requests have come.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// A client of this agent alone.
    pub(crate) fn client(&self) -> Client {
        client(&[&self.address])
    }

    /// Closes the socket and all connections.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(reply: Reply) -> Response {
    match reply {
        Reply::Json(index, body) => ([("x-consul-index", index.to_string())], body).into_response(),
        Reply::Status(code, text) => (http::StatusCode::from_u16(code).unwrap(), text).into_response(),
        Reply::Silence => std::future::pending().await,
        Reply::Break => {
            let broken = futures::stream::iter([Err::<&str, _>(std::io::Error::other("cut"))]);
            Body::from_stream(broken).into_response()
        }
    }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

/// Patient enough for a loaded machine, impatient enough for a test.
pub(crate) fn config(addresses: &[&Address]) -> Config {
    Config {
        addresses: addresses.iter().map(|&address| address.clone()).collect(),
        request_timeout: Duration::from_secs(20),
        retry: retry::Policy {
            attempts_max: 4,
            delay_base: Duration::from_millis(1),
            delay_max: Duration::from_millis(20),
        },
        breaker: breaker::Thresholds { failures_max: 1000, ..breaker::Thresholds::default() },
        ..Config::default()
    }
}

pub(crate) fn client(addresses: &[&Address]) -> Client {
    Client::new(config(addresses)).unwrap()
}
