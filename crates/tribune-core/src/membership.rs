//! The members of a datacenter against its catalog: the commands by which a leader keeps the catalog true.
//!
//! Which nodes exist and live is known from the members. A node that carries [`LIVENESS_CHECK`] was put here by a
//! leader and goes when its member goes; nodes without that check were registered by somebody else and are left
//! alone. Applying what [`duties`] gives and asking again gives nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::command::{Command, Deregistration, Registration, Target};
use crate::ids::{CheckId, Folded, InstanceId, InvalidName, NodeName, ServiceName};
use crate::model::{Check, Node, Pairs, ServiceInstance, Status, Weights};
use crate::reconcile::SERVER_INSTANCE;
use crate::state::{LIVENESS_CHECK, NodeView, View};

/// What the liveness check is called for people.
pub const LIVENESS_NAME: &str = "Serf Health Status";
/// What it says of a node that lives.
pub const ALIVE: &str = "Agent alive and reachable";
/// What it says of a node that does not.
pub const NOT_ALIVE: &str = "Agent not live or unreachable";

/// A node as the members of the datacenter know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The record that the node gets when the catalog does not have it yet, or under another address or id.
    pub node: Node,
    /// How it is.
    pub life: Life,
    /// What servers are known by besides; `None` for nodes that are not servers.
    pub server: Option<ServerRecord>,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It answers.
    Alive,
    /// It stopped answering without a word.
    Failed,
    /// It said good-bye.
    Left,
    /// It seems to have failed together with many others, which may be the fault of whoever watches: it is left
    /// in the catalog as it is.
    Unsettled,
}

/// How a server appears among the services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// Port for other servers.
    pub port: u16,
    /// What it says of itself.
    pub meta: Pairs,
}

/// What becomes of nodes that a leader put into the catalog and that are no members any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// They are removed.
    Go,
    /// They stay: the list of members may not be complete yet, as after a start.
    Stay,
}

/// What is to be proposed so that the catalog shows the members as they are.
pub fn duties(members: &[Member], strangers: Strangers, view: View<'_>) -> Result<Vec<Command>, InvalidName> {
    let mut commands = Vec::new();
    for member in members {
        let known = view.node(member.node.name.as_str());
        match member.life {
            Life::Alive => {
                commands.extend(release(member, known, members, strangers)?);
                commands.extend(welcome(member, known)?);
            }
            Life::Failed => {
                // Under its name another one may live by now.
                let same = known.filter(|known| known.node().value.id == member.node.id);
                commands.extend(mark_failed(member, same)?);
            }
            Life::Left => {
                let is_it = |known: &NodeView<'_>| {
                    known.check(LIVENESS_CHECK).is_some() && known.node().value.id == member.node.id
                };
                commands.extend(known.filter(is_it).map(|_| farewell(&member.node.name)));
            }
            Life::Unsettled => {}
        }
    }
    if strangers == Strangers::Stay {
        return Ok(commands);
    }
    let present: BTreeSet<Folded> = members.iter().map(|member| member.node.name.folded()).collect();
    for node in view.nodes().filter(|node| !present.contains(&node.name().folded())) {
        if node.check(LIVENESS_CHECK).is_some() {
            commands.push(farewell(node.name()));
        }
    }
    Ok(commands)
}

/// A node that lost its data comes back with another id, often before anybody saw it fail, and the catalog keeps a
/// name for a holder that seems to live. No member has that id any more: it is marked dead, which frees the name.
fn release(
    member: &Member,
    known: Option<NodeView<'_>>,
    members: &[Member],
    strangers: Strangers,
) -> Result<Option<Command>, InvalidName> {
    let Some(known) = known else { return Ok(None) };
    let holder = &known.node().value;
    let is_other = !holder.id.is_empty() && !member.node.id.is_empty() && holder.id != member.node.id;
    let is_lively = |other: &Member| matches!(other.life, Life::Alive | Life::Unsettled);
    let lives = || members.iter().any(|other| other.node.id == holder.id && is_lively(other));
    // While not all members may be known yet, only the same address tells that the holder cannot be there.
    let is_certain = strangers == Strangers::Go || holder.address == member.node.address;
    // Looking through all members comes last: it is hardly ever needed, and this is asked for each of them.
    if !is_other || !is_certain || known.check(LIVENESS_CHECK).is_none() || lives() {
        return Ok(None);
    }
    mark_failed(&Member { node: holder.clone(), ..member.clone() }, Some(known))
}

