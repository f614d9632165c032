//! The sockets of a node, opened before anything else is started so that a taken port is known at once.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::settings::Network;

/// Connections that wait to be accepted: a burst of clients after a restart.
const HTTP_BACKLOG: i32 = 4096;

/// Fewest UDP sockets for one DNS address: while one thread answers, another reads.
const DNS_SOCKETS_MIN: usize = 2;

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {service} (key {key}): {source}; {advice}")]
pub struct BindError {
    /// What would have been served.
    pub service: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// The key that says so.
    pub key: &'static str,
    /// What the system said.
    pub source: io::Error,
    /// What to do about it.
    pub advice: &'static str,
}

/// All sockets of a node.
pub(super) struct Bound {
    pub(super) http: Vec<TcpListener>,
    pub(super) dns: Vec<tribune_dns::Sockets>,
}

pub(super) fn bind(network: &Network) -> Result<Bound, BindError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let per_address = cores.max(DNS_SOCKETS_MIN);
    let http = network
        .http
        .iter()
        .map(|&address| listener(address).map_err(|source| refused("HTTP", address, "ports.http", source)));
    let dns = network.dns.iter().map(|&address| {
        let sockets = tribune_dns::Sockets::bind(address, per_address);
        sockets.map_err(|source| refused("DNS", address, "ports.dns", source))
    });
    Ok(Bound { http: http.collect::<Result<_, _>>()?, dns: dns.collect::<Result<_, _>>()? })
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the run before that are still closing must not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(HTTP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn refused(service: &'static str, address: SocketAddr, key: &'static str, source: io::Error) -> BindError {
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it or set another port",
        io::ErrorKind::AddrNotAvailable => "this host has no such address: set client_addr or addresses",
        io::ErrorKind::PermissionDenied => "ports below 1024 need the right CAP_NET_BIND_SERVICE",
        _ => "set another address or port",
    };
    BindError { service, address, key, source, advice }
}
