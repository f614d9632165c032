//! Laws of the state machine, tried on random logs over a few names, so that commands meet each other often.

mod replay;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tribune_core::{
    Authority, Check, CheckId, Command, Deregistration, Folded, Index, InstanceId, Node, NodeName, Outcome,
    Pairs, Registration, ServiceInstance, ServiceName, State, Status, Target, Topic, Weights,
};

const NODES: [&str; 4] = ["a", "A", "b", "c"];
const IDS: [&str; 4] = ["", "id-1", "id-2", "ID-2"];
const SERVICES: [&str; 4] = ["web", "Web", "api", "db"];
const INSTANCES: [&str; 4] = ["i", "I", "j", "k"];
const ADDRESSES: [&str; 4] = ["", "1.1.1.1", "2001:db8::2", "host.example"];
const CHECKS: [&str; 4] = ["c", "C", "d", "serfHealth"];

fn name() -> impl Strategy<Value = NodeName> {
    select(&NODES[..]).prop_map(|name| NodeName::new(name).expect("a valid name"))
}

fn instance_id() -> impl Strategy<Value = InstanceId> {
    select(&INSTANCES[..]).prop_map(|id| InstanceId::new(id).expect("a valid id"))
}

fn check_id() -> impl Strategy<Value = CheckId> {
    select(&CHECKS[..]).prop_map(|id| CheckId::new(id).expect("a valid id"))
}

fn service() -> impl Strategy<Value = ServiceInstance> {
    let tags = vec(select(&["x", "y", "z"][..]), 0..3);
    let parts = (instance_id(), select(&SERVICES[..]), tags, select(&ADDRESSES[..]), 0..3u16);
    parts.prop_map(|(id, name, tags, address, port)| ServiceInstance {
        id,
        name: ServiceName::new(name).expect("a valid name"),
        tags: tags.into_iter().map(Into::into).collect(),
        address: address.into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    })
}

fn check() -> impl Strategy<Value = Check> {
    let status = select(&[Status::Passing, Status::Warning, Status::Critical][..]);
    (check_id(), status, proptest::option::of(instance_id()), select(&["", "out"][..])).prop_map(
        |(id, status, service_id, output)| Check {
            id,
            name: "check".into(),
            status,
            notes: Default::default(),
            output: output.into(),
            service_id,
            kind: Default::default(),
            definition: None,
            interval: Default::default(),
            timeout: Default::default(),
        },
    )
}

fn registration() -> impl Strategy<Value = Command> {
    let parts = (
        name(),
        select(&IDS[..]),
        select(&ADDRESSES[1..]),
        any::<bool>(),
        proptest::option::of(service()),
        vec(check(), 0..3),
    );
    parts.prop_map(|(name, id, address, skip_node_update, service, checks)| {
        let (tagged_addresses, meta) = (Pairs::default(), Pairs::default());
        let node = Node { name, id: id.into(), address: address.into(), tagged_addresses, meta };
        Command::Register(Box::new(Registration { node, skip_node_update, service, checks }))
    })
}

fn deregistration() -> impl Strategy<Value = Command> {
    let target = prop_oneof![
        Just(Target::Node),
        instance_id().prop_map(Target::Instance),
        check_id().prop_map(Target::Check)
    ];
    (name(), target).prop_map(|(node, target)| Command::Deregister(Deregistration { node, target }))
}

fn log() -> impl Strategy<Value = Vec<Command>> {
    vec(prop_oneof![4 => registration(), 1 => deregistration()], 1..60)
}

