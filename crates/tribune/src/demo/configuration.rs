//! The configuration of each agent: Consul's keys, nothing else, so that whoever looks into the folder sees what
//! they would write themselves.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::plan::{Instance, Node, Plan};

/// Certificate files of one server.
#[derive(Debug, Clone)]
pub(super) struct CertificateFiles {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What the agents of a datacenter share, and nobody else knows.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    /// The key of the gossip in each datacenter.
    pub(super) gossip_key: String,
    pub(super) certificates: CertificateFiles,
}

/// The configuration of `node`, which keeps its data in `data_dir`.
pub(super) fn of(plan: &Plan, node: &Node, data_dir: &Path, secrets: &Secrets) -> Value {
    let peers = plan.servers(node.datacenter).filter(|peer| peer.name != node.name);
    let peers: Vec<String> = peers.map(|peer| format!("{}:{}", peer.address, plan.ports.serf_lan)).collect();
    let others = plan.nodes.iter().filter(|other| other.datacenter != node.datacenter);
    let others: Vec<String> =
        others.map(|other| format!("{}:{}", other.wan_address, plan.ports.serf_wan)).collect();
    let CertificateFiles { authority, certificate, key } = &secrets.certificates;
    json!({
        "node_name": node.name,
        "datacenter": node.datacenter,
        "server": true,
        "bootstrap_expect": plan.servers(node.datacenter).count(),
        "data_dir": data_dir,
        "bind_addr": node.address.to_string(),
        "serf_wan": node.address.to_string(),
        "advertise_addr_wan": node.wan_address.to_string(),
        "client_addr": node.http.ip().to_string(),
        "ports": {
            "http": node.http.port(),
            "dns": node.dns.port(),
            "server": plan.ports.server,
            "serf_lan": plan.ports.serf_lan,
            "serf_wan": plan.ports.serf_wan,
        },
        "retry_join": peers,
        "retry_interval": "1s",
        "retry_join_wan": others,
        "retry_interval_wan": "1s",
        "encrypt": secrets.gossip_key,
        "ca_file": authority,
        "cert_file": certificate,
        "key_file": key,
        "verify_incoming": true,
        "verify_outgoing": true,
        "verify_server_hostname": true,
        "performance": { "raft_multiplier": 1 },
        "log_level": "info",
        "services": node.instances.iter().map(service).collect::<Vec<_>>(),
    })
}

fn service(instance: &Instance) -> Value {
    json!({
        "name": instance.service,
        "id": instance.id,
        "address": instance.address.ip().to_string(),
        "port": instance.address.port(),
        "tags": ["demo"],
        "check": {
            "name": "answers HTTP",
            "http": format!("http://{}/", instance.address),
            "interval": "1s",
            "timeout": "1s",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::syntax::Format;
    use crate::config::{Source, Sources};
    use crate::demo::plan::tests::plan;

    fn configuration(name: &str) -> Value {
        let plan = plan(3);
        let node = plan.nodes.iter().find(|node| node.name == name).unwrap();
        let file = |name: &str| PathBuf::from("/demo").join(name);
        let certificates =
            CertificateFiles { authority: file("ca.pem"), certificate: file("c.pem"), key: file("k.pem") };
        let secrets =
            Secrets { gossip_key: "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=".into(), certificates };
        of(&plan, node, Path::new("/demo/data"), &secrets)
    }

    #[test]
    fn servers_name_their_peers_and_the_other_datacenter() {
        let first = configuration("dc1-1");
        assert_eq!(first["bootstrap_expect"], 3);
        assert_eq!(first["retry_join"], json!(["127.0.1.2:8301", "127.0.1.3:8301"]));
        assert_eq!(first["retry_join_wan"], json!(["127.0.12.1:8302"]));
        let alone = configuration("dc2-1");
        assert_eq!(alone["bootstrap_expect"], 1);
        assert_eq!(alone["retry_join"], json!([]));
        assert_eq!(alone["retry_join_wan"], json!(["127.0.11.1:8302", "127.0.11.2:8302", "127.0.11.3:8302"]));
        assert_eq!(alone["services"].as_array().unwrap().len(), 4);
    }

    /// Every key is one that agents know.
    #[test]
    fn agents_can_read_it() {
        let files = vec![Source::Fragment(configuration("dc2-1").to_string())];
        let (config, _) = Sources { files, format: Some(Format::Json), ..Sources::default() }.read().unwrap();
        assert_eq!(config.node_name.as_deref(), Some("dc2-1"));
        assert_eq!(config.ports.serf_wan, Some(8302));
        assert_eq!(config.advertise_addr_wan.as_deref(), Some("127.0.12.1"));
    }
}
