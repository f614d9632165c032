//! UDP on an unspecified address (`0.0.0.0`, `[::]`): each reply leaves from the address its question came to.
//!
//! Left to itself the kernel picks the source of a reply by its route, and a host with several addresses would
//! answer from another one than was asked; resolvers drop such answers. So each datagram is read with its local
//! address and answered by a call of its own: a batch goes out with one source for all. Sockets on a single address
//! need none of this.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tribune_core::dns::Transport;

use crate::batch::{DATAGRAM_BYTES_MAX, socket_addr};
use crate::cache::{Cache, WORKER_BYTES_MAX};
use crate::handler::{Handler, Next};
use crate::udp::{Errands, FAILURE_REST, prepare, record};

/// One in this many questions is timed.
const TIMED_QUESTION_INTERVAL: u32 = 64;

/// Makes the kernel tell the local address of each datagram. To be called before the socket is bound, lest the
/// first datagrams come without.
pub(crate) fn tell_local_address(socket: &impl std::os::fd::AsFd, is_ipv4: bool) -> io::Result<()> {
    if is_ipv4 {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        // It covers the IPv4 clients of an IPv6 socket too.
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Answers what comes in by one socket on an unspecified address.
pub(crate) struct Worker {
    socket: Arc<UdpSocket>,
    handler: Arc<Handler>,
    errands: Errands,
    cache: Cache,
    answer: Vec<u8>,
    questions: u32,
}

/// Where a datagram came from and where it came to.
#[derive(Clone, Copy)]
struct Way {
    peer: SockaddrStorage,
    local: Option<Local>,
}

/// A local address, as the kernel takes it for the source of a reply.
#[derive(Clone, Copy)]
enum Local {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Worker {
    pub(crate) fn new(socket: UdpSocket, handler: Arc<Handler>, runtime: Handle) -> io::Result<Self> {
        prepare(&socket)?;
        let errands = Errands::new(handler.clone(), runtime);
        let cache = Cache::new(WORKER_BYTES_MAX);
        Ok(Self { socket: Arc::new(socket), handler, errands, cache, answer: Vec::new(), questions: 0 })
    }

    /// Works until `shutdown`; must have a thread to itself. Errands that are under way then are given up.
    pub(crate) fn run(mut self, shutdown: &CancellationToken) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut control = cmsg_space!(in6_pktinfo);
        while !shutdown.is_cancelled() {
            match receive(&self.socket, &mut buffer, &mut control) {
                Ok(Some((length, way))) => self.answer(&buffer[..length], way),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "dns socket cannot be read");
                    std::thread::sleep(FAILURE_REST);
                }
            }
        }
    }

    fn answer(&mut self, packet: &[u8], way: Way) {
        self.questions = self.questions.wrapping_add(1);
        let started = self.questions.is_multiple_of(TIMED_QUESTION_INTERVAL).then(Instant::now);
        let Some(peer) = socket_addr(&way.peer) else { return };
        let from = (peer, Transport::Udp);
        self.answer.clear();
        let moment = self.handler.moment();
        match self.handler.answer(&moment, &mut self.cache, packet, from, &mut self.answer) {
            Next::Reply => way.reply(&self.socket, &self.answer),
            Next::Silence => {}
            Next::Errand(errand) => {
                let socket = self.socket.clone();
                self.errands.start(errand, move |answer| way.reply(&socket, answer));
            }
        }
        record(1, started);
    }
}

/// Waits for a datagram, at most for the socket's read timeout.
fn receive(socket: &UdpSocket, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Option<(usize, Way)>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty());
    match received {
        Ok(message) => {
            let local = message.cmsgs()?.find_map(|control| Local::from_control(&control));
            Ok(message.address.map(|peer| (message.bytes, Way { peer, local })))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Way {
    /// Sends an answer back. What cannot be sent is left out: a lost datagram is asked for again.
    fn reply(&self, socket: &UdpSocket, answer: &[u8]) {
        let source = self.local.as_ref().map(Local::as_control);
        let slices = [IoSlice::new(answer)];
        let _ = sendmsg(socket.as_raw_fd(), &slices, source.as_slice(), MsgFlags::empty(), Some(&self.peer));
    }
}

impl Local {
    /// Leaves out the interface, for the route of the reply may be another one, unless the address has a meaning
    /// only there.
    fn from_control(control: &ControlMessageOwned) -> Option<Self> {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Self::V4(in_pktinfo { ipi_ifindex: 0, ..*info }))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let interface = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                // A group is no source.
                (!address.is_multicast())
                    .then_some(Self::V6(in6_pktinfo { ipi6_ifindex: interface, ..*info }))
            }
            _ => None,
        }
    }

    fn as_control(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}
