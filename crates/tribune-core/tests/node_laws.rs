//! Laws of checks and of reconciliation, tried on random histories.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tribune_core::check::{Change, Event, Observation};
use tribune_core::reconcile::{Mine, MyCheck, Plan, SERVER_INSTANCE, local};
use tribune_core::state::LIVENESS_CHECK;
use tribune_core::{
    Authority, Check, CheckDefinition, CheckId, CheckMachine, CheckSpec, Command, Index, InstanceId, Node,
    NodeName, Outcome, Pairs, Registration, ServiceInstance, ServiceName, State, Status, Timestamp, Weights,
};

fn status() -> impl Strategy<Value = Status> {
    select(&[Status::Passing, Status::Warning, Status::Critical][..])
}

fn spec(definition: CheckDefinition) -> CheckSpec {
    CheckSpec::new(CheckId::new("c").expect("an id"), "c", definition)
}

proptest! {
    /// A check turns critical only by so many failures in a row, and better only by so many good results.
    #[test]
    fn no_transition_without_enough_results_in_a_row(
        results in vec(status(), 1..60), start in status(), good in 0..4_u32, warning in 0..4_u32, critical in 0..4_u32,
    ) {
        let definition = CheckDefinition {
            tcp: "localhost:1".into(), interval: Some(Duration::from_secs(1)), ..CheckDefinition::default()
        };
        let mut spec = spec(definition);
        (spec.status, spec.success_before_passing) = (start, good);
        (spec.failures_before_warning, spec.failures_before_critical) = (warning, critical);
        let kind = spec.kind().expect("a usable check");
        let mut machine = CheckMachine::new(&spec, kind, Timestamp(0), Duration::ZERO);
        for (at, seen) in results.iter().enumerate() {
            let observation = Observation { status: *seen, output: "".into(), took: Duration::ZERO };
            let change = machine.result(Timestamp(at as u64 * 1000), observation);
            let bad = |status: &Status| *status == Status::Critical;
            let row = results[..=at].iter().rev().take_while(|status| bad(status) == bad(seen)).count() as u32;
            let Some(Change::Status { from, to }) = change else { continue };
            if to == Status::Critical {
                prop_assert!(row >= critical.max(1) && bad(seen));
            } else if bad(seen) {
                let enough = if warning == 0 { critical.max(1) } else { warning };
                prop_assert!(to > from && row >= enough);
            } else {
                prop_assert!(row >= good);
            }
        }
    }

    /// Whatever the renewals, a TTL check runs out exactly when none came for one TTL.
    #[test]
    fn a_ttl_runs_out_exactly_in_time(gaps in vec(1..20_000_u64, 1..40)) {
        const TTL: u64 = 10_000;
        let definition = CheckDefinition { ttl: Some(Duration::from_millis(TTL)), ..CheckDefinition::default() };
        let spec = spec(definition);
        let kind = spec.kind().expect("a usable check");
        let mut machine = CheckMachine::new(&spec, kind, Timestamp(0), Duration::ZERO);
        let mut now = 0;
        machine.renew(Timestamp(now), Status::Passing, "".into());
        for gap in gaps {
            prop_assert_eq!(machine.deadline(), Some(Timestamp(now + TTL)));
            let early = (now + TTL - 1).min(now + gap);
            prop_assert_eq!(machine.tick(Timestamp(early)), None);
            let event = machine.tick(Timestamp(now + gap));
            let expired = matches!(event, Some(Event::Changed(Change::Status { to: Status::Critical, .. })));
            prop_assert_eq!(expired, gap >= TTL);
            now += gap;
            machine.renew(Timestamp(now), Status::Passing, "".into());
        }
    }

    /// Doing what the comparison says leaves nothing to do, and never touches what the leader owns.
    #[test]
    fn reconciling_twice_does_nothing(mine in list(), remote in list(), held in any::<bool>()) {
        let mut state = State::default();
        let mut next = 0;
        let mut apply = |state: &mut State, command: &Command| {
            next += 1;
            state.apply(Index(next), command).outcome
        };
        for service in &remote.services {
            apply(&mut state, &put(&remote.node, Some(service.clone()), Vec::new()));
        }
        apply(&mut state, &put(&remote.node, Some(service(SERVER_INSTANCE, 0, false)), remote.checks.clone()));
        apply(&mut state, &put(&remote.node, None, vec![check(LIVENESS_CHECK, Status::Passing, "", None)]));

        let mut services = mine.services.clone();
        let first = plan(&mine.node, &services, &mine.checks, !held, &state);
        for command in &first.commands {
            prop_assert_eq!(apply(&mut state, command), Outcome::Applied);
        }
        for adopted in first.adopted {
            services.iter_mut().filter(|mine| mine.id == adopted.id).for_each(|mine| *mine = adopted.clone());
        }
        prop_assert_eq!(plan(&mine.node, &services, &mine.checks, !held, &state), Plan::default());
        let node = NodeName::new("n").expect("a name");
        prop_assert!(state.has_instance(&node, &InstanceId::new(SERVER_INSTANCE).expect("an id")));
        prop_assert!(state.has_check(&node, &CheckId::new(LIVENESS_CHECK).expect("an id")));
    }
}

