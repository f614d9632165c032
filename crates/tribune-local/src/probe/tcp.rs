//! TCP checks: can a connection be made, with a TLS handshake if asked for.

use tokio::net::TcpStream;
use tribune_core::CheckDefinition;

use super::Finding;
use super::tls::{Tls, host_of};

pub(super) async fn probe(definition: &CheckDefinition, tls: &Tls) -> Finding {
    let address = definition.tcp.as_str();
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Finding::critical(format!("TCP connect {address}: {error}")),
    };
    if definition.tcp_use_tls
        && let Err(error) = tls.connect(stream, definition, host_of(address), &[]).await
    {
        return Finding::critical(format!("TCP connect {address}: TLS handshake: {error}"));
    }
    Finding::passing(format!("TCP connect {address}: Success"))
}
