//! What the agents say of themselves: who leads, who is there, which instances are offered. Looked at several times
//! a second; what is different from the last look is what happened meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use super::ask;
use super::dig;
use super::plan::{BILLING, DATACENTERS, Node, Plan, WEB};
use super::screen::listed;

/// How long one question of a look may take. Agents that do not answer in this time do not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A look at everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Who leads each datacenter: most of its servers say so, and it runs.
    pub(super) leaders: BTreeMap<&'static str, String>,
    /// Servers that know that leader themselves.
    pub(super) informed: BTreeSet<String>,
    /// The state of each server as others in its datacenter see it.
    pub(super) servers: BTreeMap<String, MemberStatus>,
    /// The state of each server of another datacenter, by the datacenter that sees it and its name there.
    pub(super) remote: BTreeMap<(&'static str, String), MemberStatus>,
    /// Ports of the instances that DNS gives in each datacenter, by the name that is asked for; missing if DNS does
    /// not answer.
    pub(super) offered: BTreeMap<(&'static str, String), Vec<u16>>,
}

/// The state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberStatus {
    Alive,
    Leaving,
    Left,
    Failed,
}

impl MemberStatus {
    fn of(number: Option<u64>) -> Option<Self> {
        match number {
            Some(1) => Some(Self::Alive),
            Some(2) => Some(Self::Leaving),
            Some(3) => Some(Self::Left),
            Some(4) => Some(Self::Failed),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "is alive",
            Self::Leaving => "is leaving",
            Self::Left => "has left",
            Self::Failed => "has failed",
        }
    }
}

/// The name under which a service is asked for; with a datacenter it is that one's.
pub(super) fn dns_name(service: &str, datacenter: Option<&str>) -> String {
    match datacenter {
        Some(datacenter) => format!("{service}.service.{datacenter}.consul"),
        None => format!("{service}.service.consul"),
    }
}

/// Where DNS finds a service.
pub(super) fn on_ports(ports: &[u16]) -> String {
    match ports {
        [] => "has no instance".to_owned(),
        [port] => format!("is on port {port}"),
        _ => format!("is on ports {}", listed(ports)),
    }
}

impl View {
    /// Asks the agents that run.
    pub(super) async fn take(plan: &Plan, runs: impl Fn(&str) -> bool) -> Self {
        let mut view = Self::default();
        let parts = join_all(DATACENTERS.map(|datacenter| {
            let running: Vec<&Node> = plan.servers(datacenter).filter(|node| runs(&node.name)).collect();
            part(plan, datacenter, running)
        }));
        for part in parts.await {
            view.leaders.extend(part.leaders);
            view.informed.extend(part.informed);
            view.servers.extend(part.servers);
            view.remote.extend(part.remote);
            view.offered.extend(part.offered);
        }
        view
    }

    /// Whether each datacenter sees a living server of the other.
    pub(super) fn is_joined(&self) -> bool {
        DATACENTERS.iter().all(|datacenter| {
            let mut remote = self.remote.iter().filter(|((from, _), _)| from == datacenter);
            remote.any(|(_, status)| *status == MemberStatus::Alive)
        })
    }

    /// How many servers of a datacenter are alive.
    pub(super) fn alive(&self, plan: &Plan, datacenter: &str) -> usize {
        let alive = |node: &&Node| self.servers.get(&node.name) == Some(&MemberStatus::Alive);
        plan.servers(datacenter).filter(alive).count()
    }

