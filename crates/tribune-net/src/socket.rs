//! How TCP connections are opened, and what each is told before it is used.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

/// Sends small messages at once, asks a silent other side after a while whether it is still there, and gives up
/// on one that acknowledges nothing.
pub(crate) fn tune(
    stream: &TcpStream,
    keep_alive: Duration,
    unacknowledged_max: Duration,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    // The system counts in whole seconds and takes none for an error.
    let keep_alive = keep_alive.max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(keep_alive))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(unacknowledged_max))?;
    Ok(())
}

/// Connects to `to`, from this address of the host if one is given that can reach it.
pub(crate) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    match source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        None => TcpStream::connect(to).await,
        Some(source) => {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(to).await
        }
    }
}
