//! The steps of DNS transcripts.
//!
//! `register node=n addr=a [lan_ipv4=…] [lan_ipv6=…] [wan=…] [wan_ipv4=…] [wan_ipv6=…] [meta=k:v,…] [service=s instance=i at=address port=p tags=a,b
//! weights=passing/warning native lan_ipv4_of_service=… lan_ipv6_of_service=… wan_of_service=… wan_port=…
//! wan_ipv6_of_service=…] [check=status]`, `zone key=value…`,
//! `query name=q [template=regexp] service=s [ttl=seconds] [near=node] [tags=a,!b] [passing] [elsewhere=dc,…] [nearest=n]`,
//! `place node=n at=seconds`, `found dc name type [query=q]` (the answer from what the slice of `dc`, which is this
//! state, holds for the question),
//! `ask name type [edns=bytes] [subnet] [tcp] [salt=n] [sizes]`, and `supply host address…` before an `ask` whose
//! answer leads outside. Answers are printed from their wire form, as a client reads them.

mod wire;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use tribune_core::coordinate::{Coordinate, Placed};
use tribune_core::dns::{
    Data, Edns, Kind, Name, Owner, Plan, Prepared, Question, Record, Request, Transport, Zone, answer_found,
    needs, plan,
};
use tribune_core::query::{Query, ServiceQuery, TemplateSpec};
use tribune_core::{
    Authority, Check, CheckId, Command, Datacenter, Index, InstanceId, Node, NodeName, Pairs, Registration,
    ServiceAddress, ServiceInstance, ServiceName, State, Status, Weights,
};

use crate::transcript::Script;

const WELL_FORMED: &str = "a well-formed transcript";
/// The time at which every answer is written.
const NOW: u32 = 1_700_000_000;

pub(crate) struct Dns {
    state: State,
    next: u64,
    zone: Zone,
    outside: Vec<Record>,
}

impl Default for Dns {
    fn default() -> Self {
        let domain = Name::parse("consul").expect(WELL_FORMED);
        let zone = Zone::new(domain, Datacenter::new("dc1").expect(WELL_FORMED));
        Self { state: State::default(), next: 0, zone, outside: Vec::new() }
    }
}

impl Script for Dns {
    fn step(&mut self, words: &str) -> String {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        match verb {
            "register" => {
                self.next += 1;
                self.state.apply(Index(self.next), &register(rest));
                String::new()
            }
            "query" => {
                self.next += 1;
                self.state.apply(Index(self.next), &query(rest));
                String::new()
            }
            "place" => {
                self.next += 1;
                self.state.apply(Index(self.next), &place(rest));
                String::new()
            }
            "zone" => {
                rest.split(' ').for_each(|setting| self.set(setting));
                String::new()
            }
            "supply" => {
                self.outside = supply(rest);
                String::new()
            }
            "ask" => self.ask(rest),
            "found" => self.found(rest),
            other => panic!("no such step: {other}"),
        }
    }
}

impl Dns {
    fn set(&mut self, setting: &str) {
        let (key, value) = setting.split_once('=').expect(WELL_FORMED);
        let zone = &mut self.zone;
        match key {
            "only_passing" => zone.only_passing = value == "true",
            "node_ttl" => zone.node_ttl = number(value),
            "service_ttl" => {
                let pairs = value.split(',').map(|pair| pair.split_once(':').expect(WELL_FORMED));
                zone.service_ttl = pairs.map(|(name, ttl)| (name, number(ttl))).collect();
            }
            "enable_truncate" => zone.enable_truncate = value == "true",
            "udp_answer_limit" => zone.udp_answer_limit = number(value),
            "a_record_limit" => zone.a_record_limit = number(value),
            "meta" => zone.additional_node_meta_txt = value == "true",
            "disable_compression" => zone.disable_compression = value == "true",
            "wan" => zone.prefers_wan = value == "true",
            "min_ttl" => zone.soa.min_ttl = number(value),
            "alt_domain" => zone.alt_domain = Name::parse(value),
            "dc" => zone.datacenter = Datacenter::new(value).expect(WELL_FORMED),
            other => panic!("no such setting: {other}"),
        }
    }

