//! Packets of every kind, without sockets.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use proptest::prelude::*;
use tribune_core::dns::Name;

use super::*;
use crate::source::{NoOtherDatacenters, Source};

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
    let source = Own::Held(Arc::new(Nothing(Arc::new(State::default()))));
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
            let versions = |query: &Query<'_>| query.edns.as_ref().map(|edns| (edns.version, edns.payload_bytes.max(512)));
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

/// Servers that know one instance of `web`, and whether that has been asked for already.
struct Servers {
    state: Arc<State>,
    at_hand: std::sync::atomic::AtomicBool,
    are_there: bool,
}

impl Servers {
    fn new(at_hand: bool, are_there: bool) -> Arc<Self> {
        use tribune_core::{Command, Index, InstanceId, Node, NodeName, Pairs, Registration};
        use tribune_core::{ServiceInstance, ServiceName, Weights};
        let registration = Registration {
            node: Node {
                name: NodeName::new("n1").unwrap(),
                id: "1234".into(),
                address: "10.0.0.1".into(),
                tagged_addresses: [("wan".into(), "198.51.100.1".into())].into_iter().collect(),
                meta: Pairs::default(),
            },
            skip_node_update: false,
            service: Some(ServiceInstance {
                id: InstanceId::new("web").unwrap(),
                name: ServiceName::new("web").unwrap(),
                tags: Box::default(),
                address: Default::default(),
                tagged_addresses: Pairs::default(),
                meta: Pairs::default(),
                port: 80,
                socket_path: Default::default(),
                weights: Weights::default(),
                enable_tag_override: false,
                connect_native: false,
            }),
            checks: Vec::new(),
        };
        let mut state = State::default();
        state.apply(Index(1), &Command::Register(Box::new(registration)));
        Arc::new(Self { state: Arc::new(state), at_hand: at_hand.into(), are_there })
    }

    fn slice(&self, topic: &Topic) -> Arc<State> {
        Arc::new(State::from_records(self.state.slice(topic)).unwrap())
    }
}

#[async_trait::async_trait]
impl crate::source::TopicLookup for Servers {
    fn peek(&self, topic: &Topic) -> Option<Arc<State>> {
        self.at_hand.load(std::sync::atomic::Ordering::Relaxed).then(|| self.slice(topic))
    }

    async fn fetch(&self, topic: &Topic) -> Result<Arc<State>, RemoteError> {
        if self.are_there { Ok(self.slice(topic)) } else { Err(RemoteError::Unreachable) }
    }

    fn authority(&self) -> Arc<Authority> {
        Arc::new(Authority::unrestricted())
    }
}

/// In every datacenter there are the same queries: `here` finds `web` where it is asked for, `there` in dc3, and `lost`
/// cannot be executed.
#[async_trait::async_trait]
impl RemoteLookup for Servers {
    fn peek(&self, datacenter: &Datacenter, subject: &Subject) -> Option<Found> {
        let at_hand = self.at_hand.load(std::sync::atomic::Ordering::Relaxed);
        at_hand.then(|| self.find(datacenter, subject).ok()).flatten()
    }