/// Puts what the catalog lacks of a living node, in one command.
fn welcome(member: &Member, known: Option<NodeView<'_>>) -> Result<Option<Command>, InvalidName> {
    let service = member.server.as_ref().map(server_instance).transpose()?;
    let check = liveness(Status::Passing, ALIVE)?;
    let same_node = known.is_some_and(|known| same_place(&known.node().value, &member.node));
    let same_service = service.as_ref().is_none_or(|service| {
        known.and_then(|known| known.instance(SERVER_INSTANCE)).is_some_and(|it| it.service.value == *service)
    });
    // The check of another holder of the name says nothing of this one.
    let same_check = known
        .filter(|known| known.node().value.id == member.node.id)
        .and_then(|known| known.check(LIVENESS_CHECK))
        .is_some_and(|it| it.check.value.status == Status::Passing);
    if same_node && same_service && same_check {
        return Ok(None);
    }
    Ok(Some(Command::Register(Box::new(Registration {
        node: member.node.clone(),
        // Metadata and tagged addresses are the node's own to say; once it is known they are left alone.
        skip_node_update: same_node,
        service: service.filter(|_| !same_service),
        checks: if same_check { Vec::new() } else { vec![check] },
    }))))
}

/// A node that failed keeps its services; the critical check takes them out of the answers. One that the catalog
/// does not have is not put there for that.
fn mark_failed(member: &Member, known: Option<NodeView<'_>>) -> Result<Option<Command>, InvalidName> {
    let Some(known) = known else { return Ok(None) };
    let is_marked = known.check(LIVENESS_CHECK).is_some_and(|it| it.check.value.status == Status::Critical);
    if is_marked {
        return Ok(None);
    }
    Ok(Some(Command::Register(Box::new(Registration {
        node: member.node.clone(),
        skip_node_update: true,
        service: None,
        checks: vec![liveness(Status::Critical, NOT_ALIVE)?],
    }))))
}

fn farewell(node: &NodeName) -> Command {
    Command::Deregister(Deregistration { node: node.clone(), target: Target::Node })
}

fn same_place(known: &Node, wanted: &Node) -> bool {
    known.name == wanted.name && known.id == wanted.id && known.address == wanted.address
}

fn server_instance(server: &ServerRecord) -> Result<ServiceInstance, InvalidName> {
    Ok(ServiceInstance {
        id: InstanceId::new(SERVER_INSTANCE)?,
        name: ServiceName::new(SERVER_INSTANCE)?,
        tags: Box::default(),
        address: SmolStr::default(),
        tagged_addresses: Pairs::default(),
        meta: server.meta.clone(),
        port: server.port,
        socket_path: SmolStr::default(),
        weights: Weights::default(),
        enable_tag_override: false,
        connect_native: false,
    })
}

