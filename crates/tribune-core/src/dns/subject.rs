//! What a name inside our zone stands for: the grammar of `v1.web.service.dc2.consul` and its siblings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smol_str::SmolStr;

use super::record::Kind;
use crate::ids::Folded;
use crate::state::Topic;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The zone itself.
    Apex,
    /// The healthy instances of a service.
    Service {
        /// Its name, in the letter case of the question.
        name: SmolStr,
        /// Only instances that carry this tag.
        tag: Option<SmolStr>,
        /// Only instances that speak the service mesh's protocol.
        connect: bool,
    },
    /// A node by name or by the beginning of its id.
    Node(SmolStr),
    /// An address spelled out in the name.
    Address(IpAddr),
    /// A prepared query by id or name.
    Query(SmolStr),
    /// Well-formed, but of a kind that this registry keeps nothing of: ingress gateways, virtual addresses,
    /// workloads.
    Nothing,
}

impl Subject {
    /// The topic whose records answer questions about the subject; none when no record is needed.
    pub fn topic(&self) -> Option<Topic> {
        match self {
            Self::Service { name, .. } => Some(Topic::Service(Folded::new(name))),
            Self::Node(name) => Some(Topic::Node(Folded::new(name))),
            Self::Apex | Self::Address(_) | Self::Query(_) | Self::Nothing => None,
        }
    }
}

/// A subject and the datacenter it is to be looked up in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// What is asked about.
    pub subject: Subject,
    /// The datacenter named in the question, in lower case.
    pub datacenter: Option<SmolStr>,
}

/// Reads the labels to the left of the zone; `None` when they follow no form we know.
///
/// The rightmost keyword decides. An SRV question may leave the keyword out when a label begins with `_`.
pub(super) fn read(labels: &[&[u8]], kind: Kind) -> Option<Target> {
    let labels: Vec<&str> =
        labels.iter().map(|label| std::str::from_utf8(label)).collect::<Result<_, _>>().ok()?;
    if labels.is_empty() {
        return Some(Target { subject: Subject::Apex, datacenter: None });
    }
    for (at, label) in labels.iter().enumerate().rev() {
        let keyword = label.to_ascii_lowercase();
        if let Some(subject) = of_keyword(&keyword, &labels[..at]) {
            return Some(Target { subject: subject?, datacenter: datacenter(&labels[at + 1..])? });
        }
        if kind == Kind::SRV && label.starts_with('_') {
            let subject = service(&labels[..=at], false)?;
            return Some(Target { subject, datacenter: datacenter(&labels[at + 1..])? });
        }
    }
    None
}

/// `None` when it is no keyword; `Some(None)` when the labels before it do not fit it.
fn of_keyword(keyword: &str, before: &[&str]) -> Option<Option<Subject>> {
    Some(match keyword {
        "service" => service(before, false),
        "connect" => service(before, true),
        "node" => (!before.is_empty()).then(|| Subject::Node(before.join(".").into())),
        "addr" => address(before),
        "query" => query(before),
        "ingress" | "virtual" | "workload" => (!before.is_empty()).then_some(Subject::Nothing),
        _ => return None,
    })
}

fn service(before: &[&str], connect: bool) -> Option<Subject> {
    if let [name, tag] = before
        && let (Some(name), Some(tag)) = (name.strip_prefix('_'), tag.strip_prefix('_'))
    {
        let transport = tag.eq_ignore_ascii_case("tcp") || tag.eq_ignore_ascii_case("udp");
        let tag = (!transport).then(|| tag.into());
        return (!name.is_empty()).then(|| Subject::Service { name: name.into(), tag, connect });
    }
    let (name, tags) = before.split_last()?;
    let tag = (!tags.is_empty()).then(|| tags.join(".").into());
    Some(Subject::Service { name: (*name).into(), tag, connect })
}

/// A name may hold dots; in the form of RFC 2782 it has one label.
fn query(before: &[&str]) -> Option<Subject> {
    if let [name, transport] = before
        && let (Some(name), Some("tcp" | "udp")) =
            (name.strip_prefix('_'), transport.to_ascii_lowercase().strip_prefix('_'))
    {
        return (!name.is_empty()).then(|| Subject::Query(name.into()));
    }
    (!before.is_empty()).then(|| Subject::Query(before.join(".").into()))
}

fn address(before: &[&str]) -> Option<Subject> {
    let [hex] = before else { return None };
    let ip = match hex.len() {
        8 => IpAddr::V4(Ipv4Addr::from_bits(u32_from_hex(hex)?)),
        32 => IpAddr::V6(Ipv6Addr::from_bits(u128_from_hex(hex)?)),
        _ => return None,
    };
    Some(Subject::Address(ip))
}

/// Like `from_str_radix`, without accepting a sign.
fn u32_from_hex(hex: &str) -> Option<u32> {
    u32::try_from(u128_from_hex(hex)?).ok()
}

fn u128_from_hex(hex: &str) -> Option<u128> {
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok()
}

