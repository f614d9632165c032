//! The steps of catalog transcripts.
//!
//! `register node=n addr=a [id=u] [skip] [service=s instance=i port=p tags=a,b] [check=id:status[:instance]]…`,
//! `deregister node=n [instance=i | check=c]`, and the questions `nodes`, `node n`, `services`, `instances s`,
//! `checks`, `index <topic> [name]`, `restore` (through records and back).

use std::fmt::Write as _;

use tribune_core::state::{CheckView, InstanceView};
use tribune_core::{
    Authority, Check, CheckId, Command, Deregistration, Folded, Index, InstanceId, Node, NodeName, Pairs,
    Registration, ServiceInstance, ServiceName, State, Status, Target, Topic, Weights,
};

use crate::transcript::Script;

#[derive(Default)]
pub(crate) struct Catalog {
    state: State,
    next: u64,
}

impl Script for Catalog {
    fn step(&mut self, words: &str) -> String {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        match verb {
            "register" => self.apply(&register(rest)),
            "deregister" => self.apply(&deregister(rest)),
            "restore" => {
                let restored = State::from_records(self.state.records()).expect("a well-formed transcript");
                let same = restored == self.state;
                self.state = restored;
                format!("same: {same}")
            }
            "index" => self.state.index_of(&topic(rest)).to_string(),
            question => self.answer(question, rest),
        }
    }
}

impl Catalog {
    fn apply(&mut self, command: &Command) -> String {
        self.next += 1;
        let effect = self.state.apply(Index(self.next), command);
        let topics = effect.touched.iter().map(|topic| match topic {
            Topic::Node(name) => format!("node {name}"),
            Topic::Service(name) => format!("service {name}"),
            other => format!("{other:?}").to_lowercase(),
        });
        let topics: Vec<_> = topics.collect();
        format!("{} {:?} [{}]", self.next, effect.outcome, topics.join(", "))
    }

    fn answer(&self, question: &str, name: &str) -> String {
        let authority = Authority::unrestricted();
        let view = self.state.view(&authority);
        let mut out = String::new();
        match question {
            "nodes" => view.nodes().for_each(|node| line(&mut out, &describe_node(node.node()))),
            "node" => match view.node(name) {
                None => line(&mut out, "none"),
                Some(node) => {
                    line(&mut out, &describe_node(node.node()));
                    node.instances().for_each(|instance| line(&mut out, &describe_instance(&instance)));
                    node.checks().for_each(|check| line(&mut out, &describe_check(&check)));
                }
            },
            "services" => view.services().for_each(|service| {
                let tags: Vec<_> = service.tags().map(|tag| tag.as_str()).collect();
                line(
                    &mut out,
                    &format!("{} x{} [{}]", service.name(), service.instance_count(), tags.join(",")),
                );
            }),
            "instances" => view.instances(name).for_each(|instance| {
                line(&mut out, &format!("{} {}", describe_instance(&instance), instance.status()));
                instance.checks().for_each(|check| line(&mut out, &format!("  {}", describe_check(&check))));
            }),
            "checks" => view.checks().for_each(|check| line(&mut out, &describe_check(&check))),
            other => panic!("no such step: {other}"),
        }
        if out.is_empty() { "none".to_owned() } else { out }
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a well-formed transcript");
}

fn describe_node(node: &tribune_core::Stored<Node>) -> String {
    let value = &node.value;
    format!("{} {} id={} {}..{}", value.name, value.address, value.id, node.created, node.modified)
}

fn describe_instance(view: &InstanceView<'_>) -> String {
    let (stored, value) = (view.service, &view.service.value);
    let tags = value.tags.join(",");
    let at = format!("{}:{}", view.address(), value.port);
    format!(
        "{}/{} {} {at} [{tags}] {}..{}",
        view.node.value.name, value.id, value.name, stored.created, stored.modified
    )
}

fn describe_check(view: &CheckView<'_>) -> String {
    let check = view.check;
    let service = view.service.map_or("-", |service| service.name.as_str());
    let (id, status) = (&check.value.id, check.value.status);
    format!("{}/{id} {status} of {service} {}..{}", view.node.value.name, check.created, check.modified)
}

fn topic(words: &str) -> Topic {
    match words.split_once(' ') {
        Some(("node", name)) => Topic::Node(Folded::new(name)),
        Some(("service", name)) => Topic::Service(Folded::new(name)),
        None if words == "catalog" => Topic::Catalog,
        None if words == "nodes" => Topic::Nodes,
        None if words == "services" => Topic::Services,
        None if words == "checks" => Topic::Checks,
        _ => panic!("no such topic: {words}"),
    }
}

fn word<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn node(words: &str) -> NodeName {
    NodeName::new(word(words, "node").expect("a well-formed transcript")).expect("a well-formed transcript")
}

fn register(words: &str) -> Command {
    let service = word(words, "service").map(|name| ServiceInstance {
        id: InstanceId::new(word(words, "instance").unwrap_or(name)).expect("a well-formed transcript"),
        name: ServiceName::new(name).expect("a well-formed transcript"),
        tags: word(words, "tags").into_iter().flat_map(|tags| tags.split(',')).map(Into::into).collect(),
        address: Default::default(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port: word(words, "port").map_or(80, |port| port.parse().expect("a well-formed transcript")),
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    });
    let checks = words.split(' ').filter_map(|word| word.strip_prefix("check=")).map(check).collect();
    Command::Register(Box::new(Registration {
        node: Node {
            name: node(words),
            id: word(words, "id").unwrap_or_default().into(),
            address: word(words, "addr").unwrap_or("10.0.0.1").into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        },
        skip_node_update: words.split(' ').any(|word| word == "skip"),
        service,
        checks,
    }))
}

fn check(words: &str) -> Check {
    let mut parts = words.split(':');
    let id = parts.next().expect("a well-formed transcript");
    let status = match parts.next().expect("a well-formed transcript") {
        "passing" => Status::Passing,
        "warning" => Status::Warning,
        _ => Status::Critical,
    };
    Check {
        id: CheckId::new(id).expect("a well-formed transcript"),
        name: id.into(),
        status,
        notes: Default::default(),
        output: "".into(),
        service_id: parts.next().map(|instance| InstanceId::new(instance).expect("a well-formed transcript")),
        kind: Default::default(),
        definition: None,
        interval: Default::default(),
        timeout: Default::default(),
    }
}

fn deregister(words: &str) -> Command {
    let instance = word(words, "instance")
        .map(|id| Target::Instance(InstanceId::new(id).expect("a well-formed transcript")));
    let check =
        word(words, "check").map(|id| Target::Check(CheckId::new(id).expect("a well-formed transcript")));
    let target = instance.or(check).unwrap_or(Target::Node);
    Command::Deregister(Deregistration { node: node(words), target })
}
