//! Resource records in our own words.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::Name;

/// The type of a record or question, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// IPv4 address.
    pub const A: Self = Self(1);
    /// Name server.
    pub const NS: Self = Self(2);
    /// Another name for the same thing.
    pub const CNAME: Self = Self(5);
    /// Start of authority.
    pub const SOA: Self = Self(6);
    /// Name of an address.
    pub const PTR: Self = Self(12);
    /// Text.
    pub const TXT: Self = Self(16);
    /// IPv6 address.
    pub const AAAA: Self = Self(28);
    /// Where a service is.
    pub const SRV: Self = Self(33);
    /// Incremental zone transfer; not offered.
    pub const IXFR: Self = Self(251);
    /// Zone transfer; not offered.
    pub const AXFR: Self = Self(252);
    /// Whatever there is.
    pub const ANY: Self = Self(255);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::A => "A",
            Self::NS => "NS",
            Self::CNAME => "CNAME",
            Self::SOA => "SOA",
            Self::PTR => "PTR",
            Self::TXT => "TXT",
            Self::AAAA => "AAAA",
            Self::SRV => "SRV",
            Self::IXFR => "IXFR",
            Self::AXFR => "AXFR",
            Self::ANY => "ANY",
            Self(other) => return write!(f, "TYPE{other}"),
        };
        f.write_str(name)
    }
}

/// A record without its class, which is always IN.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Whose record it is.
    pub owner: Owner,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// The name a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The name in the question, in the letter case it was sent in.
    Question,
    /// Another name.
    Name(Name),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for the owner.
    Cname(Name),
    /// Name server of the zone.
    Ns(Name),
    /// Name of an address.
    Ptr(Name),
    /// Where an instance of a service is.
    Srv {
        /// Always 1: instances are chosen by weight only.
        priority: u16,
        /// Share of the traffic relative to the others.
        weight: u16,
        /// Port.
        port: u16,
        /// Name whose address records are sent along.
        target: Name,
    },
    /// Text of any length; cut into pieces of 255 bytes on the wire.
    Txt(Box<str>),
    /// Start of authority; its serial is the time at which it is sent.
    Soa(Box<Soa>),
}

/// The fixed part of a start of authority. Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Soa {
    /// Primary name server.
    pub primary: Name,
    /// Mailbox of whoever is responsible.
    pub mailbox: Name,
    /// How often a secondary looks for changes.
    pub refresh: u32,
    /// How soon it tries again.
    pub retry: u32,
    /// When it gives up.
    pub expire: u32,
    /// How long a negative answer may be kept.
    pub minimum: u32,
}

impl Data {
    /// The type of the record.
    pub fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::AAAA,
            Self::Cname(_) => Kind::CNAME,
            Self::Ns(_) => Kind::NS,
            Self::Ptr(_) => Kind::PTR,
            Self::Srv { .. } => Kind::SRV,
            Self::Txt(_) => Kind::TXT,
            Self::Soa(_) => Kind::SOA,
        }
    }

    /// The name under which more about this record is found.
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Cname(name) | Self::Ns(name) | Self::Srv { target: name, .. } => Some(name),
            Self::A(_) | Self::Aaaa(_) | Self::Ptr(_) | Self::Txt(_) | Self::Soa(_) => None,
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => write!(f, "{ip}"),
            Self::Aaaa(ip) => write!(f, "{ip}"),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => write!(f, "{name}"),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Txt(text) => write!(f, "{text:?}"),
            Self::Soa(soa) => {
                let Soa { primary, mailbox, refresh, retry, expire, minimum } = &**soa;
                write!(f, "{primary} {mailbox} <now> {refresh} {retry} {expire} {minimum}")
            }
        }
    }
}

/// How a question was answered, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Answered, perhaps with nothing of the type asked for.
    NoError = 0,
    /// The question could not be read.
    FormErr = 1,
    /// We know where the answer is and could not get it.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// We do not do that.
    NotImp = 4,
    /// We do not do that for this client, or not for this name.
    Refused = 5,
    /// The question uses a version of EDNS that we do not know.
    BadVers = 16,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        })
    }
}
