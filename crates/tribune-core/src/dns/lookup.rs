//! What the catalog says about a subject, as a draft.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smol_str::SmolStr;

use super::draft::{COPIED_RECORDS_MAX, Depends, Draft, Pool, PoolSection, Unit};
use super::name::Name;
use super::record::{Code, Data, Kind, Owner, Record};
use super::subject::Subject;
use super::zone::Zone;
use super::{Plan, Question};
use crate::ids::Folded;
use crate::model::{Node, ServiceInstance, Status};
use crate::query::{Near, Query, select};
use crate::state::{InstanceView, Topic, View};

/// How many aliases are followed inside our own zone.
const ALIAS_DEPTH_MAX: usize = 3;
/// Shortest beginning of a node id that is looked for; one digit would match by accident.
const NODE_ID_PREFIX_BYTES_MIN: usize = 2;
/// Most name servers in an answer.
const NAME_SERVERS_MAX: usize = 3;
/// The service whose instances are the servers of the datacenter.
pub(super) const SERVER_SERVICE: &str = "consul";

/// One look-up: the question, and where it is put.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) question: &'a Question,
    /// The domain that was asked, which is also the one that answers use.
    pub(super) domain: &'a Name,
    pub(super) zone: &'a Zone,
    pub(super) view: View<'a>,
    /// How many aliases led here.
    pub(super) depth: usize,
}

/// Where something is reached.
enum Place {
    Ip(IpAddr),
    Host(Name),
}

impl<'a> Lookup<'a> {
    pub(super) fn draft(self, subject: &Subject) -> Draft {
        match subject {
            Subject::Apex | Subject::Nothing => self.unknown(Depends::Topics(Vec::new())),
            Subject::Service { name, tag, connect } => self.service(name, tag.as_ref(), *connect),
            Subject::Query(name) => self.query(name),
            Subject::Node(name) => self.node(name),
            Subject::Address(ip) => self.literal(*ip),
        }
    }

    /// There is no such name.
    pub(super) fn unknown(self, depends: Depends) -> Draft {
        self.negative(Code::NxDomain, depends)
    }

    /// The name is there, but has nothing of the type asked for.
    fn nothing_of_kind(self, depends: Depends) -> Draft {
        self.negative(Code::NoError, depends)
    }

    fn negative(self, code: Code, depends: Depends) -> Draft {
        let authority = vec![self.zone.soa_record(self.domain)];
        Draft { authority, ..Draft::empty(code, depends) }
    }

    fn service(self, name: &str, tag: Option<&SmolStr>, connect: bool) -> Draft {
        let depends = Depends::on(self.view.state(), [Topic::Service(Folded::new(name))]);
        let tag = tag.map(|tag| tag.to_lowercase());
        let healthy: Vec<InstanceView<'a>> = self
            .healthy(name)
            .filter(|instance| !connect || instance.service.value.connect_native)
            .filter(|instance| tag.as_ref().is_none_or(|tag| has_tag(instance, tag)))
            .collect();
        if healthy.is_empty() {
            return self.unknown(depends);
        }
        self.instances(&healthy, self.zone.service_ttl.of(name), depends)
    }

    /// What a prepared query finds here.
    fn query(self, name: &str) -> Draft {
        let state = self.view.state();
        match state.find_query(name) {
            Some(found) => self.selected(&found.value),
            None => self.unknown(Depends::on(state, [Topic::Queries])),
        }
    }

    /// Whether the subject is a prepared query that other datacenters are asked about when nothing is here.
    pub(super) fn fails_over(self, subject: &Subject) -> bool {
        let Subject::Query(name) = subject else { return false };
        self.view.state().find_query(name).is_some_and(|found| found.value.service.fails_over())
    }

    /// The instances that this prepared query selects. A time to live of its own counts more than that of its service.
    pub(super) fn selected(self, query: &Query) -> Draft {
        let state = self.view.state();
        let mut topics = vec![Topic::Queries, Topic::Service(Folded::new(&query.service.service))];
        // Who asks, and whom, is not known where answers are kept for all.
        let near = query.service.near_node().map(|near| Near::node(self.view, near));
        topics.extend(near.as_ref().map(|_| Topic::Coordinates));
        let depends = Depends::on(state, topics);
        // Without a place to be near to the order is drawn anew for each client.
        let instances = select(self.view, &query.service, near.as_ref(), 0);
        if instances.is_empty() {
            return self.unknown(depends);
        }
        let ttl = match query.dns_ttl.as_str() {
            "" => self.zone.service_ttl.of(&query.service.service),
            _ => u32::try_from(query.dns_ttl_span.as_secs()).unwrap_or(u32::MAX),
        };
        let is_ordered =
            near.zip(instances.first()).is_some_and(|(near, first)| near.ranks(self.view, first));
        let draft = self.instances(&instances, ttl, depends);
        match draft.pool {
            Pool::Shuffled(units) if is_ordered => Draft { pool: Pool::Ordered(units), ..draft },
            pool => Draft { pool, ..draft },
        }
    }

