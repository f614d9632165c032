//! HTTP/2 ping checks, and the HTTP/2 connection that gRPC checks use as well.

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tribune_core::CheckDefinition;

use super::Finding;
use super::tls::{Tls, host_of};

/// A byte stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn probe(definition: &CheckDefinition, tls: &Tls) -> Finding {
    let address = definition.h2ping.as_str();
    match ping(definition, tls).await {
        Ok(()) => Finding::passing("HTTP2 ping was successful"),
        Err(error) => Finding::critical(format!("HTTP2 ping {address}: {error}")),
    }
}

async fn ping(definition: &CheckDefinition, tls: &Tls) -> Result<(), String> {
    let tls = definition.h2ping_use_tls.then_some(tls);
    let (_requests, mut connection) = connect(&definition.h2ping, definition, tls).await?;
    let mut pings = connection.ping_pong().ok_or("the connection sends no pings")?;
    tokio::select! {
        answer = pings.ping(h2::Ping::opaque()) => answer.map(|_| ()).map_err(|error| error.to_string()),
        ended = &mut connection => match ended {
            Ok(()) => Err("the connection was closed".into()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Connects to `host:port` and completes the handshakes. The connection moves only while it is polled.
pub(super) async fn connect(
    address: &str,
    definition: &CheckDefinition,
    tls: Option<&Tls>,
) -> Result<(SendRequest<Bytes>, Connection<Box<dyn Stream>, Bytes>), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.connect(stream, definition, host_of(address), &[b"h2"]).await?),
        None => Box::new(stream),
    };
    h2::client::handshake(stream).await.map_err(|error| error.to_string())
}
