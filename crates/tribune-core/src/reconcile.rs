//! What a node says of itself against what the catalog says of it: the commands that bring the catalog in line.
//!
//! A node is the authority on its own services and checks, so whatever the catalog has beyond them goes, with
//! two exceptions that the leader owns: the instance [`SERVER_INSTANCE`] and the check [`LIVENESS_CHECK`].
//! Applying what [`local`] gives and asking again gives nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Command, Deregistration, Registration, Target};
use crate::ids::Folded;
use crate::model::{Check, Node, ServiceInstance};
use crate::state::{LIVENESS_CHECK, NodeView, View};

/// The instance under which a server of the datacenter itself is registered; the leader puts and removes it.
pub const SERVER_INSTANCE: &str = "consul";

/// How many checks of instances that are known already go into one command: large enough that a thousand
/// changes are a handful of log entries, small enough that one entry stays a small one.
pub const CHECKS_PER_COMMAND: usize = 256;

/// What a node holds to be true of itself.
#[derive(Debug, Clone)]
pub struct Mine<'a> {
    /// Its own record.
    pub node: &'a Node,
    /// Its services.
    pub services: Vec<&'a ServiceInstance>,
    /// Its checks.
    pub checks: Vec<MyCheck>,
}

/// One of the node's own checks.
#[derive(Debug, Clone)]
pub struct MyCheck {
    /// The check.
    pub check: Check,
    /// Whether a new output is reason enough to write the check. Outputs that differ at every probe are held
    /// back for a while, because each write wakes those who watch the service.
    pub send_output: bool,
}

/// What is to be done so that the catalog and the node agree.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What to propose, in this order.
    pub commands: Vec<Command>,
    /// Instances of the node that others may tag, with the tags that others gave them.
    pub adopted: Vec<ServiceInstance>,
}

/// The differences between a node's own list and the catalog.
pub fn local(mine: &Mine<'_>, view: View<'_>) -> Plan {
    let remote = view.node(mine.node.name.as_str());
    let mut plan = Plan::default();
    if !remote.is_some_and(|remote| same_node(mine.node, &remote.node().value)) {
        plan.commands.push(register(mine.node, false, None, Vec::new()));
    }
    let mut changed = changed_checks(mine, remote);
    for service in &mine.services {
        let known = remote.and_then(|remote| remote.instance(service.id.as_str()));
        let known = known.map(|known| &known.service.value);
        let wanted = with_foreign_tags(service, known);
        if wanted.tags != service.tags {
            plan.adopted.push(wanted.clone());
        }
        if known != Some(&wanted) {
            let checks = changed.remove(&Some(service.id.folded())).unwrap_or_default();
            plan.commands.push(register(mine.node, true, Some(wanted), checks));
        }
    }
    let rest: Vec<Check> = changed.into_values().flatten().collect();
    for chunk in rest.chunks(CHECKS_PER_COMMAND) {
        plan.commands.push(register(mine.node, true, None, chunk.to_vec()));
    }
    if let Some(remote) = remote {
        plan.commands.extend(superfluous(mine, remote));
    }
    plan
}

/// A registration of part of a node. Its own record is written only when the catalog has none.
pub fn register(
    node: &Node,
    skip_node: bool,
    service: Option<ServiceInstance>,
    checks: Vec<Check>,
) -> Command {
    Command::Register(Box::new(Registration {
        node: node.clone(),
        skip_node_update: skip_node,
        service,
        checks,
    }))
}

/// Of a node without an id the catalog keeps the one it knows.
fn same_node(mine: &Node, remote: &Node) -> bool {
    let same_id = mine.id.is_empty() || mine.id == remote.id;
    same_id && Node { id: mine.id.clone(), ..remote.clone() } == *mine
}

/// The checks that are missing or different, by the instance they belong to.
fn changed_checks(mine: &Mine<'_>, remote: Option<NodeView<'_>>) -> BTreeMap<Option<Folded>, Vec<Check>> {
    let mut changed: BTreeMap<Option<Folded>, Vec<Check>> = BTreeMap::new();
    for MyCheck { check, send_output } in &mine.checks {
        let known = remote.and_then(|remote| remote.check(check.id.as_str()));
        if !known.is_some_and(|known| same_check(check, &known.check.value, *send_output)) {
            let owner = check.service_id.as_ref().map(|id| id.folded());
            changed.entry(owner).or_default().push(check.clone());
        }
    }
    changed
}

fn same_check(mine: &Check, remote: &Check, send_output: bool) -> bool {
    if send_output {
        return mine == remote;
    }
    *mine == Check { output: mine.output.clone(), ..remote.clone() }
}

/// The instance as the node wants it, which is with the catalog's tags when it lets others tag it.
fn with_foreign_tags(mine: &ServiceInstance, known: Option<&ServiceInstance>) -> ServiceInstance {
    match known {
        Some(known) if mine.enable_tag_override => {
            ServiceInstance { tags: known.tags.clone(), ..mine.clone() }
        }
        _ => mine.clone(),
    }
}

/// Takes away what the node does not know of. The checks of an instance go with it.
fn superfluous<'a>(mine: &'a Mine<'_>, remote: NodeView<'a>) -> impl Iterator<Item = Command> + use<'a> {
    let services: BTreeSet<Folded> = mine.services.iter().map(|service| service.id.folded()).collect();
    let checks: BTreeSet<Folded> = mine.checks.iter().map(|check| check.check.id.folded()).collect();
    let node = remote.name();
    let gone: Vec<_> = remote
        .instances()
        .map(|instance| &instance.service.value.id)
        .filter(|id| id.as_str() != SERVER_INSTANCE && !services.contains(&id.folded()))
        .collect();
    let goes_along: BTreeSet<Folded> = gone.iter().map(|id| id.folded()).collect();
    let stray = remote.checks().map(|check| &check.check.value).filter(move |check| {
        let owner = check.service_id.as_ref().map(|id| id.folded());
        let leaders = check.id.as_str() == LIVENESS_CHECK
            || check.service_id.as_ref().is_some_and(|id| id.as_str() == SERVER_INSTANCE);
        !leaders
            && !checks.contains(&check.id.folded())
            && !owner.is_some_and(|owner| goes_along.contains(&owner))
    });
    let targets = gone.into_iter().map(|id| Target::Instance(id.clone()));
    let targets = targets.chain(stray.map(|check| Target::Check(check.id.clone())));
    targets.map(move |target| Command::Deregister(Deregistration { node: node.clone(), target }))
}
