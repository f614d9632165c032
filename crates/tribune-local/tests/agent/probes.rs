//! Each probe against something real that listens on the loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use bytes::Bytes;
use smol_str::SmolStr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tribune_core::check::{HostCheck, HostResource};
use tribune_core::{CheckDefinition, CheckSpec, Status};
use tribune_local::{Config, LocalAgent, Running, ScriptPolicy};

use crate::datacenter::Datacenter;
use crate::{check, eventually, memory, start};

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

fn every_second() -> CheckDefinition {
    CheckDefinition { interval: SECOND, ..CheckDefinition::default() }
}

async fn agent() -> (LocalAgent, Running) {
    let config = Config { scripts: ScriptPolicy::Anyone, ..memory() };
    start(config, &Datacenter::new()).await
}

/// Registers a check and gives what its first probe said.
async fn look(agent: &LocalAgent, spec: CheckSpec) -> (Status, String) {
    let id = spec.id.clone();
    agent.register_check(spec).await.unwrap();
    let output = eventually(agent, id.as_str(), |_, output| !output.is_empty()).await;
    let status = agent.checks().check(id.as_str()).unwrap().status;
    agent.deregister_check(&id).await.unwrap();
    (status, output)
}

async fn serve(router: Router) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}

async fn echo(headers: HeaderMap, method: axum::http::Method, body: String) -> String {
    let text =
        |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    format!("{method} {} {} {} {body}", text("host"), text("x-a"), text("user-agent"))
}

#[tokio::test]
async fn http_answers_are_judged_by_their_status() {
    let (address, _server) = serve(
        Router::new()
            .route("/ok", get(async || "fine"))
            .route("/busy", get(async || StatusCode::TOO_MANY_REQUESTS))
            .route("/bad", get(async || (StatusCode::INTERNAL_SERVER_ERROR, "oops")))
            .route("/echo", any(echo))
            .route("/near", get(async || Redirect::to("/ok")))
            .route(
                "/far",
                get(async || (StatusCode::FOUND, [(header::LOCATION, "http://other.test/")]).into_response()),
            )
            .route("/long", get(async || "x".repeat(100_000))),
    )
    .await;
    let (agent, running) = agent().await;
    let http =
        |path: &str| CheckDefinition { http: format!("http://{address}{path}").into(), ..every_second() };
    let (status, output) = look(&agent, check("ok", http("/ok"))).await;
    assert_eq!(
        (status, output),
        (Status::Passing, format!("HTTP GET http://{address}/ok: 200 OK Output: fine"))
    );
    assert_eq!(look(&agent, check("busy", http("/busy"))).await.0, Status::Warning);
    let (status, output) = look(&agent, check("bad", http("/bad"))).await;
    assert_eq!(
        (status, output.ends_with("500 Internal Server Error Output: oops")),
        (Status::Critical, true)
    );

    let value: Box<[SmolStr]> = ["v".into()].into();
    let host: Box<[SmolStr]> = ["web.test".into()].into();
    let definition = CheckDefinition {
        header: vec![("x-a".into(), value), ("Host".into(), host)].into(),
        method: "PUT".into(),
        body: "payload".into(),
        ..http("/echo")
    };
    let (_, output) = look(&agent, check("echo", definition)).await;
    assert!(output.ends_with("Output: PUT web.test v Consul Health Check payload"), "{output}");

    assert_eq!(look(&agent, check("near", http("/near"))).await.0, Status::Passing);
    let staying = CheckDefinition { disable_redirects: true, ..http("/near") };
    assert_eq!(look(&agent, check("stay", staying)).await.0, Status::Critical);
    let (status, output) = look(&agent, check("far", http("/far"))).await;
    assert_eq!((status, output.contains("302 Found")), (Status::Critical, true), "{output}");
    let (_, output) =
        look(&agent, check("long", CheckDefinition { output_max_size: Some(50), ..http("/long") })).await;
    assert!(output.len() < 120, "{output}");
    running.stop().await;
}

#[tokio::test]
async fn slow_answers_count_as_configured_and_hanging_ones_time_out() {
    let slow = async || tokio::time::sleep(Duration::from_millis(1100)).await;
    let (address, _server) = serve(
        Router::new()
            .route("/slow", get(slow))
            .route("/never", get(async || std::future::pending::<()>().await))
            .route("/", get(async || "")),
    )
    .await;
    let (agent, running) = agent().await;
    let http =
        |path: &str| CheckDefinition { http: format!("http://{address}{path}").into(), ..every_second() };
    let spec = |id, path| {
        let mut spec = check(id, http(path));
        spec.slow_warning = Some(Duration::from_secs(1));
        spec
    };
    let (status, output) = look(&agent, spec("slow", "/slow")).await;
    assert_eq!((status, output.starts_with("slow answer")), (Status::Warning, true), "{output}");
    let mut critical = spec("critical", "/slow");
    critical.slow_critical = Some(Duration::from_secs(1));
    assert_eq!(look(&agent, critical).await.0, Status::Critical);
    assert_eq!(look(&agent, check("patient", http("/slow"))).await.0, Status::Passing);
    let never = CheckDefinition { timeout: Some(Duration::from_millis(200)), ..http("/never") };
    let (status, output) = look(&agent, check("never", never)).await;
    assert_eq!((status, output.as_str()), (Status::Critical, "no answer within 200ms"));
    running.stop().await;
}

