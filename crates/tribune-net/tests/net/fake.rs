//! A peer that speaks HTTP/2 and does with requests what their paths say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tribune_net::Endpoint;

use crate::node::PATIENCE;
use crate::pki;

pub(crate) struct Fake {
    address: SocketAddr,
    counts: Arc<Counts>,
    frozen: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Fake {
    /// Says its first words so late.
    pub(crate) async fn start(late: Duration) -> Self {
        Self::with_scripts(late, &[]).await
    }

    /// Answers the first request of its first connections with these bytes, one after the other, and closes them;
    /// later connections are in order.
    pub(crate) async fn scripted(scripts: &[&[u8]]) -> Self {
        Self::with_scripts(Duration::ZERO, scripts).await
    }

    async fn with_scripts(late: Duration, scripts: &[&[u8]]) -> Self {
        let mut scripts: VecDeque<Vec<u8>> = scripts.iter().map(|it| it.to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (frozen, is_frozen) = watch::channel(false);
        let seen = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.accepted.fetch_add(1, SeqCst);
                seen.open.fetch_add(1, SeqCst);
                let (seen, is_frozen) = (Arc::clone(&seen), is_frozen.clone());
                let script = scripts.pop_front();
                serving.spawn(async move {
                    tokio::time::sleep(late).await;
                    match script {
                        Some(bytes) => drop(recite(stream, &bytes).await),
                        None => serve(stream, is_frozen).await,
                    }
                    seen.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { address, counts, frozen, task }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, datacenter: pki::dc("dc1") }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(SeqCst)
    }

    /// Reads and writes nothing more, as if a cable had been pulled.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Speaks HTTP/2 up to the first request, says these bytes, and reads until the other side has had enough.
async fn recite(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    stream.read_exact(&mut [0; PREFACE_BYTES]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await?;
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(bytes).await?;
    let mut rest = Vec::new();
    let _end = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
    Ok(())
}

async fn serve(stream: TcpStream, mut is_frozen: watch::Receiver<bool>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut kept = Vec::new();
    loop {
        let frozen = async {
            let _frozen = is_frozen.wait_for(|it| *it).await;
        };
        let accepted = tokio::select! {
            biased;
            () = frozen => None,
            accepted = connection.accept() => Some(accepted),
        };
        let Some(accepted) = accepted else {
            // The connection is kept, and never looked at again.
            return std::future::pending().await;
        };
        let Some(Ok((asked, mut answer))) = accepted else { return };
        let response = http::Response::new(());
        match asked.uri().path() {
            "/never" => kept.push(answer),
            "/stalls" => {
                let mut body = answer.send_response(response, false).unwrap();
                body.send_data(Bytes::from_static(b"so far"), false).unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(PATIENCE).await;
                    drop(body);
                });
            }
            "/reset" => answer.send_reset(h2::Reason::INTERNAL_ERROR),
            "/refused" => answer.send_reset(h2::Reason::REFUSED_STREAM),
            "/breaks" => {
                let mut body = answer.send_response(response, false).unwrap();
                body.send_data(Bytes::from_static(b"so far"), false).unwrap();
                let _written = tokio::time::timeout(Duration::from_millis(100), connection.accept()).await;
                return;
            }
            "/header" => {
                let mut response = response;
                let value = http::HeaderValue::from_str(&"x".repeat(200_000)).unwrap();
                response.headers_mut().insert("x-large", value);
                let _body = answer.send_response(response, true);
            }
            _ => {
                let mut body = answer.send_response(response, false).unwrap();
                body.send_data(Bytes::from_static(b"whole"), true).unwrap();
            }
        }
    }
}
