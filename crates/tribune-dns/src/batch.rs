//! Reading and sending many datagrams with one system call each: the call is most of what a question costs.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Most datagrams per call. More would not be faster, and the last one waits for the first.
pub(crate) const BATCH: usize = 32;
/// Largest datagram.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams that came in together.
pub(crate) struct Inbox {
    buffers: Vec<Box<[u8]>>,
    headers: MultiHeaders<SockaddrStorage>,
    received: Vec<(usize, Option<SockaddrStorage>)>,
}

/// Datagrams that go out together. Each has a buffer of its own.
pub(crate) struct Outbox {
    buffers: Vec<Vec<u8>>,
    addresses: Vec<Option<SockaddrStorage>>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            buffers: (0..BATCH).map(|_| vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice()).collect(),
            headers: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for at least one datagram, at most for the socket's read timeout, and takes all that are there.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.received.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => {
                self.received.extend(messages.map(|message| (message.bytes, message.address)));
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn packets(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<SockaddrStorage>)> {
        let pairs = self.buffers.iter().zip(&self.received);
        pairs.map(|(buffer, (length, address))| (&buffer[..*length], *address))
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            buffers: (0..BATCH).map(|_| Vec::with_capacity(1232)).collect(),
            addresses: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// An empty buffer for the next datagram; it is sent only if [`Outbox::commit`] follows.
    pub(crate) fn next(&mut self) -> &mut Vec<u8> {
        let buffer = &mut self.buffers[self.addresses.len()];
        buffer.clear();
        buffer
    }

    /// Addresses the datagram that was written last.
    pub(crate) fn commit(&mut self, address: SockaddrStorage) {
        self.addresses.push(Some(address));
    }

    /// Sends everything. What cannot be sent is left out: a lost datagram is asked for again.
    pub(crate) fn send(&mut self, socket: &UdpSocket) {
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.buffers[..self.addresses.len()].iter().map(|buffer| [IoSlice::new(buffer)]).collect();
        let none: [ControlMessage<'_>; 0] = [];
        let mut done = 0;
        while done < slices.len() {
            let (rest, addresses) = (&slices[done..], &self.addresses[done..]);
            let sent =
                sendmmsg(socket.as_raw_fd(), &mut self.headers, rest, addresses, none, MsgFlags::empty());
            // An error belongs to the first datagram that was not sent.
            done += sent.map_or(1, |sent| sent.count().max(1));
        }
        self.addresses.clear();
    }
}

/// The sender of a datagram.
pub(crate) fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || address.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    let v6 = || address.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address)));
    v4().or_else(v6)
}