    /// The records of these instances.
    fn instances(self, instances: &[InstanceView<'a>], ttl: u32, depends: Depends) -> Draft {
        let (pool, depends) = match self.question.kind {
            Kind::SRV => self.locations(instances, ttl, depends),
            Kind::A | Kind::AAAA | Kind::ANY => self.addresses(instances, ttl, depends),
            _ => return self.nothing_of_kind(depends),
        };
        if pool.is_empty() {
            return self.nothing_of_kind(depends);
        }
        let take = match self.question.kind {
            Kind::A | Kind::AAAA | Kind::ANY
                if self.zone.a_record_limit > 0 && matches!(pool, Pool::Shuffled(_)) =>
            {
                self.zone.a_record_limit
            }
            _ => usize::MAX,
        };
        Draft { pool, take, ..Draft::empty(Code::NoError, depends) }
    }

    /// The instances that may be handed out: never critical ones, those with warnings unless told otherwise.
    fn healthy(self, service: &str) -> impl Iterator<Item = InstanceView<'a>> {
        let worst = if self.zone.only_passing { Status::Passing } else { Status::Warning };
        self.view.instances(service).filter(move |instance| instance.status() <= worst)
    }

    /// Address records, each address once. Aliases only when no instance has an address.
    fn addresses(self, instances: &[InstanceView<'a>], ttl: u32, mut depends: Depends) -> (Pool, Depends) {
        let mut units = Vec::new();
        let mut aliases = Vec::new();
        let mut seen = BTreeSet::new();
        for instance in instances {
            match self.place_of(instance) {
                Some(Place::Ip(ip)) if self.wants(ip) && seen.insert(ip) => {
                    units.push(Unit::alone(address_record(Owner::Question, ttl, ip)));
                }
                Some(Place::Host(host)) => aliases.push(host),
                Some(Place::Ip(_)) | None => {}
            }
        }
        if !units.is_empty() {
            return (Pool::Shuffled(units), depends);
        }
        aliases.sort();
        aliases.dedup();
        let mut sets = Vec::new();
        for host in aliases {
            let (set, more) = self.alias(host, ttl);
            depends = depends.and(more);
            sets.push(set);
        }
        (Pool::OneOf(sets), depends)
    }

    /// SRV records, each combination of node, address and port once.
    fn locations(self, instances: &[InstanceView<'a>], ttl: u32, mut depends: Depends) -> (Pool, Depends) {
        let mut units = Vec::new();
        let mut seen = BTreeSet::new();
        for instance in instances {
            let (node, service) = (&instance.node.value, &instance.service.value);
            if !seen.insert((&node.name, service.address.as_str(), service.port)) {
                continue;
            }
            let Some((target, mut extras, outside, more)) = self.target(instance, ttl) else { continue };
            depends = depends.and(more);
            extras.extend(self.additional_meta(node, ttl));
            let (_, port) = self.service_address_for_asker(service);
            let data = Data::Srv { priority: 1, weight: weight(instance), port, target };
            let answer = Record { owner: Owner::Question, ttl, data };
            units.push(Unit { answer, extras, outside });
        }
        (Pool::Shuffled(units), depends)
    }

    /// The target of an SRV record and the records that say where it is.
    ///
    /// With an address of its own the instance is named by that address, so that targets do not depend on what
    /// else its node is called or carries; without one it is where its node is.
    fn target(
        self,
        instance: &InstanceView<'a>,
        ttl: u32,
    ) -> Option<(Name, Vec<Record>, Option<Name>, Depends)> {
        let no_more = Depends::Topics(Vec::new());
        let node = &instance.node.value;
        let own = self.own_place(self.service_address_for_asker(&instance.service.value).0);
        let (node_address, is_translated) = self.node_address_for_asker(node);
        // The name of a node stands for its own address, so another address of it needs a name of its own.
        let named_by_itself = |place: &Place| is_translated || matches!(place, Place::Host(_));
        match own.or_else(|| self.own_place(node_address).filter(named_by_itself)) {
            Some(Place::Ip(ip)) => {
                let name = self.address_name(ip)?;
                let record = address_record(Owner::Name(name.clone()), ttl, ip);
                Some((name, vec![record], None, no_more))
            }
            Some(Place::Host(host)) => {
                let (records, outside, depends) = self.behind(&host, ttl);
                Some((host, records, outside, depends))
            }
            None => {
                let ip: IpAddr = node.address.parse().ok()?;
                let name = self.node_name(node).or_else(|| self.address_name(ip))?;
                let record = address_record(Owner::Name(name.clone()), ttl, ip);
                Some((name, vec![record], None, no_more))
            }
        }
    }

    fn node(self, name: &str) -> Draft {
        let by_id =
            || (name.len() >= NODE_ID_PREFIX_BYTES_MIN).then(|| self.view.node_by_id_prefix(name)).flatten();
        let Some(node) = self.view.node(name).or_else(by_id) else {
            let topics = [Topic::Node(Folded::new(name)), Topic::Nodes];
            return self.unknown(Depends::on(self.view.state(), topics));
        };
        let topics = [Topic::Node(node.name().folded()), Topic::Node(Folded::new(name)), Topic::Nodes];
        let depends = Depends::on(self.view.state(), topics);
        let (node, ttl) = (&node.node().value, self.zone.node_ttl);
        let meta = |owner: Owner| meta_records(node, owner, ttl);
        let mut draft = Draft::empty(Code::NoError, depends);
        match self.question.kind {
            Kind::TXT => draft.pool = Pool::Ordered(meta(Owner::Question).map(Unit::alone).collect()),
            Kind::A | Kind::AAAA | Kind::ANY => draft = self.node_address(node, draft),
            _ => {}
        }
        if draft.pool.is_empty() {
            draft.authority.push(self.zone.soa_record(self.domain));
        }
        match self.question.kind {
            Kind::ANY => {
                if let Pool::Ordered(units) = &mut draft.pool {
                    units.extend(meta(Owner::Question).map(Unit::alone));
                }
            }
            Kind::A | Kind::AAAA if self.zone.additional_node_meta_txt => {
                draft.additional.extend(meta(Owner::Question));
            }
            _ => {}
        }
        draft
    }

    fn node_address(self, node: &Node, draft: Draft) -> Draft {
        let ttl = self.zone.node_ttl;
        let text = self.preferred(&node.address, |tag| node.tagged_addresses.get(tag).map(SmolStr::as_str));
        match self.own_place(text) {
            Some(Place::Ip(ip)) if self.wants(ip) => {
                let unit = Unit::alone(address_record(Owner::Question, ttl, ip));
                Draft { pool: Pool::Ordered(vec![unit]), ..draft }
            }
            Some(Place::Host(host)) => {
                let (set, more) = self.alias(host, ttl);
                let depends = draft.depends.clone().and(more);
                Draft { pool: Pool::OneOf(vec![set]), depends, ..draft }
            }
            Some(Place::Ip(_)) | None => draft,
        }
    }

    /// An address that is spelled out in the name. Asked for the other family, it goes along unasked.
    fn literal(self, ip: IpAddr) -> Draft {
        let record = address_record(Owner::Question, self.zone.node_ttl, ip);
        let draft = Draft::empty(Code::NoError, Depends::Topics(Vec::new()));
        if self.wants(ip) {
            return Draft { answer: vec![record], ..draft };
        }
        let authority = vec![self.zone.soa_record(self.domain)];
        Draft { authority, additional: vec![record], ..draft }
    }

    /// The alias record for `host` with what is behind it.
    fn alias(self, host: Name, ttl: u32) -> (Vec<Unit>, Depends) {
        let (records, outside, depends) = self.behind(&host, ttl);
        let answer = Record { owner: Owner::Question, ttl, data: Data::Cname(host) };
        let mut set = vec![Unit { answer, extras: Vec::new(), outside }];
        set.extend(records.into_iter().map(Unit::alone));
        (set, depends)
    }

    /// Address and alias records of a host name; when it is not in our zone, the name itself is given back for
    /// others to be asked.
    fn behind(self, host: &Name, ttl: u32) -> (Vec<Record>, Option<Name>, Depends) {
        let no_more = Depends::Topics(Vec::new());
        if self.zone.locate(host).is_none() {
            return (Vec::new(), Some(host.clone()), no_more);
        }
        if self.depth >= ALIAS_DEPTH_MAX {
            return (Vec::new(), None, no_more);
        }
        let question = Question { name: host.clone(), kind: Kind::ANY };
        match super::plan_at(&question, self.view, self.zone, self.depth + 1) {
            Plan::Answer(draft) => {
                let depends = draft.depends.clone();
                (draft.behind(host, ttl).into_iter().take(COPIED_RECORDS_MAX).collect(), None, depends)
            }
            Plan::Ask { .. } | Plan::Elsewhere | Plan::Unmapped(_) | Plan::NotImplemented => {
                (Vec::new(), None, no_more)
            }
        }
    }

    /// Where an instance is reached, for address questions: its own address, else that of its node. An instance
    /// that names the very question as its address is where its node is.
    fn place_of(self, instance: &InstanceView<'a>) -> Option<Place> {
        let (node, service) = (&instance.node.value, &instance.service.value);
        let tagged = |tag: &str| service.tagged_addresses.get(tag).map(|address| address.address.as_str());
        let own = self.preferred(&service.address, tagged);
        let of_node =
            || self.preferred(&node.address, |tag| node.tagged_addresses.get(tag).map(SmolStr::as_str));
        self.own_place(own).or_else(|| self.own_place(of_node()))
    }

    /// The address tagged for the family that was asked for, else the plain one.
    fn preferred<'t>(self, plain: &'t str, tagged: impl Fn(&str) -> Option<&'t str>) -> &'t str {
        let tags: &[&str] = match (self.zone.prefers_wan, self.question.kind) {
            (false, Kind::A) => &["lan_ipv4"],
            (false, Kind::AAAA) => &["lan_ipv6"],
            (false, _) => &[],
            (true, Kind::A) => &["wan_ipv4", "wan"],
            (true, Kind::AAAA) => &["wan_ipv6", "wan"],
            (true, _) => &["wan", "wan_ipv4", "wan_ipv6"],
        };
        let mut chosen = tags.iter().filter_map(|tag| tagged(tag));
        chosen.find(|address| !address.is_empty()).unwrap_or(plain)
    }

    /// The address of a node as the asker is to use it, and whether that is another than its own.
    fn node_address_for_asker(self, node: &Node) -> (&str, bool) {
        let wan = |tag: &str| node.tagged_addresses.get(tag).map(SmolStr::as_str);
        let chosen = if self.zone.prefers_wan { self.preferred(&node.address, wan) } else { &node.address };
        (chosen, chosen != node.address)
    }

    /// Address and port of an instance as the asker is to use them; the address is empty when it is its node's.
    fn service_address_for_asker(self, service: &ServiceInstance) -> (&str, u16) {
        if !self.zone.prefers_wan {
            return (&service.address, service.port);
        }
        let tagged = |tag: &str| service.tagged_addresses.get(tag).map(|address| address.address.as_str());
        let port = service.tagged_addresses.get("wan").map_or(0, |address| address.port);
        (self.preferred(&service.address, tagged), if port == 0 { service.port } else { port })
    }

    fn own_place(self, address: &str) -> Option<Place> {
        if address.is_empty() {
            return None;
        }
        if let Ok(ip) = address.parse() {
            return Some(Place::Ip(ip));
        }
        let host = Name::parse(address).filter(|host| !host.same_as(&self.question.name))?;
        Some(Place::Host(host))
    }

    fn wants(self, ip: IpAddr) -> bool {
        match self.question.kind {
            Kind::A => ip.is_ipv4(),
            Kind::AAAA => ip.is_ipv6(),
            kind => kind == Kind::ANY,
        }
    }

    /// `0a010105.addr.dc1.consul.`
    fn address_name(self, ip: IpAddr) -> Option<Name> {
        let hex = match ip {
            IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        };
        let dc = self.zone.datacenter.as_str();
        self.domain.under([hex.as_bytes(), b"addr", dc.as_bytes()])
    }

    /// `db1.node.dc1.consul.`; none when the node's name does not fit into a domain name.
    fn node_name(self, node: &Node) -> Option<Name> {
        let labels = node.name.as_str().split('.').chain(["node", self.zone.datacenter.as_str()]);
        self.domain.under(labels.map(str::as_bytes))
    }

    fn additional_meta(self, node: &Node, ttl: u32) -> Vec<Record> {
        if !self.zone.additional_node_meta_txt || node.meta.is_empty() {
            return Vec::new();
        }
        let Some(name) = self.node_name(node) else { return Vec::new() };
        meta_records(node, Owner::Name(name), ttl).collect()
    }

    pub(super) fn start_of_authority(self) -> Draft {
        let answer = vec![self.zone.soa_record(self.domain)];
        Draft { answer, pool_section: PoolSection::Authority, ..self.name_servers() }
    }

    /// The servers of the datacenter whose names can be host names.
    pub(super) fn name_servers(self) -> Draft {
        let depends = Depends::on(self.view.state(), [Topic::Service(Folded::new(SERVER_SERVICE))]);
        let ttl = self.zone.node_ttl;
        let mut units = Vec::new();
        let mut seen = BTreeSet::new();
        for instance in self.healthy(SERVER_SERVICE) {
            let node = &instance.node.value;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let Ok(ip) = instance.address().parse::<IpAddr>() else { continue };
            if !node.name.as_str().bytes().all(plain) || !seen.insert(&node.name) {
                continue;
            }
            let Some(name) = self.node_name(node).map(|name| name.folded()) else { continue };
            let extras = vec![address_record(Owner::Name(name.clone()), ttl, ip)];
            let answer = Record { owner: Owner::Name(self.domain.clone()), ttl, data: Data::Ns(name) };
            units.push(Unit { answer, extras, outside: None });
        }
        Draft { pool: Pool::Shuffled(units), take: NAME_SERVERS_MAX, ..Draft::empty(Code::NoError, depends) }
    }

    /// The name of an address: of the first node that has it, else of the first service.
    pub(super) fn reverse(self, ip: IpAddr) -> Option<Draft> {
        let name = match self.view.node_at(ip) {
            Some(node) => self.node_name(&node.node().value)?,
            None => {
                let service = self.view.service_at(ip)?.name();
                let labels = [service.as_str(), "service", self.zone.datacenter.as_str()];
                self.domain.under(labels.map(str::as_bytes))?
            }
        };
        let answer = vec![Record { owner: Owner::Question, ttl: 0, data: Data::Ptr(name) }];
        Some(Draft { answer, ..Draft::empty(Code::NoError, Depends::Everything) })
    }
}

fn address_record(owner: Owner, ttl: u32, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    };
    Record { owner, ttl, data }
}

fn has_tag(instance: &InstanceView<'_>, folded: &str) -> bool {
    instance.service.value.tags.iter().any(|tag| tag.to_lowercase() == folded)
}

fn weight(instance: &InstanceView<'_>) -> u16 {
    let weights = instance.service.value.weights;
    match instance.status() {
        Status::Passing => weights.passing,
        Status::Warning => weights.warning,
        Status::Critical => 0,
    }
}

/// One text per entry of the node's metadata.
fn meta_records(node: &Node, owner: Owner, ttl: u32) -> impl Iterator<Item = Record> {
    node.meta.iter().map(move |(key, value)| {
        let data = Data::Txt(meta_text(key, value).into_boxed_str());
        Record { owner: owner.clone(), ttl, data }
    })
}

/// `key=value`, quoted as RFC 1464 says; keys that begin with `rfc1035-` give their value only.
fn meta_text(key: &str, value: &str) -> String {
    if key.as_bytes().get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"rfc1035-")) {
        return value.to_owned();
    }
    let inner = key.trim_matches([' ', '\t']);
    let leading = key.len() - key.trim_start_matches([' ', '\t']).len();
    let mut text = String::with_capacity(key.len() + value.len() + 1);
    for (at, letter) in key.char_indices() {
        let blank_at_edge = at < leading || at >= leading + inner.len();
        if matches!(letter, '`' | '=') || blank_at_edge {
            text.push('`');
        }
        text.push(letter);
    }
    text.push('=');
    text.push_str(&value.replace('`', "``"));
    text
}

#[cfg(test)]
mod tests {
    use super::meta_text;

    #[test]
    fn metadata_is_quoted_as_rfc_1464_says() {
        for (key, value, text) in [
            ("k", "v", "k=v"),
            ("a=b", "c=d", "a`=b=c=d"),
            ("a`b", "c`d", "a``b=c``d"),
            (" k\t", "v", "` k`\t=v"),
            ("RFC1035-any", "raw=`", "raw=`"),
            ("consul-network-segment", "", "consul-network-segment="),
            ("  ", "v", "` ` =v"),
        ] {
            assert_eq!(meta_text(key, value), text);
        }
    }
}