/// Nothing, `<dc>`, or pairs such as `<dc>.dc`. There is one partition and one namespace, called `default`, and
/// there are no peers.
fn datacenter(after: &[&str]) -> Option<Option<SmolStr>> {
    match after {
        [] => return Some(None),
        [dc] => return Some(Some(dc.to_ascii_lowercase().into())),
        _ if after.len() % 2 == 1 => return None,
        _ => {}
    }
    let mut datacenter = None;
    for pair in after.chunks(2) {
        let (value, key) = (pair[0], pair[1].to_ascii_lowercase());
        match key.as_str() {
            "dc" if datacenter.is_none() => datacenter = Some(value.to_ascii_lowercase().into()),
            "ap" | "ns" if value.eq_ignore_ascii_case("default") => {}
            _ => return None,
        }
    }
    Some(datacenter)
}

/// The node and address that a PTR question under `arpa.` asks for.
pub(super) fn reverse_address(labels: &[&[u8]]) -> Option<IpAddr> {
    let labels: Vec<&str> =
        labels.iter().map(|label| std::str::from_utf8(label)).collect::<Result<_, _>>().ok()?;
    let (family, digits) = labels.split_last()?;
    match family.to_ascii_lowercase().as_str() {
        "in-addr" => {
            let octets: [&str; 4] = digits.try_into().ok()?;
            let mut bytes = [0; 4];
            for (byte, text) in bytes.iter_mut().zip(octets.iter().rev()) {
                *byte = text.parse().ok()?;
            }
            Some(IpAddr::V4(bytes.into()))
        }
        "ip6" if digits.len() == 32 => {
            let one_digit = digits.iter().all(|digit| digit.len() == 1);
            let hex: String = digits.iter().rev().copied().collect();
            let bits = u128_from_hex(&hex).filter(|_| one_digit)?;
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, kind: Kind) -> Option<Target> {
        let labels: Vec<&[u8]> =
            text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes).collect();
        read(&labels, kind)
    }

    fn service(name: &str, tag: Option<&str>) -> Subject {
        Subject::Service { name: name.into(), tag: tag.map(Into::into), connect: false }
    }

    #[test]
    fn every_form_of_a_name() {
        let here = |text: &str, subject: Subject| {
            assert_eq!(read_text(text, Kind::A), Some(Target { subject, datacenter: None }), "{text}");
        };
        here("", Subject::Apex);
        here("web.service", service("web", None));
        here("v1.web.SERVICE", service("web", Some("v1")));
        here("a.b.web.service", service("web", Some("a.b")));
        here("_web._tcp.service", service("web", None));
        here("_web._udp.service", service("web", None));
        here("_web._v1.service", service("web", Some("v1")));
        here("db1.node", Subject::Node("db1".into()));
        here("a.node.node", Subject::Node("a.node".into()));
        here("7f000001.addr", Subject::Address([127, 0, 0, 1].into()));
        here("x.query", Subject::Query("x".into()));
        here("a.b.QUERY", Subject::Query("a.b".into()));
        here("_x._TCP.query", Subject::Query("x".into()));
        here("x.virtual", Subject::Nothing);
    }

    #[test]
    fn the_datacenter_follows_the_keyword() {
        for text in ["web.service.DC2", "web.service.dc2.dc", "web.service.default.ns.dc2.dc.default.ap"] {
            let expected = Target { subject: service("web", None), datacenter: Some("dc2".into()) };
            assert_eq!(read_text(text, Kind::A), Some(expected), "{text}");
        }
        for text in ["web.service.a.b", "web.service.p1.peer", "web.service.other.ns", "web.service.a.b.c"] {
            assert_eq!(read_text(text, Kind::A), None, "{text}");
        }
    }

    #[test]
    fn srv_questions_may_leave_the_keyword_out() {
        assert_eq!(read_text("_web._tcp", Kind::SRV).unwrap().subject, service("web", None));
        assert_eq!(read_text("_web._tcp.dc2", Kind::SRV).unwrap().datacenter, Some("dc2".into()));
        assert_eq!(read_text("_web._tcp", Kind::A), None);
    }

    #[test]
    fn what_fits_no_form_is_none() {
        for text in [
            "service",
            "node",
            "addr",
            "query",
            "web",
            "7f0001.addr",
            "7f00000g.addr",
            "+f000001.addr",
            "a.7f000001.addr",
        ] {
            assert_eq!(read_text(text, Kind::A), None, "{text}");
        }
    }

    #[test]
    fn reverse_names_become_addresses() {
        let of = |text: &str| reverse_address(&text.split('.').map(str::as_bytes).collect::<Vec<_>>());
        assert_eq!(of("5.1.1.10.in-addr"), Some([10, 1, 1, 5].into()));
        assert_eq!(of("256.1.1.10.in-addr"), None);
        assert_eq!(of("1.1.10.in-addr"), None);
        let v6 = format!("1.{}8.b.d.0.1.0.0.2.ip6", "0.".repeat(23));
        assert_eq!(of(&v6), Some("2001:db8::1".parse::<IpAddr>().unwrap()));
    }
}