    fn ask(&self, words: &str) -> String {
        let mut parts = words.split(' ');
        let name = Name::parse(parts.next().expect(WELL_FORMED)).expect(WELL_FORMED);
        let kind = wire::kind(parts.next().expect(WELL_FORMED));
        let question = Question { name, kind };
        let authority = Authority::unrestricted();
        match plan(&question, self.state.view(&authority), &self.zone) {
            Plan::Answer(mut draft) => {
                for host in draft.outside_names() {
                    let known =
                        self.outside.iter().filter(|record| record.owner == Owner::Name(host.clone()));
                    let found: Vec<Record> = known.cloned().collect();
                    draft.supply(&host, &found);
                }
                self.render(&question, &Prepared::from(&draft), words)
            }
            Plan::Unmapped(draft) => {
                format!("recursors, else {}", self.render(&question, &Prepared::from(&draft), words))
            }
            Plan::Elsewhere => "recursors, else REFUSED".to_owned(),
            Plan::NotImplemented => "NOTIMP".to_owned(),
            Plan::Ask { datacenter, subject, .. } => format!("ask {datacenter} for {subject:?}"),
        }
    }

    /// What is answered from a slice of another datacenter, for which the state here is taken.
    fn found(&self, words: &str) -> String {
        let mut parts = words.split(' ');
        let datacenter = Datacenter::new(parts.next().expect(WELL_FORMED)).expect(WELL_FORMED);
        let name = Name::parse(parts.next().expect(WELL_FORMED)).expect(WELL_FORMED);
        let question = Question { name, kind: wire::kind(parts.next().expect(WELL_FORMED)) };
        let zone = Zone { datacenter, ..self.zone.clone() };
        let query = word(words, "query").map(|name| self.state.find_query(name).expect(WELL_FORMED).value);
        let records = match &query {
            Some(query) => self.state.query_slice(&query.service),
            None => self.state.slice(&needs(&question, &zone).expect(WELL_FORMED)),
        };
        let slice = State::from_records(records).expect(WELL_FORMED);
        let authority = Authority::unrestricted();
        let draft = answer_found(&question, query.as_ref(), slice.view(&authority), &zone);
        self.render(&question, &Prepared::from(&draft.expect(WELL_FORMED)), words)
    }

    fn render(&self, question: &Question, prepared: &Prepared, words: &str) -> String {
        let flag = |name: &str| words.split(' ').any(|word| word == name);
        let mut asked = question.name.as_wire().to_vec();
        asked.extend_from_slice(&question.kind.0.to_be_bytes());
        asked.extend_from_slice(&1u16.to_be_bytes());
        let subnet = flag("subnet").then_some(&[0, 1, 24, 24, 10, 1, 1][..]);
        let edns = word(words, "edns").map(|size| Edns { payload_bytes: number(size), subnet });
        let request = Request {
            id: 7,
            opcode: 0,
            recursion_desired: true,
            checking_disabled: false,
            question: &asked,
            transport: if flag("tcp") { Transport::Tcp } else { Transport::Udp },
            edns,
            recursion_available: false,
        };
        let answer = prepared.render(request, &self.zone, word(words, "salt").map_or(0, number));
        let mut out = Vec::new();
        answer.write(NOW, &mut out);
        let mut text = String::new();
        if flag("sizes") {
            let dropped = answer.dropped();
            writeln!(text, "{} bytes, {dropped} left out", out.len()).expect(WELL_FORMED);
            text.push_str(&wire::summary(&out));
        } else {
            text.push_str(&wire::print(&out));
        }
        text
    }
}

fn word<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().ok().expect(WELL_FORMED)
}

