//! The same ways over real connections: mutual TLS, HTTP/2, and what comes out of the other end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::Service;
use tribune_core::{Datacenter, Folded, Topic};
use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder, Pem};
use tribune_net::{Acceptor, ClientAuth, Dialer, Endpoint, Limits, Tls};
use tribune_wan::{
    Candidate, ExchangeConfig, FarBody, Forwarder, Gateway, Roster, RpcService, SlicesConfig, TwoWayRoad,
    far_body,
};

use crate::world::{Shelf, ask, dc, get, read};

const PATIENCE: Duration = Duration::from_secs(20);

fn server(ca: &Pem, datacenter: &str) -> Tls {
    let request = CertificateRequest::new(Holder::Server, dc(datacenter), "consul");
    let own = authority::issue(ca, &request).unwrap();
    Tls::from_pem(&ca.certificate, Some(&own), "consul").unwrap()
}

/// Every datacenter with the address of its one server.
#[derive(Clone)]
struct Book(Vec<(Datacenter, SocketAddr)>);

impl Roster for Book {
    fn gateways(&self, datacenter: &Datacenter) -> Vec<Candidate> {
        let there = self.0.iter().filter(|(name, _)| name == datacenter);
        let candidate = |(datacenter, address): &(Datacenter, SocketAddr)| Candidate {
            name: datacenter.to_string(),
            endpoint: Endpoint { address: *address, datacenter: datacenter.clone() },
            round_trip: None,
        };
        there.map(candidate).collect()
    }

    fn datacenters(&self) -> Vec<Datacenter> {
        self.0.iter().map(|(datacenter, _)| datacenter.clone()).collect()
    }
}

/// Says what it was asked; under `/v1/kv/large` twenty megabytes.
async fn api(request: Request<Full<Bytes>>) -> Result<Response<FarBody>, Infallible> {
    let uri = request.uri().to_string();
    let token =
        request.headers().get("x-consul-token").map_or("none", |token| token.to_str().unwrap()).to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answer = match uri.as_str() {
        "/v1/kv/large" => vec![b'x'; 20 << 20],
        _ => format!("{uri} {token} {}", String::from_utf8_lossy(&body)).into_bytes(),
    };
    Ok(Response::new(far_body(Full::new(Bytes::from(answer)))))
}

fn gateway(own: &str, tls: &Tls, book: Book, desk: Arc<Shelf>) -> Gateway<impl Inner> {
    let road = Arc::new(Dialer::tls(tls.clone(), true));
    let forwarder = Forwarder::new(dc(own), road, Arc::new(book), ExchangeConfig::default());
    let rpc = RpcService::new(dc(own), desk, Some(forwarder.clone()));
    Gateway::new(dc(own), tower::service_fn(api), rpc, forwarder)
}

