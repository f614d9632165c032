//! The sockets a server listens on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::wildcard;

/// Sockets that all listen on one address.
#[derive(Debug)]
pub struct Sockets {
    /// One or more; with several (`SO_REUSEPORT`) the kernel spreads the clients over them, and each is served by
    /// a thread of its own.
    pub udp: Vec<UdpSocket>,
    /// For answers that do not fit into a datagram.
    pub tcp: TcpListener,
}

/// Asked of the kernel for datagrams that wait to be read: some thousand questions, a few milliseconds of a flood.
const UDP_RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Connections that wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
/// Port 0 must be free for UDP and TCP alike; the kernel picks for UDP only, so a few picks may be needed.
const PORT_PICKS_MAX: usize = 16;

impl Sockets {
    /// Opens `udp_sockets` UDP sockets and a TCP listener on `address`, all on the same port; with port 0 on one
    /// that is free. Only the program calls this, where it opens all its listeners.
    pub fn bind(address: SocketAddr, udp_sockets: usize) -> io::Result<Self> {
        let mut last = None;
        for _ in 0..PORT_PICKS_MAX {
            let first = bind_udp(address)?;
            let address = first.local_addr()?;
            match bind_tcp(address) {
                Ok(tcp) => {
                    let rest = (1..udp_sockets).map(|_| bind_udp(address));
                    let udp = std::iter::once(Ok(first)).chain(rest).collect::<io::Result<_>>()?;
                    return Ok(Self { udp, tcp });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// The address they listen on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    // The kernel grants what its own limit allows; less only means that a flood is dropped earlier.
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES);
    if address.ip().is_unspecified() {
        wildcard::tell_local_address(&socket, address.is_ipv4())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}
