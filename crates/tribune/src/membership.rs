//! This server as a member of its datacenter: its record in the catalog and the tags that others read.

use std::collections::BTreeMap;

use smol_str::SmolStr;
use tribune_api::agent::Member as Listed;
use tribune_core::membership::{Life, Member, ServerRecord};
use tribune_core::{Node, Pairs};

use crate::settings::Settings;
use crate::version;

/// Members that are alive, as [`Listed`] numbers it.
const ALIVE: u8 = 1;

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

/// This server as the leader's duties see it.
pub(crate) fn member(settings: &Settings, node: Node) -> Member {
    let meta = [
        ("non_voter", "false"),
        ("raft_version", "3"),
        ("serf_protocol_current", "2"),
        ("serf_protocol_max", "5"),
        ("serf_protocol_min", "1"),
        ("version", version::CONSUL),
    ];
    let meta = meta.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect();
    let server = Some(ServerRecord { port: settings.network.server_port, meta });
    Member { node, life: Life::Alive, server }
}

/// This server as the API lists it; in the pool of all servers its name holds the datacenter.
pub(crate) fn listed(settings: &Settings, node: &Node, wan: bool) -> Listed {
    let network = &settings.network;
    let (name, addr, port) = if wan {
        let name = format!("{}.{}", node.name, settings.datacenter);
        (name, network.advertise_wan, network.serf_wan_port.unwrap_or(0))
    } else {
        (node.name.to_string(), network.advertise, network.serf_lan_port)
    };
    Listed {
        name,
        addr: addr.to_string(),
        port,
        tags: tags(settings, node),
        status: ALIVE,
        protocol_min: 1,
        protocol_max: 5,
        protocol_cur: 2,
        delegate_min: 2,
        delegate_max: 5,
        delegate_cur: 4,
    }
}

fn tags(settings: &Settings, node: &Node) -> BTreeMap<String, String> {
    let network = &settings.network;
    let mut tags: BTreeMap<String, String> = [
        ("acls", "0".to_owned()),
        ("build", version::CONSUL.to_owned()),
        ("dc", settings.datacenter.to_string()),
        ("id", node.id.to_string()),
        ("port", network.server_port.to_string()),
        ("raft_vsn", "3".to_owned()),
        ("role", "consul".to_owned()),
        ("segment", String::new()),
        ("vsn", "2".to_owned()),
        ("vsn_max", "3".to_owned()),
        ("vsn_min", "2".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(port) = network.serf_wan_port {
        tags.insert("wan_join_port".to_owned(), port.to_string());
    }
    if settings.is_bootstrap {
        tags.insert("bootstrap".to_owned(), "1".to_owned());
    }
    tags
}

fn pairs(map: &BTreeMap<String, String>) -> Pairs {
    map.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect()
}
