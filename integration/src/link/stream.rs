//! Connections through a link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::{Condition, Direction, Mode, Shared};

/// Connections through one port at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Parts under way in one direction of a connection; with that, what a long link holds is bounded.
const PARTS_MAX: usize = 512;
const PART_BYTES: usize = 16 << 10;
/// Pause before an address that is still taken is tried again.
const REBIND_PAUSE: Duration = Duration::from_millis(20);

/// Bytes and when they arrive.
type Part = (Instant, Vec<u8>);

/// Accepts at `from` and forwards to `to`, until the link is dropped.
pub(super) async fn forward(
    listener: TcpListener,
    from: SocketAddr,
    to: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let (mut applied, mut epoch) = (0, modes.borrow().epoch);
    loop {
        let mode = *modes.borrow_and_update();
        if mode.condition == Condition::Refused {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(from).await.ok();
            if listener.is_none() {
                tokio::time::sleep(REBIND_PAUSE).await;
                continue;
            }
        }
        if mode.condition == Condition::Refused || mode.epoch != epoch {
            epoch = mode.epoch;
            connections.shutdown().await;
        }
        shared.applied.fetch_add(mode.version - applied, Ordering::Relaxed);
        applied = mode.version;
        tokio::select! {
            changed = modes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(stream) = accept(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connection(stream, to, modes.clone(), shared.clone()));
            }
            // Only to forget those that have ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// One connection: both directions until both have ended. Whatever breaks, both ends see it closed.
async fn connection(
    stream: TcpStream,
    to: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    // A silent link has nobody behind it yet.
    let reaches = |mode: &Mode| matches!(mode.condition, Condition::Open | Condition::OnlyThere);
    if modes.wait_for(reaches).await.is_err() {
        return;
    }
    let Ok(onward) = TcpStream::connect(to).await else { return };
    shared.connections.fetch_add(1, Ordering::Relaxed);
    // Small packets are to take as long as large ones; a failure only makes them slower.
    let _ = stream.set_nodelay(true);
    let _ = onward.set_nodelay(true);
    let ((near_read, near_write), (far_read, far_write)) = (stream.into_split(), onward.into_split());
    let there = carry(near_read, far_write, Direction::There, modes.clone(), &shared);
    let back = carry(far_read, near_write, Direction::Back, modes.clone(), &shared);
    tokio::join!(there, back);
}

/// One direction: what is read now is written after the delay, when the link lets it pass.
async fn carry(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    direction: Direction,
    mut modes: watch::Receiver<Mode>,
    shared: &Shared,
) {
    let (sender, mut parts) = mpsc::channel::<Part>(PARTS_MAX);
    let delays = modes.clone();
    let read = async move {
        let mut buffer = vec![0; PART_BYTES];
        while let Ok(length) = reader.read(&mut buffer).await {
            let due = Instant::now() + delays.borrow().delay;
            // An empty part says that the other side has said all.
            if sender.send((due, buffer[..length].to_vec())).await.is_err() || length == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, part)) = parts.recv().await {
            tokio::time::sleep_until(due).await;
            if modes.wait_for(|mode| mode.passes(direction)).await.is_err() {
                return;
            }
            shared.count(direction, part.len());
            if part.is_empty() || writer.write_all(&part).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
