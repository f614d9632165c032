//! Laws of keys, sessions and transactions, tried on random logs in which nodes and checks come and go under them.

mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tribune_core::lease::{Lease, Leases};
use tribune_core::{
    Authority, Behavior, CatalogOp, Check, CheckId, Command, Deregistration, Folded, Index, InstanceId,
    KvChange, KvKey, KvPut, KvRead, Node, NodeKey, NodeName, Outcome, Pairs, PutMode, Registration,
    ServiceInstance, ServiceName, Session, SessionChange, SessionId, State, Status, Target, Topic,
    Transaction, TxnOp, Weights,
};

const NODES: [&str; 3] = ["a", "A", "b"];
const CHECKS: [&str; 3] = ["c", "C", "d"];
const KEYS: [&str; 7] = ["a", "a/", "a/b", "a/bc", "b", "é", "é/a"];
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/b", "é", "x"];

fn node() -> impl Strategy<Value = NodeName> {
    select(&NODES[..]).prop_map(|name| NodeName::new(name).expect("a valid name"))
}

fn check_id() -> impl Strategy<Value = CheckId> {
    select(&CHECKS[..]).prop_map(|id| CheckId::new(id).expect("a valid name"))
}

fn key() -> impl Strategy<Value = KvKey> {
    select(&KEYS[..]).prop_map(|key| KvKey::new(key).expect("a valid name"))
}

fn session_id() -> impl Strategy<Value = SessionId> {
    (0..4).prop_map(|number| {
        SessionId::new(&format!("00000000-0000-0000-0000-00000000000{number}")).expect("a valid name")
    })
}

fn index() -> impl Strategy<Value = Index> {
    (0..40u64).prop_map(Index)
}

fn kv() -> impl Strategy<Value = KvChange> {
    let mode = prop_oneof![
        3 => Just(PutMode::Always),
        2 => index().prop_map(PutMode::OnlyAt),
        6 => session_id().prop_map(PutMode::Acquire),
        1 => session_id().prop_map(PutMode::Release),
    ];
    let put = (key(), select(&["", "x", "y"][..]), 0..2u64, mode).prop_map(|(key, value, flags, mode)| {
        KvChange::Put(KvPut { key, value: value.as_bytes().into(), flags, mode })
    });
    let delete = (key(), proptest::option::of(index()));
    prop_oneof![
        8 => put,
        2 => delete.prop_map(|(key, only_at)| KvChange::Delete { key, only_at }),
        1 => select(&PREFIXES[1..]).prop_map(|prefix| KvChange::DeleteTree(prefix.into())),
    ]
}

fn session() -> impl Strategy<Value = Session> {
    let parts = (
        session_id(),
        node(),
        any::<bool>(),
        select(&[0, 5, 90][..]),
        proptest::option::of(select(&[10, 20][..])),
        vec(check_id(), 0..2),
        proptest::option::of(vec(check_id(), 0..2)),
    );
    parts.prop_map(|(id, node, deletes, delay, ttl, node_checks, service_checks)| Session {
        id,
        name: "".into(),
        node,
        lock_delay: Duration::from_secs(delay),
        behavior: if deletes { Behavior::Delete } else { Behavior::Release },
        ttl: ttl.map(Duration::from_secs),
        ttl_text: ttl.map(|ttl| format!("{ttl}s")).unwrap_or_default().into(),
        node_checks: Some(node_checks.into()),
        service_checks: service_checks.map(Into::into),
    })
}

fn session_change() -> impl Strategy<Value = SessionChange> {
    prop_oneof![
        8 => session().prop_map(SessionChange::Create),
        2 => session_id().prop_map(SessionChange::Destroy),
        1 => (0..3u64).prop_map(|term| SessionChange::KeepLeases { term }),
        1 => (0..3u64, vec(session_id(), 0..3))
            .prop_map(|(term, sessions)| SessionChange::Expire { term, sessions }),
        2 => vec((key(), index()), 0..3).prop_map(SessionChange::EndDelays),
    ]
}

fn check() -> impl Strategy<Value = Check> {
    let status = select(&[Status::Passing, Status::Passing, Status::Critical][..]);
    (check_id(), status, any::<bool>()).prop_map(|(id, status, of_service)| Check {
        id,
        name: "check".into(),
        status,
        notes: Default::default(),
        output: "".into(),
        service_id: of_service.then(|| InstanceId::new("i").expect("a valid name")),
        kind: Default::default(),
        definition: None,
        interval: Default::default(),
        timeout: Default::default(),
    })
}