trait Inner:
    Service<Request<Full<Bytes>>, Response = Response<FarBody>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Full<Bytes>>, Response = Response<FarBody>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(listener: TcpListener, tls: Tls, book: Book, desk: Arc<Shelf>) -> Self {
        let gateway = gateway("dc2", &tls, book, desk);
        let acceptor =
            Acceptor::new(listener, Limits::nodes()).with_tls(tls, ClientAuth::Server(None)).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(acceptor.serve(gateway, async {
            let _ = stopped.await;
        }));
        Self { stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn requests_travel_over_mutual_tls() {
    let ca = authority::create_ca(&CaRequest::default()).unwrap();
    let there = listener().await;
    let nobody = listener().await;
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    let book = Book(vec![(dc("dc1"), closed), (dc("dc2"), there.local_addr().unwrap()), (dc("dc3"), closed)]);
    let desk = Arc::new(Shelf::default());
    desk.register("web", "n1");
    let server_dc2 = Server::start(there, server(&ca, "dc2"), book.clone(), desk).await;
    let road = Arc::new(Dialer::tls(server(&ca, "dc1"), true));
    let forwarder = Forwarder::new(dc("dc1"), road, Arc::new(book.clone()), ExchangeConfig::default());

    let mut request = get("/v1/kv/a%2fb?dc=dc2&raw");
    request.headers_mut().insert("x-consul-token", "secret".parse().unwrap());
    let (status, _, body) = read(forwarder.answer(&dc("dc2"), request).await).await;
    assert_eq!((status, body.as_str()), (200, "/v1/kv/a%2fb?raw secret "));
    let write = Request::put("/v1/kv/a").body(Full::new(Bytes::from_static(b"value"))).unwrap();
    let (status, _, body) = read(forwarder.answer(&dc("dc2"), write).await).await;
    assert_eq!((status, body.as_str()), (200, "/v1/kv/a none value"));
    let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/large").await;
    assert_eq!((status, body.len()), (200, 20 << 20));
    let (status, _, body) = ask(&forwarder, "dc3", "/v1/kv/a").await;
    assert_eq!((status, body.as_str()), (500, "Remote DC has no server currently reachable"));

    let slices = forwarder.slices(SlicesConfig::default());
    let state = slices.fetch(&dc("dc2"), &Topic::Service(Folded::new("web"))).await.unwrap();
    assert_eq!(state.view(&tribune_core::Authority::unrestricted()).instances("web").count(), 1);

    // A stranger with a certificate of our CA, and one who says it is a server of a datacenter that is ours.
    for (name, text) in [("dc9", "dc9 is not federated with dc2"), ("dc2", "this is datacenter dc2 already")]
    {
        let road = Arc::new(Dialer::tls(server(&ca, name), true));
        let known = Book(vec![(dc("dc1"), closed), book.0[1].clone()]);
        let own = if name == "dc2" { dc("dc1") } else { dc(name) };
        let stranger = Forwarder::new(own, road, Arc::new(known), ExchangeConfig::default());
        let (status, _, body) = ask(&stranger, "dc2", "/v1/kv/a").await;
        assert_eq!(status, 403);
        assert!(body.contains(text), "{body}");
    }
    let other_ca = authority::create_ca(&CaRequest::default()).unwrap();
    let road = Arc::new(Dialer::tls(server(&other_ca, "dc1"), true));
    let stranger = Forwarder::new(dc("dc1"), road, Arc::new(book), ExchangeConfig::default());
    let (status, _, body) = ask(&stranger, "dc2", "/v1/kv/a").await;
    assert_eq!((status, body.as_str()), (500, "Remote DC has no server currently reachable"));
    drop((forwarder, slices, stranger));
    server_dc2.stop().await;
}

/// The gateway of dc2 is behind a wall that lets nobody in, so it opens a connection to dc1 and is asked on that.
#[tokio::test]
async fn a_datacenter_that_can_only_dial_out_is_asked_on_the_connection_it_opened() {
    let ca = authority::create_ca(&CaRequest::default()).unwrap();
    let (home, wall) = (listener().await, listener().await);
    let book = Book(vec![(dc("dc1"), home.local_addr().unwrap()), (dc("dc2"), wall.local_addr().unwrap())]);
    drop(wall);
    let road = TwoWayRoad::new(Dialer::tls(server(&ca, "dc1"), true));
    let acceptor = Acceptor::new(home, Limits::nodes()).with_reverse(Arc::new(road.clone()));
    let acceptor = acceptor.with_tls(server(&ca, "dc1"), ClientAuth::Server(None)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let nobody = tower::service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))) });
    let home = tokio::spawn(acceptor.serve(nobody, async {
        let _ = stopped.await;
    }));
    let forwarder =
        Forwarder::new(dc("dc1"), Arc::new(road.clone()), Arc::new(book.clone()), Default::default());
    assert_eq!(ask(&forwarder, "dc2", "/v1/kv/a").await.0, 500);

    let tls = server(&ca, "dc2");
    let gateway = gateway("dc2", &tls, book.clone(), Arc::default());
    let back = Dialer::tls(tls, true).reverse(&book.gateways(&dc("dc1"))[0].endpoint).await.unwrap();
    let (leave, left) = oneshot::channel::<()>();
    let serving = tokio::spawn(back.serve(gateway, async {
        let _ = left.await;
    }));
    let found = async {
        while ask(&forwarder, "dc2", "/v1/kv/a").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap();
    assert_eq!(road.opened_by(), [dc("dc2")]);
    let (status, _, body) = ask(&forwarder, "dc2", "/v1/kv/b").await;
    assert_eq!((status, body.as_str()), (200, "/v1/kv/b none "));
    leave.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
    let gone = async {
        while !road.opened_by().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(ask(&forwarder, "dc2", "/v1/kv/a").await.0, 500);
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, home).await.unwrap().unwrap();
}
