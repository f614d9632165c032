//! From packets to questions, and from other servers' answers to our records.
//!
//! Ordinary questions are read in place, without copying. Whatever is not ordinary goes to hickory, which knows
//! every corner of the format; what it cannot read either is answered FORMERR.

use std::borrow::Cow;
use std::net::SocketAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::BinEncodable;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request as HickoryRequest;
use tribune_core::dns::{Code, Data, Edns, Kind, Name, Owner, Question, Record, Request, Transport};

/// Bytes of a message header.
pub(crate) const HEADER_BYTES: usize = 12;
/// Type number of the EDNS record.
const OPT: u16 = 41;
/// Option code of the client subnet (RFC 7871).
const CLIENT_SUBNET: u16 = 8;
/// Most records beside the question that a query carries: an EDNS record, a signature.
const ADDITIONAL_RECORDS_MAX: u16 = 2;

/// A packet that asks something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query<'p> {
    pub(crate) id: u16,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    pub(crate) kind: Kind,
    /// Name, type and class, as they came.
    pub(crate) question: Cow<'p, [u8]>,
    pub(crate) edns: Option<ClientEdns<'p>>,
}

/// A client's EDNS record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientEdns<'p> {
    pub(crate) version: u8,
    pub(crate) payload_bytes: u16,
    pub(crate) subnet: Option<Cow<'p, [u8]>>,
}

/// Why a packet is not a question to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Too short to say anything to, or itself an answer: replying could start an endless exchange.
    Ignore,
    /// The client is told this.
    Error(Code),
}

impl<'p> Query<'p> {
    pub(crate) fn read(packet: &'p [u8], peer: SocketAddr, transport: Transport) -> Result<Self, Unreadable> {
        let header = packet.first_chunk::<HEADER_BYTES>().ok_or(Unreadable::Ignore)?;
        if header[2] & 0x80 != 0 {
            return Err(Unreadable::Ignore);
        }
        if header[2] & 0x78 != 0 {
            return Err(Unreadable::Error(Code::NotImp));
        }
        match Self::read_ordinary(packet, header) {
            Some(query) => Ok(query),
            None => Self::read_any(packet, header, peer, transport).ok_or(Unreadable::Error(Code::FormErr)),
        }
    }

    /// Reads a packet that is one uncompressed question and at most an EDNS record, to the last byte.
    pub(crate) fn read_ordinary(packet: &'p [u8], header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let with_edns = match header[4..] {
            [0, 1, 0, 0, 0, 0, 0, 0] => false,
            [0, 1, 0, 0, 0, 0, 0, 1] => true,
            _ => return None,
        };
        let name_bytes = name_length(&packet[HEADER_BYTES..])?;
        let end = HEADER_BYTES + name_bytes + 4;
        let question = packet.get(HEADER_BYTES..end)?;
        let rest = &packet[end..];
        let edns = match with_edns {
            true => Some(ClientEdns::read(rest)?),
            false if rest.is_empty() => None,
            false => return None,
        };
        let kind = Kind(u16::from_be_bytes([question[name_bytes], question[name_bytes + 1]]));
        Some(Self::new(header, kind, Cow::Borrowed(question), edns))
    }

    /// Reads whatever hickory can read. The counts are looked at first: they decide how much it sets aside.
    pub(crate) fn read_any(
        packet: &[u8],
        header: &[u8; HEADER_BYTES],
        peer: SocketAddr,
        transport: Transport,
    ) -> Option<Self> {
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if count(4) != 1 || count(6) != 0 || count(8) > 1 || count(10) > ADDITIONAL_RECORDS_MAX {
            return None;
        }
        let protocol = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let request = HickoryRequest::from_bytes(packet.to_vec(), peer, protocol).ok()?;
        let asked = request.queries.queries().first()?.original();
        let name = Name::from_labels(asked.name().iter())?;
        let kind = Kind(u16::from(asked.query_type()));
        let mut question = name.as_wire().to_vec();
        question.extend_from_slice(&kind.0.to_be_bytes());
        question.extend_from_slice(&u16::from(asked.query_class()).to_be_bytes());
        let edns = request.edns.as_ref().map(|edns| ClientEdns {
            version: edns.version(),
            payload_bytes: edns.max_payload(),
            subnet: edns.option(EdnsCode::Subnet).and_then(subnet_bytes).map(Cow::Owned),
        });
        Some(Self::new(header, kind, Cow::Owned(question), edns))
    }

    fn new(
        header: &[u8; HEADER_BYTES],
        kind: Kind,
        question: Cow<'p, [u8]>,
        edns: Option<ClientEdns<'p>>,
    ) -> Self {
        Self {
            id: u16::from_be_bytes([header[0], header[1]]),
            recursion_desired: header[2] & 1 != 0,
            checking_disabled: header[3] & 0x10 != 0,
            kind,
            question,
            edns,
        }
    }

    /// The name in wire form.
    pub(crate) fn name(&self) -> &[u8] {
        &self.question[..self.question.len() - 4]
    }

    /// The question for core; `None` when the name is not well-formed after all.
    pub(crate) fn to_question(&self) -> Option<Question> {
        Some(Question { name: Name::from_wire(self.name())?, kind: self.kind })
    }

    /// The request for core.
    pub(crate) fn request(&self, transport: Transport, recursion_available: bool) -> Request<'_> {
        let edns = self
            .edns
            .as_ref()
            .map(|edns| Edns { payload_bytes: edns.payload_bytes, subnet: edns.subnet.as_deref() });
        Request {
            id: self.id,
            opcode: 0,
            recursion_desired: self.recursion_desired,
            checking_disabled: self.checking_disabled,
            question: &self.question,
            transport,
            edns,
            recursion_available,
        }
    }
}

