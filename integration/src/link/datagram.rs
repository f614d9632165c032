//! Datagrams through a link.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Direction, Mode, Shared};

/// Senders that are told apart; those beyond are not heard.
const SENDERS_MAX: usize = 256;
/// Datagrams under way in one direction; those beyond are lost, as in any network.
const UNDER_WAY_MAX: usize = 4096;
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A datagram, when it arrives, and how it gets there.
struct Packet {
    due: Instant,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

/// Forwards what arrives at `socket` to `to`, each sender through a socket of its own, and what comes back.
pub(super) async fn forward(
    socket: UdpSocket,
    to: SocketAddr,
    modes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    let socket = Arc::new(socket);
    let (there, under_way) = mpsc::channel(UNDER_WAY_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(deliver(under_way, Direction::There, modes.clone(), shared.clone()));
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error reports an earlier datagram that found nobody; the next one may.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if !senders.contains_key(&from) {
            if senders.len() >= SENDERS_MAX {
                continue;
            }
            let Ok(own) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { continue };
            let own = Arc::new(own);
            senders.insert(from, own.clone());
            tasks.spawn(answers(own, socket.clone(), from, modes.clone(), shared.clone()));
        }
        let due = Instant::now() + modes.borrow().delay;
        let packet = Packet { due, bytes: buffer[..length].to_vec(), socket: senders[&from].clone(), to };
        // A full queue loses the datagram.
        let _ = there.try_send(packet);
    }
}

/// What comes back for one sender.
async fn answers(
    own: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    modes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    let (back, under_way) = mpsc::channel(UNDER_WAY_MAX);
    let receive = async {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let Ok(length) = own.recv(&mut buffer).await else { continue };
            let due = Instant::now() + modes.borrow().delay;
            let packet = Packet { due, bytes: buffer[..length].to_vec(), socket: socket.clone(), to };
            // A full queue loses the datagram.
            let _ = back.try_send(packet);
        }
    };
    tokio::join!(receive, deliver(under_way, Direction::Back, modes.clone(), shared));
}

async fn deliver(
    mut under_way: mpsc::Receiver<Packet>,
    direction: Direction,
    modes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    while let Some(Packet { due, bytes, socket, to }) = under_way.recv().await {
        tokio::time::sleep_until(due).await;
        if modes.borrow().passes(direction) {
            shared.count(direction, bytes.len());
            // Nobody there: lost.
            let _ = socket.send_to(&bytes, to).await;
        }
    }
}
