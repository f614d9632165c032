//! The steps of reconcile transcripts, all about the node `n`.
//!
//! `mine [meta=x] [service=s[:tag][:override]]… [check=c:status:output[:service][:held]]…` says what the node holds;
//! `remote` with the same words puts into the catalog; `diff` shows what is to be done, `sync` does it.

use tribune_core::reconcile::{Mine, MyCheck, Plan, local};
use tribune_core::{
    Authority, Check, CheckId, Command, Index, InstanceId, Node, NodeName, Pairs, Registration,
    ServiceInstance, ServiceName, State, Status, Target, Weights,
};

use crate::transcript::Script;

#[derive(Default)]
pub(crate) struct Two {
    state: State,
    next: u64,
    node: Option<Node>,
    services: Vec<ServiceInstance>,
    checks: Vec<MyCheck>,
}

impl Script for Two {
    fn step(&mut self, words: &str) -> String {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        match verb {
            "mine" => {
                self.node = Some(node(rest));
                self.services = values(rest, "service=").map(service).collect();
                self.checks = values(rest, "check=").map(check).collect();
                "noted".into()
            }
            "remote" => {
                for service in values(rest, "service=").map(service) {
                    self.apply(&put(node(rest), Some(service), Vec::new()));
                }
                let checks = values(rest, "check=").map(|words| check(words).check).collect();
                self.apply(&put(node(rest), None, checks));
                "noted".into()
            }
            "diff" => describe(&self.plan()),
            "sync" => {
                let plan = self.plan();
                for instance in plan.adopted {
                    self.services.iter_mut().filter(|mine| mine.id == instance.id).for_each(|mine| {
                        *mine = instance.clone();
                    });
                }
                plan.commands.iter().for_each(|command| self.apply(command));
                format!("then {}", describe(&self.plan()))
            }
            other => panic!("no such step: {other}"),
        }
    }
}

impl Two {
    fn plan(&self) -> Plan {
        let mine = Mine {
            node: self.node.as_ref().expect("a node"),
            services: self.services.iter().collect(),
            checks: self.checks.clone(),
        };
        local(&mine, self.state.view(&Authority::unrestricted()))
    }

    fn apply(&mut self, command: &Command) {
        self.next += 1;
        self.state.apply(Index(self.next), command);
    }
}

fn describe(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.commands.iter().map(describe_command).collect();
    lines.extend(
        plan.adopted.iter().map(|instance| format!("adopt {} [{}]", instance.id, instance.tags.join(","))),
    );
    if lines.is_empty() { "nothing".into() } else { lines.join("\n") }
}

fn describe_command(command: &Command) -> String {
    match command {
        Command::Register(put) => {
            let checks =
                put.checks.iter().map(|check| format!(" {} {} ({})", check.id, check.status, check.output));
            let service =
                put.service.as_ref().map(|service| format!(" {} [{}]", service.id, service.tags.join(",")));
            let node = if put.skip_node_update { "" } else { " the node" };
            format!("put{node}{}{}", service.unwrap_or_default(), checks.collect::<String>())
        }
        Command::Deregister(take) => match &take.target {
            Target::Node => "remove the node".into(),
            Target::Instance(id) => format!("remove service {id}"),
            Target::Check(id) => format!("remove check {id}"),
        },
        other => format!("{other:?}"),
    }
}

fn values<'a>(words: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    words.split(' ').filter_map(move |word| word.strip_prefix(key))
}

fn node(words: &str) -> Node {
    Node {
        name: NodeName::new("n").expect("a name"),
        id: Default::default(),
        address: "10.0.0.1".into(),
        tagged_addresses: Pairs::default(),
        meta: values(words, "meta=").map(|value| ("meta".into(), value.into())).collect(),
    }
}

fn service(words: &str) -> ServiceInstance {
    let mut parts = words.split(':');
    let name = parts.next().expect("a name");
    let tags = parts.next().filter(|tag| !tag.is_empty());
    ServiceInstance {
        id: InstanceId::new(name).expect("an id"),
        name: ServiceName::new(name).expect("a name"),
        tags: tags.map(Into::into).into_iter().collect(),
        address: Default::default(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port: 80,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: parts.next() == Some("override"),
        connect_native: false,
    }
}

fn check(words: &str) -> MyCheck {
    let parts: Vec<_> = words.split(':').collect();
    let owner = parts.get(3).filter(|owner| !owner.is_empty());
    let check = Check {
        id: CheckId::new(parts[0]).expect("an id"),
        name: parts[0].into(),
        status: if parts[1] == "passing" { Status::Passing } else { Status::Critical },
        notes: Default::default(),
        output: parts[2].into(),
        service_id: owner.map(|owner| InstanceId::new(*owner).expect("an id")),
        kind: Default::default(),
        definition: None,
        interval: Default::default(),
        timeout: Default::default(),
    };
    MyCheck { check, send_output: parts.get(4) != Some(&"held") }
}

fn put(node: Node, service: Option<ServiceInstance>, checks: Vec<Check>) -> Command {
    Command::Register(Box::new(Registration { node, skip_node_update: false, service, checks }))
}
