//! Questions to a DNS server, over UDP and TCP, and raw datagrams that are no questions at all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};

/// A DNS server on loopback answers within milliseconds; this is for a machine that does much else.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Asks one DNS server.
#[derive(Debug, Clone, Copy)]
pub struct DnsProbe {
    address: SocketAddr,
}

impl DnsProbe {
    /// A probe of the server at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Asks over UDP with room for long answers.
    pub fn ask(&self, name: &str, record_type: RecordType) -> Result<Message> {
        let mut question = question(name, record_type)?;
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        question.set_edns(edns);
        let answer = self.datagram(&question.to_vec()?, ANSWER_LIMIT)?;
        answer_to(&question, &answer.context("no answer to a good question")?)
    }

    /// Asks over UDP as the oldest clients do: 512 bytes and nothing extra.
    pub fn ask_small(&self, name: &str, record_type: RecordType) -> Result<Message> {
        let question = question(name, record_type)?;
        let answer = self.datagram(&question.to_vec()?, ANSWER_LIMIT)?;
        answer_to(&question, &answer.context("no answer to a good question")?)
    }

    /// Asks over TCP.
    pub fn ask_tcp(&self, name: &str, record_type: RecordType) -> Result<Message> {
        let question = question(name, record_type)?;
        let bytes = question.to_vec()?;
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&u16::try_from(bytes.len())?.to_be_bytes())?;
        stream.write_all(&bytes)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        answer_to(&question, &answer)
    }

    /// Sends any bytes and returns what comes back within `limit`, if anything does.
    pub fn datagram(&self, bytes: &[u8], limit: Duration) -> Result<Option<Vec<u8>>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(limit))?;
        socket.send(bytes)?;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        match socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn question(name: &str, record_type: RecordType) -> Result<Message> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name)?, record_type));
    Ok(message)
}

fn answer_to(question: &Message, bytes: &[u8]) -> Result<Message> {
    let answer = Message::from_vec(bytes).context("an answer that cannot be read")?;
    if answer.metadata.id != question.metadata.id {
        bail!("an answer to another question");
    }
    Ok(answer)
}