#[derive(Debug, Clone)]
struct List {
    node: Node,
    services: Vec<ServiceInstance>,
    checks: Vec<Check>,
}

fn list() -> impl Strategy<Value = List> {
    let services = proptest::sample::subsequence(vec!["web", "api", "db"], 0..=3);
    let details = (vec((0..3_usize, any::<bool>()), 3), vec((status(), 0..2_usize, 0..4_usize), 4));
    (services, details, any::<bool>()).prop_map(|(names, (services, checks), meta)| {
        let node = Node {
            name: NodeName::new("n").expect("a name"),
            id: Default::default(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: meta.then(|| ("a".into(), "b".into())).into_iter().collect(),
        };
        let services: Vec<_> =
            names.iter().zip(services).map(|(name, (tag, open))| service(name, tag, open)).collect();
        let checks = checks.into_iter().enumerate().filter_map(|(at, (status, output, owner))| {
            let owner = names.get(owner).copied();
            (status != Status::Warning)
                .then(|| check(["c", "d", "e", "f"][at], status, ["", "x"][output], owner))
        });
        List { node, services, checks: checks.collect() }
    })
}

fn service(name: &str, tag: usize, enable_tag_override: bool) -> ServiceInstance {
    ServiceInstance {
        id: InstanceId::new(name).expect("an id"),
        name: ServiceName::new(name).expect("a name"),
        tags: ["x", "y"].get(tag).map(|tag| (*tag).into()).into_iter().collect(),
        address: Default::default(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
        port: 80,
        socket_path: Default::default(),
        weights: Weights::default(),
        enable_tag_override,
        connect_native: false,
    }
}

fn check(id: &str, status: Status, output: &str, owner: Option<&str>) -> Check {
    let mut spec = spec(CheckDefinition::default());
    spec.id = CheckId::new(id).expect("an id");
    spec.service_id = owner.map(|owner| InstanceId::new(owner).expect("an id"));
    spec.to_check(tribune_core::CheckKind::Ttl, status, output.into())
}

fn put(node: &Node, service: Option<ServiceInstance>, checks: Vec<Check>) -> Command {
    Command::Register(Box::new(Registration { node: node.clone(), skip_node_update: false, service, checks }))
}

fn plan(
    node: &Node,
    services: &[ServiceInstance],
    checks: &[Check],
    send_output: bool,
    state: &State,
) -> Plan {
    let checks = checks.iter().map(|check| MyCheck { check: check.clone(), send_output }).collect();
    let mine = Mine { node, services: services.iter().collect(), checks };
    local(&mine, state.view(&Authority::unrestricted()))
}