    /// The ports that DNS in `datacenter` gives for a name.
    pub(super) fn ports(&self, datacenter: &'static str, name: &str) -> &[u16] {
        self.offered.get(&(datacenter, name.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// What happened since `before`, a line for each thing.
    pub(super) fn news(&self, before: &Self) -> Vec<String> {
        let mut news = Vec::new();
        for datacenter in DATACENTERS {
            match (before.leaders.get(datacenter), self.leaders.get(datacenter)) {
                (old, Some(new)) if old != Some(new) => news.push(format!("{datacenter}: {new} leads")),
                (Some(old), None) => news.push(format!("{datacenter}: no leader; it was {old}")),
                _ => {}
            }
        }
        for (name, status) in &self.servers {
            if before.servers.get(name).is_some_and(|old| old != status) {
                news.push(format!("{name} {}", status.as_str()));
            }
        }
        for ((from, name), status) in &self.remote {
            if before.remote.get(&(from, name.clone())) != Some(status) {
                news.push(format!("{from} sees that {name} {}", status.as_str()));
            }
        }
        for ((from, name), ports) in &self.offered {
            let Some(old) = before.offered.get(&(from, name.clone())).filter(|old| *old != ports) else {
                continue;
            };
            let gone: Vec<u16> = old.iter().filter(|port| !ports.contains(port)).copied().collect();
            let new: Vec<u16> = ports.iter().filter(|port| !old.contains(port)).copied().collect();
            let mut line = format!("{from}: {name} {}", on_ports(ports));
            if !gone.is_empty() {
                line.push_str(&format!("; gone: {}", listed(&gone)));
            }
            if !new.is_empty() {
                line.push_str(&format!("; new: {}", listed(&new)));
            }
            news.push(line);
        }
        news
    }
}

async fn part(plan: &Plan, datacenter: &'static str, running: Vec<&Node>) -> View {
    let mut view = View::default();
    let Some(first) = running.first() else { return view };
    let leaders = join_all(running.iter().map(|node| leader(node.http)));
    let names = asked_names(datacenter);
    let names_ref = &names;
    let answers = join_all(names_ref.iter().map(|name| dig::srv(first.dns, name, PATIENCE)));
    let (leaders, answers, lan, wan) = tokio::join!(
        leaders,
        answers,
        members(first.http, "/v1/agent/members"),
        members(first.http, "/v1/agent/members?wan=1")
    );
    let runs = |leader: &Node| running.iter().any(|node| node.name == leader.name);
    if let Some(leader) = agreed(plan, datacenter, &leaders).filter(|leader| runs(leader)) {
        view.leaders.insert(datacenter, leader.name.clone());
        let names_it = |named: &Option<SocketAddr>| named.is_some_and(|it| it.ip() == leader.address);
        let informed = running.iter().zip(&leaders).filter(|(_, named)| names_it(named));
        view.informed = informed.map(|(node, _)| node.name.clone()).collect();
    }
    view.servers = lan.into_iter().map(|(name, _, status)| (name, status)).collect();
    let remote = wan.into_iter().filter(|(_, of, _)| of != datacenter);
    view.remote = remote.map(|(name, _, status)| ((datacenter, name), status)).collect();
    for (name, answer) in names.into_iter().zip(answers) {
        if let Ok(found) = answer
            && matches!(found.code, 0 | 3)
        {
            view.offered.insert((datacenter, name), found.ports);
        }
    }
    view
}

/// The leader that most servers of the datacenter name, of all that there are.
fn agreed<'a>(plan: &'a Plan, datacenter: &str, named: &[Option<SocketAddr>]) -> Option<&'a Node> {
    let majority = plan.servers(datacenter).count() / 2 + 1;
    let votes = |address: &SocketAddr| named.iter().flatten().filter(|other| *other == address).count();
    let address = named.iter().flatten().find(|address| votes(address) >= majority)?;
    plan.at(*address)
}

/// What DNS is asked in a datacenter: what it has itself, and in the first one what only the second has.
fn asked_names(datacenter: &str) -> Vec<String> {
    let own = dns_name(WEB, None);
    if datacenter == DATACENTERS[0] { vec![own, dns_name(BILLING, Some(DATACENTERS[1]))] } else { vec![own] }
}

async fn leader(agent: SocketAddr) -> Option<SocketAddr> {
    let reply = ask::get(agent, "/v1/status/leader", &[], PATIENCE).await.ok()?;
    reply.json().as_str()?.parse().ok()
}

/// Name, datacenter and state of the members that an agent knows.
async fn members(agent: SocketAddr, target: &str) -> Vec<(String, String, MemberStatus)> {
    let Ok(reply) = ask::get(agent, target, &[], PATIENCE).await else { return Vec::new() };
    let list = reply.json();
    list.as_array().into_iter().flatten().filter_map(member).collect()
}

fn member(entry: &Value) -> Option<(String, String, MemberStatus)> {
    let status = MemberStatus::of(entry["Status"].as_u64())?;
    Some((entry["Name"].as_str()?.to_owned(), entry["Tags"]["dc"].as_str()?.to_owned(), status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::tests::plan;

    fn view(leader: Option<&str>, remote: MemberStatus, ports: &[u16]) -> View {
        let mut view = View::default();
        view.leaders.extend(leader.map(|name| ("dc1", name.to_owned())));
        view.servers.insert("dc1-1".into(), MemberStatus::Alive);
        view.remote.insert(("dc1", "dc2-1.dc2".into()), remote);
        view.remote.insert(("dc2", "dc1-1.dc1".into()), MemberStatus::Alive);
        view.offered.insert(("dc1", "web.service.consul".into()), ports.to_vec());
        view
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let before = view(Some("dc1-1"), MemberStatus::Alive, &[8081, 8082]);
        assert_eq!(before.news(&before), Vec::<String>::new());
        let after = view(Some("dc1-2"), MemberStatus::Failed, &[8082, 8083]);
        assert_eq!(
            after.news(&before),
            [
                "dc1: dc1-2 leads",
                "dc1 sees that dc2-1.dc2 has failed",
                "dc1: web.service.consul is on ports 8082 and 8083; gone: 8081; new: 8083",
            ]
        );
        let headless = view(None, MemberStatus::Failed, &[8082, 8083]);
        assert_eq!(headless.news(&after), ["dc1: no leader; it was dc1-2"]);
    }

    #[test]
    fn the_first_look_tells_of_leaders_and_other_datacenters() {
        let first = view(Some("dc1-1"), MemberStatus::Alive, &[8081]);
        let news = first.news(&View::default());
        assert_eq!(news.len(), 3, "{news:?}");
        assert!(first.is_joined());
        assert!(!view(None, MemberStatus::Failed, &[]).is_joined());
    }

    #[test]
    fn a_leader_is_one_that_most_servers_name() {
        let plan = plan(3);
        let named = |numbers: &[u8]| {
            let address = |&number: &u8| (number > 0).then(|| SocketAddr::from(([127, 0, 1, number], 8300)));
            numbers.iter().map(address).collect::<Vec<_>>()
        };
        let leader =
            |datacenter: &str, named: &[_]| agreed(&plan, datacenter, named).map(|it| it.name.clone());
        assert_eq!(leader("dc1", &named(&[2, 2, 0])).as_deref(), Some("dc1-2"));
        assert_eq!(leader("dc1", &named(&[0, 3, 3])).as_deref(), Some("dc1-3"));
        assert_eq!(leader("dc1", &named(&[1, 2, 3])), None);
        assert_eq!(leader("dc1", &named(&[2])), None, "one of three is not most of them");
        let alone = [Some(([127, 0, 2, 1], 8300).into())];
        assert_eq!(leader("dc2", &alone).as_deref(), Some("dc2-1"));
    }

    #[test]
    fn members_are_read_as_the_api_gives_them() {
        let entry = serde_json::json!({"Name": "dc2-1.dc2", "Status": 4, "Tags": {"dc": "dc2"}});
        assert_eq!(member(&entry), Some(("dc2-1.dc2".into(), "dc2".into(), MemberStatus::Failed)));
        assert_eq!(member(&serde_json::json!({"Name": "x"})), None);
    }
}