#[tokio::test]
async fn hanging_probes_do_not_hold_up_others() {
    let (address, _server) = serve(
        Router::new()
            .route("/never", get(async || std::future::pending::<()>().await))
            .route("/", get(async || "fine")),
    )
    .await;
    let (agent, running) = agent().await;
    let http =
        |path: &str| CheckDefinition { http: format!("http://{address}{path}").into(), ..every_second() };
    for n in 0..100 {
        agent.register_check(check(&format!("hang{n}"), http("/never"))).await.unwrap();
    }
    agent.register_check(check("quick", http("/"))).await.unwrap();
    eventually(&agent, "quick", |status, _| status == Status::Passing).await;
    running.stop().await;
}

#[tokio::test]
async fn tcp_and_udp_tell_whether_somebody_listens() {
    let (agent, running) = agent().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tcp = |address: &str| CheckDefinition { tcp: address.into(), ..every_second() };
    let seen = look(&agent, check("t", tcp(&address))).await;
    assert_eq!(seen, (Status::Passing, format!("TCP connect {address}: Success")));
    drop(listener);
    let (status, output) = look(&agent, check("t", tcp(&address))).await;
    assert_eq!((status, output.contains("refused")), (Status::Critical, true), "{output}");

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let udp = CheckDefinition { udp: address.as_str().into(), timeout: SECOND, ..every_second() };
    assert_eq!(look(&agent, check("u", udp.clone())).await.0, Status::Passing, "silence passes");
    drop(socket);
    assert_eq!(look(&agent, check("u", udp)).await.0, Status::Critical);
    running.stop().await;
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() {
    let made = rcgen::generate_simple_self_signed(vec!["web.test".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfine";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let config = Config { extra_roots: vec![certificate], ..memory() };
    let (agent, running) = start(config, &Datacenter::new()).await;
    let https = CheckDefinition { http: format!("https://{address}/").into(), ..every_second() };
    assert_eq!(look(&agent, check("name", https.clone())).await.0, Status::Critical);
    let skip = CheckDefinition { tls_skip_verify: true, ..https.clone() };
    assert_eq!(look(&agent, check("skip", skip)).await.0, Status::Passing);
    let named = CheckDefinition { tls_server_name: "web.test".into(), ..https };
    let (status, output) = look(&agent, check("named", named)).await;
    assert_eq!(status, Status::Passing, "{output}");
    let tcp = CheckDefinition { tcp: address.to_string().into(), tcp_use_tls: true, ..every_second() };
    assert_eq!(look(&agent, check("tcp", tcp.clone())).await.0, Status::Critical);
    let named = CheckDefinition { tls_server_name: "web.test".into(), ..tcp };
    assert_eq!(look(&agent, check("tcp-named", named)).await.0, Status::Passing);
    running.stop().await;
}

/// Speaks the gRPC health protocol: `up` serves, `down` does not, others are unknown.
async fn health<T: AsyncRead + AsyncWrite + Unpin>(stream: T) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let mut body = request.into_body();
        // The body moves only while the connection is polled; it is small enough to be there already or soon.
        let message = tokio::select! {
            data = body.data() => data.unwrap().unwrap(),
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => return,
        };
        let head = http::Response::builder().header("content-type", "application/grpc");
        let status: u8 = match &message[5..] {
            b"\x0a\x02up" | b"" => 1,
            b"\x0a\x04down" => 2,
            _ => {
                let head = head.header("grpc-status", "5").header("grpc-message", "unknown service");
                respond.send_response(head.body(()).unwrap(), true).unwrap();
                continue;
            }
        };
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

#[tokio::test]
async fn grpc_and_h2ping_speak_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(health(stream));
        }
    });
    let (agent, running) = agent().await;
    let grpc =
        |service: &str| CheckDefinition { grpc: format!("{address}{service}").into(), ..every_second() };
    let seen = look(&agent, check("all", grpc(""))).await;
    assert_eq!(seen, (Status::Passing, format!("gRPC check {address}: success")));
    assert_eq!(look(&agent, check("up", grpc("/up"))).await.0, Status::Passing);
    let (status, output) = look(&agent, check("down", grpc("/down"))).await;
    assert_eq!((status, output.contains("NOT_SERVING")), (Status::Critical, true), "{output}");
    let (status, output) = look(&agent, check("other", grpc("/other"))).await;
    assert_eq!((status, output.contains("unknown service")), (Status::Critical, true), "{output}");

    let ping = CheckDefinition { h2ping: address.as_str().into(), ..every_second() };
    let seen = look(&agent, check("ping", ping)).await;
    assert_eq!(seen, (Status::Passing, "HTTP2 ping was successful".into()));
    let (plain, _server) = serve(Router::new()).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let ping = CheckDefinition {
        h2ping: address.into(),
        timeout: Some(Duration::from_millis(200)),
        ..every_second()
    };
    assert_eq!(look(&agent, check("deaf", ping)).await.0, Status::Critical);
    let wrong = CheckDefinition { grpc: plain.to_string().into(), ..every_second() };
    assert_eq!(look(&agent, check("wrong", wrong)).await.0, Status::Critical);
    running.stop().await;
}

