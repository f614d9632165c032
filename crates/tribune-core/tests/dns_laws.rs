//! What holds for every answer, whatever the catalog and whoever asks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tribune_core::dns::{
    Depends, Edns, Kind, Name, Plan, Prepared, Question, Request, Transport, Zone, needs, plan,
};
use tribune_core::{
    Authority, Command, Datacenter, Index, InstanceId, Node, NodeName, Pairs, Registration, ServiceInstance,
    ServiceName, State, Weights,
};

#[derive(Debug, Clone)]
struct Client {
    payload: Option<u16>,
    subnet: bool,
    tcp: bool,
    salt: u64,
}

fn clients() -> impl Strategy<Value = Client> {
    let payload =
        proptest::option::of(prop_oneof![Just(0u16), Just(512), Just(1232), Just(65_535), any::<u16>()]);
    (payload, any::<bool>(), any::<bool>(), any::<u64>()).prop_map(|(payload, subnet, tcp, salt)| Client {
        payload,
        subnet,
        tcp,
        salt,
    })
}

fn states() -> impl Strategy<Value = State> {
    let address = prop_oneof![
        Just(String::new()),
        any::<[u8; 4]>().prop_map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
        any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from_bits(bits).to_string()),
        Just("web.service.consul".to_owned()),
        Just("db.service.consul".to_owned()),
        Just("www.example.com".to_owned()),
        "[a-z.=`é ]{1,300}",
    ];
    let instance =
        ("[a-zA-Z0-9_.-]{1,70}", address.clone(), address, "(web|db|consul)", "[ -~]{0,400}", any::<u16>());
    proptest::collection::vec(instance, 0..40).prop_map(|instances| {
        let mut state = State::default();
        for (serial, (node, node_address, address, service, meta, port)) in instances.into_iter().enumerate()
        {
            let registration = Registration {
                node: Node {
                    name: NodeName::new(node).unwrap(),
                    id: Default::default(),
                    address: node_address.into(),
                    tagged_addresses: Pairs::default(),
                    meta: [("key".into(), meta.into())].into_iter().collect(),
                },
                skip_node_update: false,
                service: Some(ServiceInstance {
                    id: InstanceId::new(format!("i{serial}")).unwrap(),
                    name: ServiceName::new(service).unwrap(),
                    tags: Box::default(),
                    address: address.into(),
                    tagged_addresses: Pairs::default(),
                    meta: Pairs::default(),
                    port,
                    socket_path: Default::default(),
                    weights: Weights::default(),
                    enable_tag_override: false,
                    connect_native: false,
                }),
                checks: Vec::new(),
            };
            state.apply(Index(serial as u64 + 1), &Command::Register(Box::new(registration)));
        }
        state
    })
}

fn questions() -> impl Strategy<Value = Question> {
    let names = prop_oneof![
        Just("web.service.consul"),
        Just("db.service.consul"),
        Just("_web._tcp.service.consul"),
        Just("consul"),
        Just("nope.service.consul"),
        Just("1.0.0.10.in-addr.arpa"),
        Just("7f000001.addr.consul"),
    ];
    let kinds = prop_oneof![
        Just(Kind::A),
        Just(Kind::AAAA),
        Just(Kind::ANY),
        Just(Kind::SRV),
        Just(Kind::TXT),
        Just(Kind::SOA),
        Just(Kind::NS),
        Just(Kind::PTR),
        any::<u16>().prop_map(Kind),
    ];
    (names, kinds).prop_map(|(name, kind)| Question { name: Name::parse(name).unwrap(), kind })
}

fn zones() -> impl Strategy<Value = Zone> {
    (any::<bool>(), 1..20usize, 0..5usize, any::<bool>()).prop_map(|(truncate, limit, a_records, in_full)| {
        let mut zone = Zone::new(Name::parse("consul").unwrap(), Datacenter::new("dc1").unwrap());
        zone.enable_truncate = truncate;
        zone.udp_answer_limit = limit;
        zone.a_record_limit = a_records;
        zone.disable_compression = in_full;
        zone
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// An answer fits what the client can take, its counts are true, and it never pretends that there is nothing
    /// where there is something.
    #[test]
    fn every_answer_fits_its_client(state in states(), question in questions(), zone in zones(), client in clients()) {
        let authority = Authority::unrestricted();
        let Plan::Answer(draft) = plan(&question, state.view(&authority), &zone) else { return Ok(()) };
        let prepared = Prepared::from(&draft);
        let mut asked = question.name.as_wire().to_vec();
        asked.extend_from_slice(&question.kind.0.to_be_bytes());
        asked.extend_from_slice(&[0, 1]);
        let subnet = client.subnet.then_some(&[0, 1, 32, 0, 10, 1, 1, 1][..]);
        let request = Request {
            id: 1,
            opcode: 0,
            recursion_desired: false,
            checking_disabled: false,
            question: &asked,
            transport: if client.tcp { Transport::Tcp } else { Transport::Udp },
            edns: client.payload.map(|payload_bytes| Edns { payload_bytes, subnet }),
            recursion_available: false,
        };
        let answer = prepared.render(request, &zone, client.salt);
        let mut message = Vec::new();
        answer.write(0, &mut message);

        let most = match client.tcp {
            true => 65_535,
            false => usize::from(client.payload.unwrap_or(0)).max(512),
        };
        prop_assert!(message.len() <= most, "{} bytes for {most}", message.len());
        let truncated = message[2] & 2 != 0;
        if answer.dropped() > 0 {
            let empty = message[6..8] == [0, 0] && message[8..10] == [0, 0];
            prop_assert_eq!(truncated, zone.enable_truncate || empty);
        }
        let counted: usize = (0..4).map(|at| usize::from(message[4 + 2 * at]) << 8 | usize::from(message[5 + 2 * at])).sum();
        prop_assert_eq!(records_in(&message), Some(counted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The slice that a question is said to need is enough to answer it, unless an alias leads to something else.
    #[test]
    fn what_is_needed_is_enough(state in states(), question in questions(), zone in zones()) {
        let authority = Authority::unrestricted();
        let Plan::Answer(whole) = plan(&question, state.view(&authority), &zone) else { return Ok(()) };
        let needed = needs(&question, &zone);
        let records = needed.as_ref().map(|topic| state.slice(topic));
        let slice = records.map_or_else(State::default, |records| State::from_records(records).unwrap());
        match &whole.depends {
            Depends::Topics(topics) if topics.iter().all(|(topic, _)| Some(topic) == needed.as_ref()) => {
                prop_assert_eq!(plan(&question, slice.view(&authority), &zone), Plan::Answer(whole));
            }
            _ => {}
        }
    }
}

/// How many questions and records fill the message to its last byte.
fn records_in(message: &[u8]) -> Option<usize> {
    let (mut at, mut count) = (12, 0);
    while at < message.len() {
        at = after_name(message, at)?;
        at += 4;
        if count > 0 {
            at += 6 + usize::from(u16::from_be_bytes([*message.get(at + 4)?, *message.get(at + 5)?]));
        }
        count += 1;
    }
    (at == message.len()).then_some(count)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            _ => {
                let target = usize::from(message[at] & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                return if target < at { after_name(message, target).map(|_| at + 2) } else { None };
            }
        }
    }
}