fn liveness(status: Status, output: &str) -> Result<Check, InvalidName> {
    Ok(Check {
        id: CheckId::new(LIVENESS_CHECK)?,
        name: LIVENESS_NAME.into(),
        status,
        notes: SmolStr::default(),
        output: Arc::from(output),
        service_id: None,
        kind: SmolStr::default(),
        definition: None,
        interval: SmolStr::default(),
        timeout: SmolStr::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::ids::Index;
    use crate::state::State;

    fn member(name: &str, life: Life) -> Member {
        let server = Some(ServerRecord { port: 8300, meta: Pairs::default() });
        Member { node: node(name), life, server }
    }

    fn node(name: &str) -> Node {
        Node {
            name: NodeName::new(name).unwrap(),
            id: format!("id-of-{name}").into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        }
    }

    /// Applies the duties and shows that nothing is left to do.
    fn settle(state: &mut State, members: &[Member]) -> usize {
        let all = Authority::unrestricted();
        let commands = duties(members, Strangers::Go, state.view(&all)).unwrap();
        for command in &commands {
            state.apply(Index(state.index().0 + 1), command);
        }
        assert_eq!(duties(members, Strangers::Go, state.view(&all)).unwrap(), []);
        commands.len()
    }

    fn status(state: &State, name: &str) -> Option<Status> {
        let all = Authority::unrestricted();
        Some(state.view(&all).node(name)?.check(LIVENESS_CHECK)?.check.value.status)
    }

    #[test]
    fn living_members_are_registered_once() {
        let mut state = State::default();
        assert_eq!(settle(&mut state, &[member("a", Life::Alive)]), 1);
        assert_eq!(settle(&mut state, &[member("a", Life::Alive)]), 0);
        assert_eq!(status(&state, "a"), Some(Status::Passing));
        let all = Authority::unrestricted();
        assert_eq!(state.view(&all).instances("consul").next().unwrap().service.value.port, 8300);
    }

    #[test]
    fn what_a_node_says_of_itself_is_left_alone() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive)]);
        let mut own = node("a");
        own.meta = [("rack".into(), "7".into())].into_iter().collect();
        let registration = Registration { node: own, skip_node_update: false, service: None, checks: vec![] };
        state.apply(Index(9), &Command::Register(Box::new(registration)));
        assert_eq!(settle(&mut state, &[member("a", Life::Alive)]), 0);
        settle(&mut state, &[member("a", Life::Failed)]);
        settle(&mut state, &[member("a", Life::Alive)]);
        let all = Authority::unrestricted();
        assert_eq!(state.view(&all).node("a").unwrap().node().value.meta.get("rack").unwrap(), "7");
    }

    #[test]
    fn failed_members_turn_critical_and_come_back() {
        let mut state = State::default();
        assert_eq!(settle(&mut state, &[member("a", Life::Failed)]), 0);
        settle(&mut state, &[member("a", Life::Alive)]);
        settle(&mut state, &[member("a", Life::Failed)]);
        assert_eq!(status(&state, "a"), Some(Status::Critical));
        settle(&mut state, &[member("a", Life::Alive)]);
        assert_eq!(status(&state, "a"), Some(Status::Passing));
    }

    #[test]
    fn gone_members_go_and_foreign_nodes_stay() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive), member("b", Life::Alive), member("c", Life::Alive)]);
        let foreign =
            Registration { node: node("external"), skip_node_update: false, service: None, checks: vec![] };
        state.apply(Index(9), &Command::Register(Box::new(foreign)));
        assert_eq!(settle(&mut state, &[member("a", Life::Alive), member("b", Life::Left)]), 2);
        let all = Authority::unrestricted();
        let names: Vec<&str> = state.view(&all).nodes().map(|node| node.name().as_str()).collect();
        assert_eq!(names, ["a", "external"]);
    }

    #[test]
    fn strangers_stay_while_the_list_of_members_may_be_incomplete() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive), member("b", Life::Alive)]);
        let all = Authority::unrestricted();
        assert_eq!(duties(&[member("a", Life::Alive)], Strangers::Stay, state.view(&all)).unwrap(), []);
    }

    #[test]
    fn a_failure_that_is_not_settled_changes_nothing() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive)]);
        assert_eq!(settle(&mut state, &[member("a", Life::Unsettled)]), 0);
        assert_eq!(status(&state, "a"), Some(Status::Passing));
    }

    #[test]
    fn a_node_that_lost_its_data_gets_its_name_back() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive)]);
        let mut reborn = member("a", Life::Alive);
        reborn.node.id = "another".into();
        // While the holder is a member too, it keeps the name.
        let all = Authority::unrestricted();
        let both = [member("a", Life::Alive), reborn.clone()];
        for command in duties(&both, Strangers::Go, state.view(&all)).unwrap() {
            state.apply(Index(state.index().0 + 1), &command);
        }
        assert_eq!(state.view(&all).node("a").unwrap().node().value.id, "id-of-a");
        // From elsewhere it waits until all members are known.
        let mut elsewhere = reborn.clone();
        elsewhere.node.address = "10.0.0.2".into();
        let commands = duties(&[elsewhere], Strangers::Stay, state.view(&all)).unwrap();
        assert_eq!(commands.len(), 1, "{commands:?}");
        assert_eq!(settle(&mut state, &[reborn]), 2);
        assert_eq!(state.view(&all).node("a").unwrap().node().value.id, "another");
        assert_eq!(status(&state, "a"), Some(Status::Passing));
    }

    #[test]
    fn a_good_bye_concerns_the_node_that_said_it() {
        let mut state = State::default();
        settle(&mut state, &[member("a", Life::Alive)]);
        let mut namesake = member("a", Life::Left);
        namesake.node.id = "another".into();
        assert_eq!(settle(&mut state, &[namesake]), 0);
        assert_eq!(status(&state, "a"), Some(Status::Passing));
    }
}
