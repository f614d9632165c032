//! The sockets of a node, opened before anything else is started so that a taken port is known at once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::settings::Settings;

/// Connections that wait to be accepted: a burst of clients after a restart.
const BACKLOG: i32 = 4096;

/// Fewest UDP sockets for one DNS address: while one thread answers, another reads.
const DNS_SOCKETS_MIN: usize = 2;

/// How often another port is tried when the system's choice for TCP is taken for UDP.
const PORT_PAIRS_TRIED: usize = 16;

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

/// The sockets of a node, but for those of its gossip.
pub(super) struct Bound {
    pub(super) http: Vec<TcpListener>,
    pub(super) https: Vec<TcpListener>,
    pub(super) dns: Vec<tribune_dns::Sockets>,
    /// Calls of the datacenter's other nodes; servers only.
    pub(super) rpc: Option<TcpListener>,
    /// Calls of other datacenters; servers only.
    pub(super) wan: Option<TcpListener>,
    pub(super) reach: Reach,
}

/// A UDP and a TCP socket with the same port.
pub(super) type Gossip = (std::net::UdpSocket, std::net::TcpListener);

/// Where others reach this node, with the ports that the system chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Calls of the datacenter's other nodes; `None` on client agents.
    pub(crate) rpc: Option<SocketAddr>,
    /// Gossip in the datacenter.
    pub(crate) lan: SocketAddr,
    /// Calls of other datacenters.
    pub(crate) wan: Option<SocketAddr>,
}

/// Opens everything; `with_wan` says whether this node takes calls of other datacenters.
pub(super) fn bind(settings: &Settings, with_wan: bool) -> Result<(Bound, Gossip), BindError> {
    let network = &settings.network;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let per_address = cores.max(DNS_SOCKETS_MIN);
    let listeners = |service, key, addresses: &[SocketAddr]| {
        let open = |&address: &SocketAddr| listen(service, key, address);
        addresses.iter().map(open).collect::<Result<Vec<_>, _>>()
    };
    let dns = network.dns.iter().map(|&address| {
        let sockets = tribune_dns::Sockets::bind(address, per_address);
        sockets.map_err(|source| refused("DNS", address, "ports.dns", source))
    });
    let http = listeners("HTTP", "ports.http", &network.http)?;
    let https = listeners("HTTPS", "ports.https", &network.https)?;
    let dns = dns.collect::<Result<_, _>>()?;
    let is_server = settings.cluster.is_server();
    let rpc = is_server.then(|| listen("calls between servers", "ports.server", network.rpc)).transpose()?;
    let wan = network.wan.filter(|_| is_server && with_wan);
    let wan =
        wan.map(|address| listen("calls of other datacenters", "ports.serf_wan", address)).transpose()?;
    let lan = gossip(network.lan)?;
    let reach = Reach {
        rpc: rpc.as_ref().and_then(|socket| advertised(network.advertise, socket)),
        lan: SocketAddr::new(
            network.advertise,
            lan.1.local_addr().map_or(network.lan.port(), |it| it.port()),
        ),
        wan: wan.as_ref().and_then(|socket| advertised(network.advertise_wan, socket)),
    };
    Ok((Bound { http, https, dns, rpc, wan, reach }, lan))
}

fn advertised(ip: IpAddr, socket: &TcpListener) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip, socket.local_addr().ok()?.port()))
}

fn gossip(address: SocketAddr) -> Result<Gossip, BindError> {
    let refused = |source| refused("gossip in the datacenter", address, "ports.serf_lan", source);
    let mut tries = if address.port() == 0 { PORT_PAIRS_TRIED } else { 1 };
    loop {
        tries -= 1;
        let tcp: std::net::TcpListener = socket(address).map_err(refused)?.into();
        let port = tcp.local_addr().map_err(refused)?.port();
        match std::net::UdpSocket::bind(SocketAddr::new(address.ip(), port)) {
            Ok(udp) => return Ok((udp, tcp)),
            Err(source) if tries == 0 => return Err(refused(source)),
            Err(_) => {}
        }
    }
}

fn listen(service: &'static str, key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let listener = socket(address).and_then(|socket| TcpListener::from_std(socket.into()));
    listener.map_err(|source| refused(service, address, key, source))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the run before that are still closing must not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn refused(service: &'static str, address: SocketAddr, key: &'static str, source: io::Error) -> BindError {
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it or set another port",
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: set bind_addr, client_addr or addresses"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need the right CAP_NET_BIND_SERVICE",
        _ => "set another address or port",
    };
    BindError { service, address, key, source, advice }
}
