//! Members of the pools in the words of the catalog and of the API, and the tags by which a member is known.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use smol_str::SmolStr;
use tribune_api::agent::Member as Listed;
use tribune_core::membership::{Life, Member, ServerRecord};
use tribune_core::{InvalidName, Node, NodeName, Pairs};
use tribune_gossip::{Member as Gossiped, Pool, Status};
use tribune_raft::ServerInfo;

use crate::daemon::Reach;
use crate::settings::{Founding, Role, Settings};
use crate::surveyor::Measurement;
use crate::version;

/// What servers and client agents call themselves among the members.
const SERVER_ROLE: &str = "consul";
const CLIENT_ROLE: &str = "node";

/// The tag that says where other datacenters reach a server.
const WAN_ADDRESS: &str = "wan_address";

/// The record of this node.
pub(crate) fn node(settings: &Settings, id: &str) -> Node {
    let mut meta = settings.identity.meta.clone();
    // Clients filter by it; the whole datacenter is one segment.
    meta.insert("consul-network-segment".to_owned(), String::new());
    Node {
        name: settings.identity.name.clone(),
        id: id.into(),
        address: settings.network.advertise.to_string().into(),
        tagged_addresses: pairs(&settings.network.tagged_addresses),
        meta: pairs(&meta),
    }
}

/// What this node says of itself in the pools.
pub(crate) fn tags(settings: &Settings, id: &str, reach: &Reach, uses_tls: bool) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        tags.insert(key.to_owned(), value);
    };
    put("acls", "0".to_owned());
    put("build", version::CONSUL.to_owned());
    put("dc", settings.datacenter.to_string());
    put("id", id.to_owned());
    put("segment", String::new());
    put("vsn", "2".to_owned());
    put("vsn_max", "3".to_owned());
    put("vsn_min", "2".to_owned());
    let Role::Server { founding, votes } = settings.cluster.role else {
        put("role", CLIENT_ROLE.to_owned());
        return tags;
    };
    put("role", SERVER_ROLE.to_owned());
    put("raft_vsn", "3".to_owned());
    put("port", reach.rpc.map_or(0, |rpc| rpc.port()).to_string());
    if let Some(wan) = reach.wan {
        put("wan_join_port", wan.port().to_string());
        put(WAN_ADDRESS, wan.to_string());
    }
    if uses_tls {
        put("use_tls", "1".to_owned());
    }
    if !votes {
        put("read_replica", "1".to_owned());
        put("nonvoter", "1".to_owned());
    }
    match founding {
        Founding::Alone if !settings.is_dev => put("bootstrap", "1".to_owned()),
        Founding::Together(count) => put("expect", count.to_string()),
        Founding::Alone | Founding::Never => {}
    }
    tags
}

/// Whether a member is a server of its datacenter.
pub(crate) fn is_server(member: &Gossiped) -> bool {
    member.tags.get("role").is_some_and(|role| role == SERVER_ROLE)
}

/// Whether a server is to have a vote.
pub(crate) fn votes(member: &Gossiped) -> bool {
    !member.tags.contains_key("read_replica")
}

/// Where a server takes calls of other nodes.
pub(crate) fn rpc_address(member: &Gossiped) -> Option<SocketAddr> {
    let port: u16 = member.tags.get("port")?.parse().ok()?;
    (port != 0).then(|| SocketAddr::new(member.address.ip(), port))
}

/// Where other datacenters reach a server, if it takes their calls.
pub(crate) fn wan_address(member: &Gossiped) -> Option<SocketAddr> {
    member.tags.get(WAN_ADDRESS)?.parse().ok()
}

/// Where a server is now: the pool knows better than an entry of the log, which may be years old.
pub(crate) fn current_address(pool: &Pool, server: &ServerInfo) -> SocketAddr {
    let members = pool.members();
    let alive_last = |member: &&Gossiped| member.status != Status::Alive;
    let known = members.iter().filter(|member| member.id == server.id).min_by_key(alive_last);
    known.and_then(rpc_address).unwrap_or(server.address)
}

/// The round trips that were measured to living members.
pub(crate) fn round_trips(pool: &Pool) -> Vec<Measurement> {
    let members = pool.members();
    let alive = members.iter().filter(|member| member.status == Status::Alive);
    alive.filter_map(|member| Some((member.name.clone(), member.round_trip?))).collect()
}

/// A server in the words of the agreement.
pub(crate) fn server_info(member: &Gossiped) -> Option<ServerInfo> {
    let name = NodeName::new(member.name.as_str()).ok()?;
    Some(ServerInfo { id: member.id.clone(), name, address: rpc_address(member)? })
}

/// A member as the leader's duties see it. `settled` says whether what the pool tells of failures can be trusted:
/// while too many seem to fail at once, a failed member stays in the catalog as it was.
pub(crate) fn member(member: &Gossiped, own: &Node, settled: bool) -> Result<Member, InvalidName> {
    let node = if member.id == own.id.as_str() { own.clone() } else { recorded(member)? };
    Ok(Member { node, life: life(member.status, settled), server: is_server(member).then(|| server(member)) })
}

/// Whether a member counts as failed.
pub(crate) fn life(status: Status, settled: bool) -> Life {
    match status {
        Status::Alive | Status::Leaving => Life::Alive,
        Status::Failed if settled => Life::Failed,
        Status::Failed => Life::Unsettled,
        Status::Left => Life::Left,
    }
}

/// The record of another node as far as its tags tell; the rest it registers itself.
fn recorded(member: &Gossiped) -> Result<Node, InvalidName> {
    Ok(Node {
        name: NodeName::new(member.name.as_str())?,
        id: member.id.as_str().into(),
        address: member.address.ip().to_string().into(),
        tagged_addresses: Pairs::default(),
        meta: Pairs::default(),
    })
}

fn server(member: &Gossiped) -> ServerRecord {
    let version = member.tags.get("build").map_or(version::CONSUL, String::as_str);
    let replica = if votes(member) { "false" } else { "true" };
    let meta = [
        ("non_voter", replica),
        ("raft_version", "3"),
        ("serf_protocol_current", "2"),
        ("serf_protocol_max", "5"),
        ("serf_protocol_min", "1"),
        ("version", version),
    ];
    let meta = meta.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect();
    let port = rpc_address(member).map_or(0, |address| address.port());
    ServerRecord { port, meta }
}

/// A member as the API lists it.
pub(crate) fn listed(member: &Gossiped) -> Listed {
    Listed {
        name: member.name.clone(),
        addr: member.address.ip().to_string(),
        port: member.address.port(),
        tags: BTreeMap::clone(&member.tags),
        status: match member.status {
            Status::Alive => 1,
            Status::Leaving => 2,
            Status::Left => 3,
            Status::Failed => 4,
        },
        protocol_min: 1,
        protocol_max: 5,
        protocol_cur: 2,
        delegate_min: 2,
        delegate_max: 5,
        delegate_cur: 4,
    }
}

fn pairs(map: &BTreeMap<String, String>) -> Pairs {
    map.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect()
}