/// The full answer to every topic that could be asked for here, as text.
fn answers(state: &State) -> BTreeMap<Topic, String> {
    let authority = Authority::unrestricted();
    let view = state.view(&authority);
    let mut answers = BTreeMap::new();
    let nodes: Vec<_> = view.nodes().map(|node| node.node()).collect();
    answers.insert(Topic::Nodes, format!("{nodes:?}"));
    let services: Vec<_> =
        view.services().map(|held| (held.name(), held.tags().collect::<Vec<_>>())).collect();
    answers.insert(Topic::Services, format!("{services:?}"));
    let label =
        |service: Option<&ServiceInstance>| service.map(|held| (held.name.clone(), held.tags.clone()));
    let checks: Vec<_> = view.checks().map(|seen| (seen.node, seen.check, label(seen.service))).collect();
    answers.insert(Topic::Checks, format!("{checks:?}"));
    for name in NODES {
        let node = view.node(name).map(|node| {
            let instances: Vec<_> = node.instances().map(|held| held.service).collect();
            let checks: Vec<_> = node.checks().map(|held| held.check).collect();
            format!("{:?} {instances:?} {checks:?}", node.node())
        });
        answers.insert(Topic::Node(Folded::new(name)), format!("{node:?}"));
    }
    for name in SERVICES {
        let instances: Vec<_> = view
            .instances(name)
            .map(|held| (held.node, held.service, held.checks().map(|seen| seen.check).collect::<Vec<_>>()))
            .collect();
        answers.insert(Topic::Service(Folded::new(name)), format!("{instances:?}"));
    }
    let everything = format!("{answers:?}");
    answers.insert(Topic::Catalog, everything);
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replicas_that_apply_one_log_are_equal(log in log()) {
        let (mut one, mut other) = (State::default(), State::default());
        replay::commands(&mut one, 1, &log);
        for (at, command) in log.iter().enumerate() {
            let bytes = rmp_serde::to_vec_named(command).unwrap();
            other.apply(Index(at as u64 + 1), &rmp_serde::from_slice(&bytes).unwrap());
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_snapshot_and_the_rest_equal_the_whole_log(log in log(), cut in 0..60usize) {
        replay::snapshot_and_rest(&log, cut)?;
    }

    /// Whoever holds a slice sees of its topic what is seen in the whole, through the wire and back.
    #[test]
    fn a_slice_answers_its_topic_as_the_whole_does(log in log()) {
        let mut whole = State::default();
        replay::commands(&mut whole, 1, &log);
        for (topic, answer) in answers(&whole) {
            let slice = State::from_records(whole.slice(&topic).iter().map(replay::through_bytes)).unwrap();
            prop_assert_eq!(&answers(&slice)[&topic], &answer, "{:?}", &topic);
            prop_assert_eq!(slice.index_of(&topic), whole.index_of(&topic), "{:?}", &topic);
            prop_assert_eq!(slice.index(), whole.index());
        }
        let authority = Authority::unrestricted();
        for id in &IDS[1..] {
            let slice = State::from_records(whole.slice(&Topic::Node(Folded::new(id)))).unwrap();
            let named = |state: &State| state.view(&authority).node_by_id_prefix(id).map(|node| node.node().clone());
            prop_assert_eq!(named(&slice), named(&whole));
        }
    }

    /// Numbers that follow the changes are the numbers counted anew.
    #[test]
    fn tallies_add_up(log in log(), cut in 0..60u64) {
        let authority = Authority::unrestricted();
        let mut state = State::default();
        let mut followed = BTreeMap::new();
        let mut seen = Index(0);
        for (at, command) in log.iter().enumerate() {
            state.apply(Index(at as u64 + 1), command);
            if !(at as u64).is_multiple_of(cut + 1) {
                continue;
            }
            let changes = state.tallies_after(seen, &authority).unwrap();
            for (name, tally) in changes.changed {
                followed.insert(name.folded(), tally);
            }
            for gone in changes.gone {
                followed.remove(&gone);
            }
            seen = state.index();
            let anew = state.tallies_after(Index(0), &authority).unwrap();
            prop_assert!(anew.gone.is_empty());
            let anew: BTreeMap<_, _> = anew.changed.into_iter().map(|(name, tally)| (name.folded(), tally)).collect();
            prop_assert_eq!(&followed, &anew);
            prop_assert!(anew.values().all(|tally| tally.total() > 0));
        }
    }

    #[test]
    fn the_index_of_a_topic_rises_exactly_when_its_answer_changes(log in log()) {
        let mut state = State::default();
        let mut before = answers(&state);
        for (at, command) in log.iter().enumerate() {
            let old = state.clone();
            let effect = state.apply(Index(at as u64 + 1), command);
            let after = answers(&state);
            for (topic, answer) in &after {
                let changed = *answer != before[topic];
                let (was, is) = (old.index_of(topic), state.index_of(topic));
                prop_assert_eq!(is, if changed { state.index() } else { was }, "{:?} after {:?}", topic, command);
                prop_assert_eq!(effect.touched.contains(topic), changed, "{:?} after {:?}", topic, command);
            }
            prop_assert_eq!(effect.outcome == Outcome::Applied, !effect.touched.is_empty());
            before = after;
        }
    }

    #[test]
    fn what_was_applied_is_unchanged_when_asked_again(log in log()) {
        let mut state = State::default();
        for (at, command) in log.iter().enumerate() {
            let foreseen = state.preview(command);
            let outcome = state.apply(Index(at as u64 + 1), command).outcome;
            prop_assert_eq!(&foreseen, &outcome);
            let again = state.preview(command);
            match outcome {
                Outcome::Refused(_) => prop_assert_eq!(again, outcome),
                Outcome::Applied | Outcome::Unchanged | Outcome::Transacted { .. } => {
                    prop_assert_eq!(again, Outcome::Unchanged);
                }
            }
        }
    }

    #[test]
    fn who_is_at_an_address_is_who_a_walk_through_the_catalog_finds(log in log()) {
        let mut state = State::default();
        for (at, command) in log.iter().enumerate() {
            state.apply(Index(at as u64 + 1), command);
            let authority = Authority::unrestricted();
            let view = state.view(&authority);
            for text in &ADDRESSES[1..3] {
                let ip = text.parse().unwrap();
                let node = view.nodes().find(|node| node.node().value.address == *text);
                let service = view.services().find(|service| {
                    view.instances(service.name().as_str()).any(|held| held.service.value.address == *text)
                });
                prop_assert_eq!(view.node_at(ip).map(|seen| seen.name()), node.map(|node| node.name()));
                prop_assert_eq!(view.service_at(ip).map(|seen| seen.name()), service.map(|held| held.name()));
            }
        }
    }
}