fn instance() -> ServiceInstance {
    ServiceInstance {
        id: InstanceId::new("i").expect("a valid name"),
        name: ServiceName::new("web").expect("a valid name"),
        tags: Box::default(),
        address: "".into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port: 80,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    }
}

fn node_record() -> impl Strategy<Value = Node> {
    (node(), select(&["", "id-1", "id-2"][..])).prop_map(|(name, id)| {
        let (tagged_addresses, meta) = (Pairs::default(), Pairs::default());
        Node { name, id: id.into(), address: "1.1.1.1".into(), tagged_addresses, meta }
    })
}

fn registration() -> impl Strategy<Value = Command> {
    (node_record(), any::<bool>(), vec(check(), 0..3)).prop_map(|(node, with_service, checks)| {
        let service = with_service.then(instance);
        Command::Register(Box::new(Registration { node, skip_node_update: false, service, checks }))
    })
}

fn deregistration() -> impl Strategy<Value = Command> {
    let target = prop_oneof![
        Just(Target::Node),
        Just(Target::Instance(InstanceId::new("i").expect("a valid name"))),
        check_id().prop_map(Target::Check),
    ];
    (node(), target).prop_map(|(node, target)| Command::Deregister(Deregistration { node, target }))
}

fn operation() -> impl Strategy<Value = TxnOp> {
    let read = prop_oneof![
        key().prop_map(KvRead::Get),
        key().prop_map(KvRead::GetOrEmpty),
        select(&PREFIXES[..]).prop_map(|prefix| KvRead::GetTree(prefix.into())),
        (key(), index()).prop_map(|(key, index)| KvRead::CheckIndex(key, index)),
        (key(), proptest::option::of(session_id())).prop_map(|(key, id)| KvRead::CheckSession(key, id)),
        key().prop_map(KvRead::CheckNotExists),
    ];
    let named = |name: NodeName| NodeKey { name: name.as_str().into(), id: "".into() };
    prop_oneof![
        8 => kv().prop_map(TxnOp::Kv),
        1 => read.prop_map(TxnOp::KvRead),
        2 => node_record().prop_map(|node| TxnOp::Node(CatalogOp::Set(Box::new(node)))),
        1 => node().prop_map(move |name| TxnOp::Node(CatalogOp::Delete(named(name)))),
        1 => node().prop_map(|node| TxnOp::Service(node, CatalogOp::Set(Box::new(instance())))),
        1 => (node(), check()).prop_map(|(node, check)| TxnOp::Check(node, CatalogOp::Set(Box::new(check)))),
        1 => (node(), check_id()).prop_map(|(node, id)| TxnOp::Check(node, CatalogOp::Delete(id))),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => registration(),
        1 => deregistration(),
        8 => kv().prop_map(|change| Command::Kv(Box::new(change))),
        6 => session_change().prop_map(|change| Command::Session(Box::new(change))),
        2 => vec(operation(), 0..4).prop_map(|ops| Command::Transaction(Box::new(Transaction(ops)))),
    ]
}

fn log() -> impl Strategy<Value = Vec<Command>> {
    vec(command(), 1..60)
}

/// The full answer to every topic of keys and sessions that could be asked for here, as text.
fn answers(state: &State) -> BTreeMap<Topic, String> {
    let authority = Authority::unrestricted();
    let view = state.view(&authority);
    let mut answers = BTreeMap::new();
    for key in KEYS.map(|key| KvKey::new(key).expect("a valid name")) {
        answers.insert(Topic::Key(key.clone()), format!("{:?}", view.key(&key)));
    }
    for prefix in PREFIXES {
        let under: Vec<_> = view.keys_under(prefix).collect();
        answers.insert(Topic::Prefix(prefix.into()), format!("{under:?}"));
    }
    answers.insert(Topic::Sessions, format!("{:?}", view.sessions().collect::<Vec<_>>()));
    for number in 0..4 {
        let id =
            SessionId::new(&format!("00000000-0000-0000-0000-00000000000{number}")).expect("a valid name");
        answers.insert(Topic::Session(id.clone()), format!("{:?}", view.session(&id)));
    }
    for name in NODES {
        let on_node: Vec<_> = view.sessions_on(name).collect();
        answers.insert(Topic::NodeSessions(Folded::new(name)), format!("{on_node:?}"));
    }
    let leases: Vec<_> = state.leases().collect();
    answers.insert(Topic::Leases, format!("{leases:?} {}", state.lease_term()));
    answers
}