fn query(words: &str) -> Command {
    let text = |key| word(words, key).unwrap_or_default();
    let service = ServiceQuery {
        service: text("service").to_owned(),
        near: text("near").to_owned(),
        tags: word(words, "tags")
            .map(|tags| tags.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        datacenters: word(words, "elsewhere")
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        nearest_n: word(words, "nearest").map_or(0, number),
        only_passing: words.split(' ').any(|word| word == "passing"),
        ..ServiceQuery::default()
    };
    let template = word(words, "template");
    let query = Query {
        id: format!("id-of-{}", text("name")).into(),
        name: text("name").into(),
        template: template
            .map(|regexp| TemplateSpec { regexp: regexp.to_owned(), ..TemplateSpec::default() }),
        service,
        dns_ttl: text("ttl").into(),
        dns_ttl_span: Duration::from_secs(word(words, "ttl").map_or(0, number)),
        ..Query::default()
    };
    Command::PutQuery { query: Box::new(query), is_new: true }
}

fn place(words: &str) -> Command {
    let node = NodeName::new(word(words, "node").expect(WELL_FORMED)).expect(WELL_FORMED);
    let mut coordinate = Coordinate::unknown();
    coordinate.vec[0] = word(words, "at").expect(WELL_FORMED).parse().expect(WELL_FORMED);
    Command::PutCoordinates(vec![Placed { node, coordinate }])
}

fn supply(words: &str) -> Vec<Record> {
    let mut words = words.split(' ');
    let host = Name::parse(words.next().expect(WELL_FORMED)).expect(WELL_FORMED);
    let data = words.map(|address| match address.parse().expect(WELL_FORMED) {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    });
    data.map(|data| Record { owner: Owner::Name(host.clone()), ttl: 99, data }).collect()
}

fn register(words: &str) -> Command {
    let node = Node {
        name: NodeName::new(word(words, "node").expect(WELL_FORMED)).expect(WELL_FORMED),
        id: word(words, "id").unwrap_or_default().into(),
        address: word(words, "addr").unwrap_or("10.0.0.1").into(),
        tagged_addresses: ["lan_ipv4", "lan_ipv6", "wan", "wan_ipv4", "wan_ipv6"]
            .into_iter()
            .filter_map(|tag| Some((tag.into(), word(words, tag)?.into())))
            .collect(),
        meta: word(words, "meta")
            .into_iter()
            .flat_map(|pairs| pairs.split(','))
            .map(|pair| pair.split_once(':').expect(WELL_FORMED))
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
    };
    let service = word(words, "service").map(|name| service(words, name));
    let service_id = service.as_ref().map(|service| service.id.clone());
    let check = word(words, "check").map(|status| Check {
        id: CheckId::new(service_id.as_ref().map_or("node", InstanceId::as_str)).expect(WELL_FORMED),
        name: "check".into(),
        status: match status {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            _ => Status::Critical,
        },
        notes: Default::default(),
        output: "".into(),
        service_id,
        kind: Default::default(),
        definition: None,
        interval: Default::default(),
        timeout: Default::default(),
    });
    let checks = check.into_iter().collect();
    Command::Register(Box::new(Registration { node, skip_node_update: false, service, checks }))
}

fn service(words: &str, name: &str) -> ServiceInstance {
    let tagged = [
        ("lan_ipv4", "lan_ipv4_of_service"),
        ("lan_ipv6", "lan_ipv6_of_service"),
        ("wan", "wan_of_service"),
        ("wan_ipv6", "wan_ipv6_of_service"),
    ];
    let weights = word(words, "weights").map(|pair| pair.split_once('/').expect(WELL_FORMED));
    let port = word(words, "port").map_or(80, number);
    let port_of = |tag: &str| if tag == "wan" { word(words, "wan_port").map_or(port, number) } else { port };
    ServiceInstance {
        id: InstanceId::new(word(words, "instance").unwrap_or(name)).expect(WELL_FORMED),
        name: ServiceName::new(name).expect(WELL_FORMED),
        tags: word(words, "tags").into_iter().flat_map(|tags| tags.split(',')).map(Into::into).collect(),
        address: word(words, "at").unwrap_or_default().into(),
        tagged_addresses: tagged
            .into_iter()
            .filter_map(|(tag, key)| {
                let address = word(words, key)?.into();
                Some((tag.into(), ServiceAddress { address, port: port_of(tag) }))
            })
            .collect(),
        meta: Pairs::default(),
        port,
        socket_path: Default::default(),
        weights: weights.map_or_else(Weights::default, |(passing, warning)| Weights {
            passing: number(passing),
            warning: number(warning),
        }),
        enable_tag_override: false,
        connect_native: words.split(' ').any(|word| word == "native"),
    }
}

/// The type with this name, for `ask`.
pub(crate) fn kinds() -> [(&'static str, Kind); 9] {
    [
        ("A", Kind::A),
        ("AAAA", Kind::AAAA),
        ("ANY", Kind::ANY),
        ("SRV", Kind::SRV),
        ("TXT", Kind::TXT),
        ("SOA", Kind::SOA),
        ("NS", Kind::NS),
        ("PTR", Kind::PTR),
        ("AXFR", Kind::AXFR),
    ]
}