    async fn fetch(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Found, RemoteError> {
        self.find(datacenter, subject)
    }
}

impl Servers {
    fn find(&self, datacenter: &Datacenter, subject: &Subject) -> Result<Found, RemoteError> {
        let Subject::Query(name) = subject else {
            return Ok(Found::records(datacenter, self.slice(&subject.topic().unwrap())));
        };
        let web = self.slice(&Topic::Service(tribune_core::Folded::new("web")));
        let service = tribune_core::query::ServiceQuery { service: "web".into(), ..Default::default() };
        let query = Some(Arc::new(tribune_core::query::Query { service, ..Default::default() }));
        let there = Datacenter::new("dc3").unwrap();
        match name.as_str() {
            "here" => Ok(Found { query, ..Found::records(datacenter, web) }),
            "there" => Ok(Found { query, ..Found::records(&there, web) }),
            "lost" => Err(RemoteError::Unreachable),
            _ => Ok(Found::records(datacenter, Arc::default())),
        }
    }
}

/// The code of the answer and its addresses, and whether somebody had to be asked.
async fn resolve(handler: &Handler, name: &str) -> (u8, Vec<String>, bool) {
    let packet = foreign(name);
    let (moment, mut out) = (handler.moment(), Vec::new());
    let next = handler.answer(&moment, &mut cache(), &packet, (PEER, Transport::Udp), &mut out);
    let asked = matches!(next, Next::Errand(_));
    if let Next::Errand(errand) = next {
        out = handler.run(errand).await.unwrap();
    }
    let message = Message::from_vec(&out).unwrap();
    let addresses = message.answers.iter().map(|record| record.data.to_string()).collect();
    (out[3] & 0x0f, addresses, asked)
}

fn agent(at_hand: bool, are_there: bool) -> Handler {
    let zone = Zone::new(Name::parse("consul").unwrap(), Datacenter::new("dc1").unwrap());
    let config = Config { translate_wan_addrs: true, ..Config::new(zone) };
    let servers = Servers::new(at_hand, are_there);
    Handler::new(Own::Asked(servers.clone()), servers, LiveConfig::new(config), Vec::new())
}

#[tokio::test]
async fn without_a_catalog_servers_are_asked_unless_their_answer_is_at_hand() {
    let home = "10.0.0.1".to_owned();
    for (at_hand, asked) in [(true, false), (false, true)] {
        let agent = agent(at_hand, true);
        for name in ["web.service.consul", "web.service.dc1.consul", "n1.node.consul", "12.node.consul"] {
            assert_eq!(resolve(&agent, name).await, (0, vec![home.clone()], asked), "{name}");
        }
        assert_eq!(resolve(&agent, "db.service.consul").await, (3, Vec::new(), asked));
        assert_eq!(resolve(&agent, "7f000001.addr.consul").await, (0, vec!["127.0.0.1".to_owned()], false));
        assert_eq!(resolve(&agent, "nonsense.consul").await, (3, Vec::new(), false));
        assert_eq!(resolve(&agent, "example.org").await, (5, Vec::new(), false));
    }
    let lonely = agent(false, false);
    assert_eq!(resolve(&lonely, "web.service.consul").await, (2, Vec::new(), true));
    assert_eq!(resolve(&lonely, "7f000001.addr.consul").await, (0, vec!["127.0.0.1".to_owned()], false));
}

#[tokio::test]
async fn answers_about_other_datacenters_are_at_hand_too_and_give_wan_addresses() {
    for (at_hand, asked) in [(true, false), (false, true)] {
        let agent = agent(at_hand, true);
        let wan = vec!["198.51.100.1".to_owned()];
        for name in ["web.service.dc2.consul", "n1.node.dc2.consul"] {
            assert_eq!(resolve(&agent, name).await, (0, wan.clone(), asked), "{name}");
        }
        assert_eq!(resolve(&agent, "db.service.dc2.consul").await, (3, Vec::new(), asked));
    }
    // With one cache for all, what is kept of one datacenter is not given for another.
    let (agent, mut cache) = (agent(true, true), cache());
    let mut ask = |name: &str| {
        let mut out = Vec::new();
        let moment = agent.moment();
        agent.answer(&moment, &mut cache, &foreign(name), (PEER, Transport::Udp), &mut out);
        Message::from_vec(&out).unwrap().answers[0].data.to_string()
    };
    for _ in 0..3 {
        assert_eq!(ask("web.service.consul"), "10.0.0.1");
        assert_eq!(ask("web.service.dc2.consul"), "198.51.100.1");
        assert_eq!(ask("web.service.dc1.consul"), "10.0.0.1");
    }
}

#[tokio::test]
async fn without_a_catalog_servers_execute_prepared_queries() {
    let (home, wan) = (vec!["10.0.0.1".to_owned()], vec!["198.51.100.1".to_owned()]);
    for (at_hand, asked) in [(true, false), (false, true)] {
        let agent = agent(at_hand, true);
        for (name, found) in [("here", &home), ("there", &wan), ("here.query.dc2", &wan)] {
            let name =
                if name.contains('.') { format!("{name}.consul") } else { format!("{name}.query.consul") };
            assert_eq!(resolve(&agent, &name).await, (0, found.clone(), asked), "{name}");
        }
        assert_eq!(resolve(&agent, "there.query.dc1.consul").await, (0, wan.clone(), asked));
        assert_eq!(resolve(&agent, "absent.query.consul").await, (3, Vec::new(), asked));
        // Better no answer than one that says there is none.
        assert_eq!(resolve(&agent, "lost.query.consul").await, (2, Vec::new(), true));
    }
}

#[tokio::test]
async fn what_is_found_for_a_query_is_not_kept_beyond_the_question() {
    let (agent, mut cache) = (agent(true, true), cache());
    let mut ask = |name: &str| {
        let mut out = Vec::new();
        agent.answer(&agent.moment(), &mut cache, &foreign(name), (PEER, Transport::Udp), &mut out);
        Message::from_vec(&out).unwrap().answers[0].data.to_string()
    };
    for _ in 0..2 {
        assert_eq!(ask("here.query.consul"), "10.0.0.1");
        assert_eq!(ask("there.query.consul"), "198.51.100.1");
        assert_eq!(ask("web.service.dc2.consul"), "198.51.100.1");
    }
}

/// A server of dc1 that has the query `q` for the absent service `web`.
fn with_query(remote: Arc<dyn RemoteLookup>, datacenters: Vec<String>) -> Handler {
    use tribune_core::query::{Query, ServiceQuery};
    let service = ServiceQuery { service: "web".into(), datacenters, ..ServiceQuery::default() };
    let query = Query { id: "1".into(), name: "there".into(), service, ..Query::default() };
    let mut state = State::default();
    let command = tribune_core::Command::PutQuery { query: Box::new(query), is_new: true };
    state.apply(tribune_core::Index(1), &command);
    let source = Own::Held(Arc::new(Nothing(Arc::new(state))));
    Handler::new(source, remote, handler().config, Vec::new())
}

#[tokio::test]
async fn a_server_asks_elsewhere_for_what_a_query_does_not_find_here() {
    for (at_hand, asked) in [(true, false), (false, true)] {
        let fails_over = with_query(Servers::new(at_hand, true), vec!["dc3".to_owned()]);
        let home = vec!["10.0.0.1".to_owned()];
        assert_eq!(resolve(&fails_over, "there.query.consul").await, (0, home, asked));
    }
    let stays = with_query(Servers::new(true, true), Vec::new());
    assert_eq!(resolve(&stays, "there.query.consul").await, (3, Vec::new(), false));
    let alone = with_query(Arc::new(NoOtherDatacenters), vec!["dc3".to_owned()]);
    assert_eq!(resolve(&alone, "there.query.consul").await, (3, Vec::new(), true));
}