/// What must hold whatever happened.
fn check_invariants(state: &State) {
    let authority = Authority::unrestricted();
    let view = state.view(&authority);
    for entry in view.keys_under("") {
        if let Some(holder) = &entry.value.session {
            assert!(view.session(holder).is_some(), "{} is held by nobody", entry.value.key);
            let delayed = Lease::LockDelay(entry.value.key.clone());
            assert!(
                state.leases().all(|(lease, _)| *lease != delayed),
                "{} is held and delayed",
                entry.value.key
            );
        }
    }
    for session in view.sessions().map(|session| &session.value) {
        let node = view.node(session.node.as_str()).expect("a session is on a node");
        for check in session.checks() {
            let check = node.check(check.as_str()).expect("a session depends on a check that is there");
            assert_ne!(check.check.value.status, Status::Critical);
        }
        assert!(view.sessions_on(session.node.as_str()).any(|on| on.value.id == session.id));
        let lease = Lease::Session(session.id.clone());
        assert_eq!(state.leases().any(|(held, _)| *held == lease), session.ttl.is_some());
    }
}

fn is_transaction(command: &Command) -> bool {
    matches!(command, Command::Transaction(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replicas_that_apply_one_log_are_equal_and_sound(log in log()) {
        let (mut one, mut other) = (State::default(), State::default());
        for (at, command) in log.iter().enumerate() {
            let bytes = rmp_serde::to_vec_named(command).unwrap();
            let effect = other.apply(Index(at as u64 + 1), &rmp_serde::from_slice(&bytes).unwrap());
            prop_assert_eq!(&one.apply(Index(at as u64 + 1), command), &effect);
            let bytes = rmp_serde::to_vec_named(&effect.outcome).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Outcome>(&bytes).unwrap(), effect.outcome);
            check_invariants(&one);
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_snapshot_and_the_rest_equal_the_whole_log(log in log(), cut in 0..60usize) {
        replay::snapshot_and_rest(&log, cut)?;
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
                let touched = effect.touched.iter().any(|touched| touched.covers(topic));
                prop_assert_eq!(is, if touched { state.index() } else { was }, "{:?} after {:?}", topic, command);
                // A transaction may undo what it did; nobody is woken too late by that.
                if changed || !is_transaction(command) {
                    prop_assert_eq!(touched, changed, "{:?} after {:?}", topic, command);
                }
            }
            prop_assert_eq!(effect.outcome.changes(), !effect.touched.is_empty());
            before = after;
        }
    }

    #[test]
    fn what_is_foreseen_is_what_happens(log in log()) {
        let mut state = State::default();
        for (at, command) in log.iter().enumerate() {
            let foreseen = state.preview(command);
            let before = state.clone();
            let outcome = state.apply(Index(at as u64 + 1), command).outcome;
            prop_assert_eq!(foreseen.changes(), outcome.changes());
            if !outcome.changes() {
                before.records().zip(state.records()).skip(1).for_each(|(a, b)| assert_eq!(a, b));
            }
        }
    }

    #[test]
    fn whoever_follows_state_by_state_measures_what_is_there(log in log()) {
        let mut state = State::default();
        let mut leases = Leases::default();
        let ending = |leases: &Leases| {
            let expired = leases.clone().expire(Duration::from_secs(10_000), usize::MAX);
            expired.sessions.len() + expired.delays.len()
        };
        for (at, command) in log.iter().enumerate() {
            state.apply(Index(at as u64 + 1), command);
            let now = Duration::from_secs(at as u64);
            leases.follow(&state, now);
            prop_assert_eq!(ending(&leases), state.leases().count());
            let shortest = state.leases().map(|(_, span)| span.length).min();
            prop_assert!(leases.next_deadline().is_none_or(|next| Some(next) >= shortest));
        }
        let expired = leases.expire(Duration::from_secs(10_000), usize::MAX);
        prop_assert_eq!(expired.sessions.len() + expired.delays.len(), state.leases().count());
        let next = Index(log.len() as u64 + 1);
        state.apply(next, &Command::Session(Box::new(SessionChange::EndDelays(expired.delays))));
        let term = state.lease_term();
        let expire = SessionChange::Expire { term, sessions: expired.sessions };
        state.apply(Index(next.0 + 1), &Command::Session(Box::new(expire)));
        prop_assert!(state.leases().all(|(lease, _)| matches!(lease, Lease::LockDelay(_))));
    }
}
