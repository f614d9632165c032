//! One DNS question to an agent, as `dig … SRV` asks it. Of the answer only the code and the ports are read: in the
//! demo every instance has a port of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Longest answer to a question without EDNS, in bytes.
const ANSWER_BYTES_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
const SRV: u16 = 33;
const INTERNET: u16 = 1;

/// What DNS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// 0 is an answer, 2 a failure of the server, 3 "no such name".
    pub(super) code: u8,
    /// Ports of the instances, in order.
    pub(super) ports: Vec<u16>,
    pub(super) took: Duration,
}

/// Asks for the SRV records of `name`, which must be made of proper labels.
pub(super) async fn srv(server: SocketAddr, name: &str, patience: Duration) -> io::Result<Found> {
    let began = Instant::now();
    let id = rand::random();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question(id, name)).await?;
    let mut bytes = [0; ANSWER_BYTES_MAX];
    let length = timeout(patience, socket.recv(&mut bytes))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (code, ports) = answer(id, &bytes[..length])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer to the question"))?;
    Ok(Found { code, ports, took: began.elapsed() })
}

fn question(id: u16, name: &str) -> Vec<u8> {
    const RECURSION_DESIRED: u16 = 0x0100;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(SRV.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes
}

/// The code and the ports; `None` if this answers something else or ends too early.
fn answer(id: u16, bytes: &[u8]) -> Option<(u8, Vec<u16>)> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if word(0)? != id || bytes.get(2)? & 0x80 == 0 {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..word(4)? {
        at = after_name(bytes, at)? + 4;
    }
    let mut ports = Vec::new();
    for _ in 0..word(6)? {
        at = after_name(bytes, at)?;
        let end = at + 10 + usize::from(word(at + 8)?);
        let data = bytes.get(at + 10..end)?;
        if word(at)? == SRV {
            ports.push(u16::from_be_bytes([*data.get(4)?, *data.get(5)?]));
        }
        at = end;
    }
    ports.sort_unstable();
    Some((bytes.get(3)? & 0x0f, ports))
}

/// Where the name that begins at `at` ends. One that points elsewhere ends with the pointer.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these ports to the question for `a.b`.
    fn answered(code: u8, ports: &[u16]) -> Vec<u8> {
        let mut bytes = question(7, "a.b.");
        bytes[2] |= 0x80;
        bytes[3] |= code;
        bytes[7] = u8::try_from(ports.len()).unwrap();
        for port in ports {
            bytes.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 0, 1]);
            bytes.extend(port.to_be_bytes());
            bytes.extend([1, b't', 0]);
        }
        bytes
    }

    #[test]
    fn ports_are_read_in_order() {
        assert_eq!(answer(7, &answered(0, &[8082, 8081])), Some((0, vec![8081, 8082])));
        assert_eq!(answer(7, &answered(3, &[])), Some((3, vec![])));
    }

    #[test]
    fn other_and_broken_answers_are_none() {
        assert_eq!(answer(8, &answered(0, &[8081])), None);
        assert_eq!(answer(7, &question(7, "a.b.")), None, "a question is no answer");
        let whole = answered(0, &[8081, 8082]);
        for length in 0..whole.len() {
            assert_eq!(answer(7, &whole[..length]), None, "{length}");
        }
    }
}
