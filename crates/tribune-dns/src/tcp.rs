//! The TCP side: a bounded number of connections, each with one question at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use tribune_core::dns::Transport;

use crate::cache::{CONNECTION_BYTES_MAX, Cache};
use crate::handler::{Handler, Next};

/// How long accepting rests after it failed, for example for lack of file descriptors.
const FAILURE_REST: Duration = Duration::from_millis(100);

/// Accepts connections until `shutdown`, then closes them all.
pub(crate) async fn serve(listener: TcpListener, handler: Arc<Handler>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(handler.config.load().tcp_connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "dns connection cannot be accepted");
                tokio::time::sleep(FAILURE_REST).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("dns.tcp_refused").increment(1);
            continue;
        };
        let handler = handler.clone();
        connections.spawn(async move {
            if let Err(error) = converse(stream, peer, &handler).await {
                debug!(%peer, %error, "dns connection ended");
            }
            drop(place);
        });
    }
    connections.shutdown().await;
}

/// Answers one question after the other until the client leaves or falls silent.
async fn converse(mut stream: TcpStream, peer: SocketAddr, handler: &Handler) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut cache = Cache::new(CONNECTION_BYTES_MAX);
    loop {
        let idle = handler.config.load().tcp_idle;
        let Some(packet) = tokio::time::timeout(idle, read_message(&mut stream)).await?? else {
            return Ok(());
        };
        let Some(answer) = answer(handler, &mut cache, &packet, peer).await else { return Ok(()) };
        tokio::time::timeout(idle, write_message(&mut stream, &answer)).await??;
    }
}

async fn answer(handler: &Handler, cache: &mut Cache, packet: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
    metrics::counter!("dns.queries", "transport" => "tcp").increment(1);
    let mut out = Vec::with_capacity(512);
    match handler.answer(&handler.moment(), cache, packet, (peer, Transport::Tcp), &mut out) {
        Next::Reply => Some(out),
        Next::Silence => None,
        Next::Errand(errand) => handler.run(errand).await,
    }
}

/// The next message, or `None` when the client has closed the connection between two.
async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_message(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let Ok(length) = u16::try_from(answer.len()) else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut message = Vec::with_capacity(2 + answer.len());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(answer);
    stream.write_all(&message).await
}
