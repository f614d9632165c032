//! A reader of DNS messages that shares nothing with the writer under test.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use tribune_core::dns::Kind;

use super::{WELL_FORMED, kinds};

pub(crate) fn kind(text: &str) -> Kind {
    let known = kinds().into_iter().find(|(name, _)| *name == text);
    known.map_or_else(
        || Kind(text.strip_prefix("TYPE").expect(WELL_FORMED).parse().expect(WELL_FORMED)),
        |(_, kind)| kind,
    )
}

/// The message in the manner of dig.
pub(crate) fn print(message: &[u8]) -> String {
    let mut reader = Reader { message, at: 12 };
    let mut out = format!("{}\n", header(message));
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    for _ in 0..count(4) {
        let _ = (reader.name(), reader.u16(), reader.u16());
    }
    for (section, at) in [("answer", 6), ("authority", 8), ("additional", 10)] {
        for _ in 0..count(at) {
            writeln!(out, "{section:10} {}", reader.record()).expect(WELL_FORMED);
        }
    }
    assert_eq!(reader.at, message.len(), "bytes after the last record");
    out
}

/// Header and counts only.
pub(crate) fn summary(message: &[u8]) -> String {
    print(message);
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    format!("{}, {} answers, {} additional", header(message), count(6), count(10))
}

fn header(message: &[u8]) -> String {
    let code =
        ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"][usize::from(message[3] & 15)];
    let flags = [(2, 4, " aa"), (2, 2, " tc"), (2, 1, " rd"), (3, 0x80, " ra")];
    let set = flags.into_iter().filter(|(at, bit, _)| message[*at] & bit != 0).map(|(_, _, name)| name);
    format!("{code}{}", set.collect::<String>())
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u16(&mut self) -> u16 {
        self.at += 2;
        u16::from_be_bytes([self.message[self.at - 2], self.message[self.at - 1]])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn bytes(&mut self, length: usize) -> &[u8] {
        self.at += length;
        &self.message[self.at - length..self.at]
    }

    fn name(&mut self) -> String {
        let (mut at, mut end, mut name) = (self.at, None, String::new());
        loop {
            match self.message[at] {
                0 => break,
                high if high >= 0xc0 => {
                    end.get_or_insert(at + 2);
                    let target = usize::from(high & 0x3f) << 8 | usize::from(self.message[at + 1]);
                    assert!(target < at, "a pointer that does not point back");
                    at = target;
                }
                length => {
                    let label = &self.message[at + 1..=at + usize::from(length)];
                    name.push_str(&String::from_utf8_lossy(label));
                    name.push('.');
                    at += 1 + usize::from(length);
                }
            }
        }
        self.at = end.unwrap_or(at + 1);
        if name.is_empty() { ".".to_owned() } else { name }
    }

    fn record(&mut self) -> String {
        let owner = self.name();
        let (kind, class, ttl, length) = (Kind(self.u16()), self.u16(), self.u32(), usize::from(self.u16()));
        let end = self.at + length;
        if kind == Kind(41) {
            let options = self.bytes(length).to_vec();
            return format!("OPT {class} bytes, {ttl:08x}, options {options:?}");
        }
        let data = match kind {
            Kind::A => Ipv4Addr::from_bits(self.u32()).to_string(),
            Kind::AAAA => {
                let octets: [u8; 16] = self.bytes(16).try_into().expect(WELL_FORMED);
                Ipv6Addr::from(octets).to_string()
            }
            Kind::CNAME | Kind::NS | Kind::PTR => self.name(),
            Kind::SRV => format!("{} {} {} {}", self.u16(), self.u16(), self.u16(), self.name()),
            Kind::TXT => self.texts(end),
            Kind::SOA => {
                let names = format!("{} {}", self.name(), self.name());
                let numbers: Vec<String> = (0..5).map(|_| self.u32().to_string()).collect();
                format!("{names} {}", numbers.join(" "))
            }
            other => panic!("a record of type {other}"),
        };
        assert_eq!(self.at, end, "the length of a record's data");
        assert_eq!(class, 1);
        format!("{owner} {ttl} {kind} {data}")
    }

    fn texts(&mut self, end: usize) -> String {
        let mut texts = Vec::new();
        while self.at < end {
            let length = usize::from(self.bytes(1)[0]);
            texts.push(format!("{:?}", String::from_utf8_lossy(self.bytes(length))));
        }
        texts.join(" ")
    }
}
