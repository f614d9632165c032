//! A node that listens, and what is asked of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tribune_net::{
    Acceptor, ClientAuth, DialError, Dialer, Endpoint, Limits, PeerIdentity, ReverseRegistry, Tls,
};

use crate::pki::dc;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn plain() -> Self {
        Self::start(acceptor().await)
    }

    pub(crate) async fn tls(tls: &Tls, auth: ClientAuth) -> Self {
        Self::start(acceptor().await.with_tls(tls.clone(), auth).unwrap())
    }

    pub(crate) async fn with_reverse(tls: &Tls, registry: Arc<dyn ReverseRegistry>) -> Self {
        let acceptor = acceptor().await.with_reverse(registry);
        Self::start(acceptor.with_tls(tls.clone(), ClientAuth::Server(None)).unwrap())
    }

    /// A node that listens where another one has listened.
    pub(crate) async fn plain_at(address: SocketAddr) -> Self {
        Self::start(Acceptor::new(TcpListener::bind(address).await.unwrap(), Limits::nodes()))
    }

    /// Ends as a process does that is killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) fn start(acceptor: Acceptor) -> Self {
        let address = acceptor.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = tower::service_fn(answer);
        let task = tokio::spawn(acceptor.serve(service, async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), task }
    }

    pub(crate) fn endpoint(&self, datacenter: &str) -> Endpoint {
        Endpoint { address: self.address, datacenter: dc(datacenter) }
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

pub(crate) async fn acceptor() -> Acceptor {
    Acceptor::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), Limits::nodes())
}

/// `/who` says who asks, `/echo` gives the body back, `/wait/<ms>` takes its time, `/big/<bytes>` is so long.
pub(crate) async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let who = request.extensions().get::<PeerIdentity>().cloned();
    let path = request.uri().path().to_owned();
    let number = || path.rsplit('/').next().unwrap().parse::<u64>().unwrap();
    let body = match path.as_str() {
        "/who" => Bytes::from(said(who.as_ref())),
        "/echo" => request.into_body().collect().await.map(|it| it.to_bytes()).unwrap_or_default(),
        path if path.starts_with("/wait/") => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            Bytes::from_static(b"waited")
        }
        path if path.starts_with("/big/") => Bytes::from(vec![7; usize::try_from(number()).unwrap()]),
        _ => Bytes::from_static(b"hello"),
    };
    Ok(Response::new(Full::new(body)))
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn said(who: Option<&PeerIdentity>) -> String {
    who.map_or("nobody".to_owned(), |who| format!("{} {}", who.role.as_str(), who.datacenter.as_str()))
}

pub(crate) fn request(path: &str) -> Request<Bytes> {
    Request::post(path).body(Bytes::new()).unwrap()
}

pub(crate) async fn ask(dialer: &Dialer, to: &Endpoint, path: &str) -> Result<Bytes, DialError> {
    let response = dialer.send(to, request(path), Instant::now() + PATIENCE).await?;
    response.into_body().collect(16 << 20).await
}