#[tokio::test]
async fn programs_are_judged_by_their_exit_code_and_killed_with_all_they_started() {
    let (agent, running) = agent().await;
    let script = |args: &[&str]| CheckDefinition {
        script_args: args.iter().map(|arg| SmolStr::from(*arg)).collect(),
        ..every_second()
    };
    let shell = |text: &str| script(&["/bin/sh", "-c", text]);
    let seen = look(&agent, check("ok", shell("echo fine; echo also >&2"))).await;
    assert_eq!(seen.0, Status::Passing);
    assert!(seen.1.contains("fine\n") && seen.1.contains("also\n"), "{}", seen.1);
    assert_eq!(look(&agent, check("warn", shell("echo w; exit 1"))).await.0, Status::Warning);
    assert_eq!(look(&agent, check("crit", shell("echo c; exit 2"))).await.0, Status::Critical);
    let seen = look(&agent, check("literal", script(&["echo", "$HOME; ls"]))).await;
    assert_eq!(seen, (Status::Passing, "$HOME; ls\n".into()), "no shell stands in between");
    let (status, output) = look(&agent, check("none", script(&["/no/such/program"]))).await;
    assert_eq!((status, output.contains("/no/such/program")), (Status::Critical, true), "{output}");
    let long = CheckDefinition { output_max_size: Some(20), ..shell("seq 1 10000") };
    let (_, output) = look(&agent, check("long", long)).await;
    assert!(output.starts_with("Captured 20 of 48894 bytes\n...\n") && output.len() < 80, "{output}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let hanging = CheckDefinition { timeout: Some(Duration::from_millis(500)), ..shell(&text) };
    let (status, output) = look(&agent, check("hang", hanging)).await;
    assert_eq!((status, output.as_str()), (Status::Critical, "Timed out (500ms) running check"));
    let sleeper: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let process = format!("/proc/{sleeper}/stat");
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    // Gone, or dead and not yet collected by whoever inherited it.
    while std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(tokio::time::Instant::now() < until, "the grandchild still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn the_host_and_its_services_can_be_checked() {
    let (agent, running) = agent().await;
    let host = |resource, warning_percent, critical_percent| {
        let mut spec = check("host", every_second());
        spec.host = Some(HostCheck { resource, warning_percent, critical_percent });
        spec
    };
    let (_, output) = look(&agent, host(HostResource::Cpu, 0, 100)).await;
    assert!(output.starts_with("cpu ") && output.ends_with(" % used"), "{output}");
    let (status, output) = look(&agent, host(HostResource::Memory, 1, 0)).await;
    assert_eq!(status, Status::Warning, "{output}");
    let (status, output) = look(&agent, host(HostResource::Disk("/no/such/place".into()), 0, 100)).await;
    assert_eq!((status, output.contains("cannot be measured")), (Status::Critical, true), "{output}");
    let (_, output) = look(&agent, host(HostResource::Disk("/".into()), 0, 100)).await;
    assert!(output.starts_with("disk / "), "{output}");
    let unit = CheckDefinition { os_service: "no-such-unit.service".into(), ..every_second() };
    assert_eq!(look(&agent, check("unit", unit)).await.0, Status::Critical);
    running.stop().await;
}

#[tokio::test]
async fn the_third_failure_in_a_row_makes_it_critical() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (address, _server) = serve(Router::new().route(
        "/",
        get(move || async move {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 | 3 => StatusCode::OK,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            }
        }),
    ))
    .await;
    let (agent, running) = agent().await;
    let http = CheckDefinition { http: format!("http://{address}/").into(), ..every_second() };
    let mut spec = check("c", http);
    spec.failures_before_critical = 3;
    agent.register_check(spec).await.unwrap();
    eventually(&agent, "c", |status, _| status == Status::Passing).await;
    eventually(&agent, "c", |status, _| status == Status::Critical).await;
    // One good, two bad, one good, three bad: any fewer would have been too few.
    assert_eq!(asked.load(Ordering::SeqCst), 7);
    running.stop().await;
}
