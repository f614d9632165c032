//! UDP checks: a datagram is sent; an answer passes, and so does silence, since many services answer nothing to
//! an empty one. Only the word of the host that nobody listens makes it critical.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;
use tribune_core::CheckDefinition;

use super::Finding;

pub(super) async fn probe(definition: &CheckDefinition, time: Duration) -> Finding {
    let address = definition.udp.as_str();
    // The time limit of the whole probe must not end the wait that silence is allowed to take.
    match timeout(time.mul_f64(0.9), exchange(address)).await {
        Ok(Err(error)) => Finding::critical(format!("UDP connect {address}: {error}")),
        Ok(Ok(())) | Err(_) => Finding::passing(format!("UDP connect {address}: Success")),
    }
}

async fn exchange(address: &str) -> std::io::Result<()> {
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    let target = lookup_host(address).await?.next().ok_or_else(missing)?;
    let local: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(target).await?;
    socket.send(&[]).await?;
    let mut answer = [0; 64];
    socket.recv(&mut answer).await.map(|_| ())
}
