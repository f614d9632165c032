//! The pool of a datacenter on the network: packets over UDP, exchanges over TCP on the same port number. One
//! connection is one exchange: a length, a request; a length, an answer.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::carrier::{Address, Carrier, CarrierError, EXCHANGE_BYTES_MAX};
use crate::pool::Pool;

/// Largest request that is read. Requests hold the states of all members and tags of few, so they are much smaller
/// than answers.
pub(crate) const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Connections served at a time.
const CONNECTIONS_MAX: usize = 256;

/// Connections served at a time for one address, so that one host cannot take them all.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;

/// How long a connection may take from its first byte to its last.
const CONNECTION_TIME: Duration = Duration::from_secs(15);

/// Largest packet that is read; those of this protocol are smaller.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// After an error of a socket, so that a lasting one does not keep a core busy.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Sends packets from the socket that also receives, and opens a connection per exchange.
pub(crate) struct LanCarrier {
    udp: Arc<UdpSocket>,
}

impl LanCarrier {
    pub(crate) fn new(udp: Arc<UdpSocket>) -> Self {
        Self { udp }
    }
}

#[async_trait]
impl Carrier for LanCarrier {
    async fn packet(&self, to: &Address, bytes: Bytes) {
        if let Err(error) = self.udp.send_to(&bytes, to.socket).await {
            debug!(to = %to.socket, %error, "packet not sent");
        }
    }

    async fn exchange(&self, to: &Address, bytes: Bytes) -> Result<Bytes, CarrierError> {
        let exchange = async {
            let mut stream = TcpStream::connect(to.socket).await?;
            stream.set_nodelay(true)?;
            write_frame(&mut stream, &bytes).await?;
            read_frame(&mut stream, EXCHANGE_BYTES_MAX).await
        };
        exchange.await.map_err(|error: io::Error| CarrierError(format!("{}: {error}", to.socket)))
    }
}

/// The two sockets and the tasks that listen on them.
pub(crate) struct Doors {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Doors {
    pub(crate) fn open(pool: Pool, udp: Arc<UdpSocket>, tcp: TcpListener) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(packets(pool.clone(), udp, stop.clone()));
        tasks.spawn(connections(pool, tcp, stop.clone()));
        Self { stop, tasks }
    }

    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn packets(pool: Pool, udp: Arc<UdpSocket>, stop: CancellationToken) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = udp.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, _)) => pool.receive_packet(&buffer[..length]),
            Err(error) => {
                debug!(%error, "packet not received");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

async fn connections(pool: Pool, tcp: TcpListener, stop: CancellationToken) {
    let places = Places::default();
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = serving.join_next(), if !serving.is_empty() => {}
            accepted = tcp.accept(), if serving.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, from)) => {
                    if let Some(place) = places.take(from.ip()) {
                        serving.spawn(serve(pool.clone(), stream, place));
                    } else {
                        metrics::counter!("memberlist.connections_refused", "network" => "lan").increment(1);
                    }
                }
                Err(error) => {
                    debug!(%error, "connection not accepted");
                    sleep(ERROR_PAUSE).await;
                }
            },
        }
    }
    serving.shutdown().await;
}

async fn serve(pool: Pool, mut stream: TcpStream, _place: Place) {
    let exchange = async {
        stream.set_nodelay(true)?;
        let request = read_frame(&mut stream, REQUEST_BYTES_MAX).await?;
        let answer = pool.receive_exchange(request).await;
        write_frame(&mut stream, &answer).await
    };
    match timeout(CONNECTION_TIME, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "exchange not served"),
        Err(_) => metrics::counter!("memberlist.connections_slow", "network" => "lan").increment(1),
    }
}

async fn write_frame(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(bytes.len() + 4);
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    stream.write_all(&frame).await
}

/// Memory is taken as bytes arrive, not as a length promises.
async fn read_frame(stream: &mut TcpStream, bytes_max: usize) -> io::Result<Bytes> {
    let length = stream.read_u32().await? as usize;
    if length > bytes_max {
        return Err(io::Error::other(format!("a frame of {length} bytes is larger than {bytes_max}")));
    }
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.into())
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock();
        let count = taken.entry(address).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), address })
    }
}

/// The place of one connection; given back when it is dropped.
struct Place {
    places: Places,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::default();
        let one = IpAddr::from([10, 0, 0, 1]);
        let held: Vec<Place> = (0..CONNECTIONS_PER_ADDRESS_MAX).filter_map(|_| places.take(one)).collect();
        assert!(places.take(one).is_none());
        assert!(places.take(IpAddr::from([10, 0, 0, 2])).is_some());
        drop(held);
        assert!(places.take(one).is_some());
    }
}
