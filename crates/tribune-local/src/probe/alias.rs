//! Alias checks: the worst state among the checks of another service or node.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tribune_core::check::{OUTPUT_BYTES_DEFAULT, captured};
use tribune_core::{Authority, Folded, State, Status, Topic};

use super::Finding;
use crate::catalog::Catalog;
use crate::snapshot::LocalCheck;

/// How long another node is watched before the answer is given again, changed or not.
const WATCH: Duration = Duration::from_secs(60);

/// How long to wait when the catalog cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// A check that an alias looks at.
pub(crate) struct Seen<'a> {
    pub(crate) name: &'a str,
    pub(crate) status: Status,
    pub(crate) output: &'a str,
}

/// The state that an alias copies: the first check of the worst status.
pub(crate) fn worst<'a>(checks: impl Iterator<Item = Seen<'a>>) -> (Status, String) {
    let mut found: Option<Seen<'a>> = None;
    for check in checks {
        if found.as_ref().is_none_or(|worst| check.status > worst.status) {
            found = Some(check);
        }
    }
    match found {
        None => (Status::Passing, "No checks found.".into()),
        Some(check) if check.status == Status::Passing => (Status::Passing, "All checks passing.".into()),
        Some(Seen { name, status, output }) => {
            let text = format!("Aliased check {name:?} failing: {output}");
            (status, captured(&text, OUTPUT_BYTES_DEFAULT).into_owned())
        }
    }
}

/// Waits until the state on the other node is another than the alias shows, and gives that.
pub(super) async fn watch(catalog: &dyn Catalog, alias: &LocalCheck) -> Finding {
    let definition = &alias.spec.definition;
    let topic = Topic::Node(Folded::new(&definition.alias_node));
    let until = Instant::now() + WATCH;
    let mut state = loop {
        match catalog.state().await {
            Ok(state) => break state,
            Err(error) if Instant::now() >= until => {
                return Finding::critical(format!("the catalog cannot be read: {error}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    };
    loop {
        let finding = behind(&state, &definition.alias_node, &definition.alias_service);
        let same = finding.status == alias.status && finding.output == *alias.output;
        if !same || Instant::now() >= until {
            return finding;
        }
        state = catalog.changed(&topic, state.index_of(&topic), until).await;
    }
}

fn behind(state: &State, node: &str, service: &str) -> Finding {
    let authority = Authority::unrestricted();
    let Some(found) = state.view(&authority).node(node) else {
        return Finding::critical(format!("Node {node} could not be found"));
    };
    if !service.is_empty() && found.instance(service).is_none() {
        return Finding::critical(format!("Service {service} could not be found on node {node}"));
    }
    let wanted = Folded::new(service);
    let checks = found
        .checks()
        .map(|check| &check.check.value)
        .filter(|check| check.service_id.as_ref().is_none_or(|owner| owner.folded() == wanted));
    let (status, output) =
        worst(checks.map(|check| Seen { name: &check.name, status: check.status, output: &check.output }));
    Finding { status, output }
}
