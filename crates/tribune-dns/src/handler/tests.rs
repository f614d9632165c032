//! Packets of every kind, without sockets.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use proptest::prelude::*;
use tribune_core::dns::Name;

use super::*;
use crate::source::NoOtherDatacenters;

struct Nothing(Arc<State>);

impl Source for Nothing {
    fn state(&self) -> Arc<State> {
        self.0.clone()
    }

    fn authority(&self) -> Arc<Authority> {
        Arc::new(Authority::unrestricted())
    }
}

fn handler() -> Handler {
    let zone = Zone::new(Name::parse("consul").unwrap(), Datacenter::new("dc1").unwrap());
    let source = Arc::new(Nothing(Arc::new(State::default())));
    Handler::new(source, Arc::new(NoOtherDatacenters), LiveConfig::new(Config::new(zone)), Vec::new())
}

fn cache() -> Cache {
    Cache::new(crate::cache::CONNECTION_BYTES_MAX)
}

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353);

fn answered(handler: &Handler, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match handler.answer(&handler.moment(), &mut cache(), packet, (PEER, transport), &mut out) {
        Next::Reply => Some(out),
        Next::Silence | Next::Errand(_) => None,
    }
}

/// A question with an EDNS record that holds a client subnet.
fn ordinary() -> Vec<u8> {
    let mut packet = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    packet.extend_from_slice(b"\x04node\x06consul\x00\x00\x01\x00\x01");
    packet.extend_from_slice(
        b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0b\x00\x08\x00\x07\x00\x01\x18\x00\x0a\x01\x01",
    );
    packet
}

fn packets() -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let edited = (edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(edits, cut, whole)| {
        let mut packet = ordinary();
        for (at, byte) in edits {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        let length = if whole { packet.len() } else { cut.index(packet.len()) };
        packet.truncate(length);
        packet
    });
    prop_oneof![edited, proptest::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes in: no panic, and an answer is one that can be read and fits.
    #[test]
    fn no_packet_does_harm(packet in packets(), tcp in any::<bool>()) {
        static HANDLER: std::sync::LazyLock<Handler> = std::sync::LazyLock::new(handler);
        let handler = &*HANDLER;
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Some(answer) = answered(handler, &packet, transport) {
            prop_assert_eq!(&answer[..2], &packet[..2]);
            prop_assert!(answer[2] & 0x80 != 0);
            if let Ok(query) = Query::read(&packet, PEER, transport) {
                let most = query.edns.as_ref().map_or(0, |edns| usize::from(edns.payload_bytes)).max(512);
                prop_assert!(tcp || answer.len() <= most);
            }
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }

    /// What is read in place is what hickory reads.
    #[test]
    fn both_readers_agree(packet in packets()) {
        let Some(header) = packet.first_chunk() else { return Ok(()) };
        let Some(quick) = Query::read_ordinary(&packet, header) else { return Ok(()) };
        if let Some(thorough) = Query::read_any(&packet, header, PEER, Transport::Udp) {
            prop_assert_eq!(quick.to_question(), thorough.to_question());
            prop_assert_eq!(&quick.question, &thorough.question);
            let versions = |query: &Query<'_>| query.edns.as_ref().map(|edns| (edns.version, edns.payload_bytes));
            prop_assert_eq!(versions(&quick), versions(&thorough));
        }
    }
}

#[test]
fn an_ordinary_question_is_read_in_place() {
    let packet = ordinary();
    let query = Query::read_ordinary(&packet, packet.first_chunk().unwrap()).unwrap();
    let edns = query.edns.as_ref().unwrap();
    assert_eq!((edns.version, edns.payload_bytes), (0, 1232));
    assert_eq!(edns.subnet.as_deref(), Some(&[0, 1, 24, 0, 10, 1, 1][..]));
    assert!(query.recursion_desired && !query.checking_disabled);
}

/// A question about `name`, of type A.
fn foreign(name: &str) -> Vec<u8> {
    let mut packet = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    packet.extend_from_slice(Name::parse(name).unwrap().as_wire());
    packet.extend_from_slice(&[0, 1, 0, 1]);
    packet
}

#[test]
fn beyond_the_errands_that_may_wait_questions_fail_at_once() {
    let handler = handler();
    let recursors = vec![SocketAddr::from(([127, 0, 0, 1], 53))];
    handler.config.replace(Config { recursors, ..Config::clone(&handler.config.load()) });
    let packet = foreign("example.org");
    let (moment, mut cache, mut out) = (handler.moment(), cache(), Vec::new());
    let mut ask = || {
        out.clear();
        match handler.answer(&moment, &mut cache, &packet, (PEER, Transport::Udp), &mut out) {
            Next::Errand(errand) => Ok(errand),
            Next::Reply => Err(out[3] & 0x0f),
            Next::Silence => Err(0),
        }
    };
    let mut waiting: Vec<_> = (0..ERRANDS_MAX).map(|_| ask().ok().unwrap()).collect();
    assert_eq!(ask().err(), Some(2), "SERVFAIL");
    waiting.pop();
    assert!(ask().is_ok());
}