/// The request behind a packet that could not be read: only its header is answered.
pub(crate) fn unreadable_request(packet: &[u8], transport: Transport) -> Request<'static> {
    let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
    Request {
        id: u16::from_be_bytes([byte(0), byte(1)]),
        opcode: (byte(2) >> 3) & 0x0f,
        recursion_desired: byte(2) & 1 != 0,
        checking_disabled: false,
        question: &[],
        transport,
        edns: None,
        recursion_available: false,
    }
}

/// Length of the uncompressed name at the beginning of `bytes`, its closing zero included.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return (at < tribune_core::dns::NAME_WIRE_BYTES_MAX).then_some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            _ => return None,
        }
    }
}

impl<'p> ClientEdns<'p> {
    /// Reads an EDNS record that fills `bytes`.
    fn read(bytes: &'p [u8]) -> Option<Self> {
        let (fixed, options) = bytes.split_first_chunk::<11>()?;
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        if fixed[0] != 0 || number(1) != OPT || usize::from(number(9)) != options.len() {
            return None;
        }
        let subnet = find_option(options, CLIENT_SUBNET)?;
        let subnet = subnet.filter(|data| is_subnet(data)).map(Cow::Borrowed);
        Some(Self { version: fixed[6], payload_bytes: number(3), subnet })
    }
}

/// The data of the first option with this code; `None` when the options are malformed.
fn find_option(mut options: &[u8], code: u16) -> Option<Option<&[u8]>> {
    let mut found = None;
    while !options.is_empty() {
        let (head, rest) = options.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let data = rest.get(..length)?;
        if found.is_none() && u16::from_be_bytes([head[0], head[1]]) == code {
            found = Some(data);
        }
        options = &rest[length..];
    }
    Some(found)
}

/// Whether a client subnet option can be repeated to the client: anything else might be used to have us send what
/// others wrote.
fn is_subnet(data: &[u8]) -> bool {
    let Some(([0, family, source, _], address)) = data.split_first_chunk::<4>() else { return false };
    let bits_max = match family {
        1 => 32,
        2 => 128,
        _ => return false,
    };
    *source <= bits_max && address.len() == usize::from(*source).div_ceil(8)
}

fn subnet_bytes(option: &EdnsOption) -> Option<Vec<u8>> {
    let EdnsOption::Subnet(subnet) = option else { return None };
    subnet.to_bytes().ok().filter(|data| is_subnet(data))
}

/// The address and alias records in another server's answer.
pub(crate) fn records_of(message: &[u8]) -> Vec<Record> {
    let Ok(message) = Message::from_vec(message) else { return Vec::new() };
    let usable = message.answers.iter().filter_map(|record| {
        let data = match &record.data {
            RData::A(ip) => Data::A(ip.0),
            RData::AAAA(ip) => Data::Aaaa(ip.0),
            RData::CNAME(name) => Data::Cname(Name::from_labels(name.0.iter())?),
            _ => return None,
        };
        Some(Record { owner: Owner::Name(Name::from_labels(record.name.iter())?), ttl: record.ttl, data })
    });
    usable.collect()
}
