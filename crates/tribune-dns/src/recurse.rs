//! Asking the recursors about names that are not ours.
//!
//! Each question goes out from a socket of its own, and so from a port of its own, with an id of its own; an
//! answer counts only when it comes from the recursor that was asked and repeats id and question. What fits
//! nothing we asked is ignored until the time is up, so a forged packet cannot even make a question fail.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tracing::debug;
use tribune_core::dns::{Kind, Name, Record, Transport};

use crate::config::{Config, RecursorStrategy};
use crate::convert::{HEADER_BYTES, records_of};

/// Largest message.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Passes `packet` on over the transport it came by; gives back the first useful answer with the id of the
/// packet, or `None` when no recursor has one.
pub(crate) async fn relay(
    config: &Config,
    own: &[SocketAddr],
    packet: &[u8],
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut recursors: Vec<SocketAddr> = usable(config, own).collect();
    if config.recursor_strategy == RecursorStrategy::Random && !recursors.is_empty() {
        let first = rand::random_range(0..recursors.len());
        recursors.rotate_left(first);
    }
    let mut question = packet.to_vec();
    for recursor in recursors {
        question[..2].copy_from_slice(&rand::random::<[u8; 2]>());
        let exchange = async {
            match transport {
                Transport::Udp => exchange_udp(recursor, &question).await,
                Transport::Tcp => exchange_tcp(recursor, &question).await,
            }
        };
        match tokio::time::timeout(config.recursor_timeout, exchange).await {
            Ok(Ok(mut answer)) if is_useful(&answer) => {
                answer[..2].copy_from_slice(&packet[..2]);
                return Some(answer);
            }
            Ok(Ok(answer)) => debug!(%recursor, code = answer[3] & 0x0f, "recursor has no useful answer"),
            Ok(Err(error)) => debug!(%recursor, %error, "recursor cannot be asked"),
            Err(_) => debug!(%recursor, "recursor does not answer"),
        }
    }
    None
}

/// The addresses of a host name that a question of type `asked` wants to know; empty when nobody knows any.
pub(crate) async fn resolve(config: &Config, own: &[SocketAddr], name: &Name, asked: Kind) -> Vec<Record> {
    let mut records = Vec::new();
    let kinds: &[Kind] = match asked {
        Kind::A => &[Kind::A],
        Kind::AAAA => &[Kind::AAAA],
        _ => &[Kind::A, Kind::AAAA],
    };
    for kind in kinds {
        let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(name.as_wire());
        packet.extend_from_slice(&kind.0.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        let answer = relay(config, own, &packet, Transport::Udp).await;
        for record in answer.map(|answer| records_of(&answer)).unwrap_or_default() {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    records
}

/// The recursors without our own addresses: to ask ourselves would never end.
pub(crate) fn usable<'a>(config: &'a Config, own: &'a [SocketAddr]) -> impl Iterator<Item = SocketAddr> + 'a {
    config.recursors.iter().copied().filter(|recursor| !is_own(*recursor, own))
}

fn is_own(recursor: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        let here = own.ip() == recursor.ip()
            || (own.ip().is_unspecified() && (recursor.ip().is_loopback() || recursor.ip().is_unspecified()));
        here && own.port() == recursor.port()
    })
}

async fn exchange_udp(recursor: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match recursor {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(recursor).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], question) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn exchange_tcp(recursor: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(recursor).await?;
    let mut message = Vec::with_capacity(2 + question.len());
    message.extend_from_slice(&(question.len() as u16).to_be_bytes());
    message.extend_from_slice(question);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether `answer` has the id and repeats the question of `question`, in any letter case.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let (Some(head), Some(asked)) = (answer.first_chunk::<HEADER_BYTES>(), question.get(HEADER_BYTES..))
    else {
        return false;
    };
    let end = asked.iter().position(|byte| *byte == 0).map_or(0, |_| question_length(asked));
    let repeated = answer.get(HEADER_BYTES..HEADER_BYTES + end);
    head[..2] == question[..2]
        && head[2] & 0x80 != 0
        && head[4..6] == [0, 1]
        && end > 0
        && repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(&asked[..end]))
}

/// Length of the question at the beginning of `bytes`, or 0 when it is not well-formed.
fn question_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = bytes.get(at).copied().map(usize::from) {
        at += 1 + length;
        if length == 0 {
            return if at + 4 <= bytes.len() { at + 4 } else { 0 };
        }
        if length > 63 {
            return 0;
        }
    }
    0
}

/// An answer or the knowledge that there is none; anything else is worth asking the next one.
fn is_useful(answer: &[u8]) -> bool {
    matches!(answer[3] & 0x0f, 0 | 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_our_question_counts() {
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
        let mut answer = question.to_vec();
        assert!(!answers(&answer, question), "a question is no answer");
        answer[2] |= 0x80;
        assert!(answers(&answer, question));
        answer[13] = b'A';
        assert!(answers(&answer, question), "letter case does not matter");
        for at in [0, 5, 13, 16, 18] {
            let mut forged = answer.clone();
            forged[at] ^= 0x01;
            assert!(!answers(&forged, question), "byte {at}");
        }
        assert!((0..answer.len()).all(|length| !answers(&answer[..length], question)));
    }

    #[test]
    fn our_own_address_is_never_asked() {
        let own: Vec<SocketAddr> = vec!["0.0.0.0:8600".parse().unwrap(), "10.1.1.1:53".parse().unwrap()];
        for (recursor, expected) in
            [("127.0.0.1:8600", true), ("127.0.0.1:53", false), ("10.1.1.1:53", true), ("10.1.1.2:53", false)]
        {
            assert_eq!(is_own(recursor.parse().unwrap(), &own), expected, "{recursor}");
        }
    }
}
