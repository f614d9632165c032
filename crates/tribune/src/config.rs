//! What the files and flags say: Consul's keys, in HCL or JSON, merged in Consul's order.
//!
//! Order of reading: files and folders as the command line names them (a folder's files by name), then `-hcl`
//! fragments, then flags. Nothing past start-up reads a [`Config`]; what it amounts to is
//! [`Settings`](crate::settings::Settings).

mod check;
mod definition;
mod files;
pub mod keys;
mod merge;
pub mod syntax;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tribune_api::GoDuration;

pub use files::Source;
pub use merge::Remark;

use merge::Layers;
use syntax::Format;
use tree::{Node, Place, Value};

/// A configuration was refused; each remark is one mistake.
#[derive(Debug, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct Refused(pub Vec<Remark>);

fn joined(remarks: &[Remark]) -> String {
    remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Where a configuration comes from; kept so that a reload can read it again.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files, folders and fragments in the order of the command line; fragments are read after all files.
    pub files: Vec<Source>,
    /// Format of files whatever their name (`-config-format`).
    pub format: Option<Format>,
    /// Keys set by flags, over everything else.
    pub flags: Vec<(String, Node)>,
    /// Whether the defaults are those of `-dev`.
    pub is_dev: bool,
}

impl Sources {
    /// Reads and merges everything; the remarks are warnings.
    pub fn read(&self) -> Result<(Config, Vec<Remark>), Refused> {
        let mut layers = Layers::default();
        let fragments = |source: &&Source| matches!(source, Source::Fragment(_));
        let (last, first): (Vec<&Source>, Vec<&Source>) = self.files.iter().partition(fragments);
        for source in first.into_iter().chain(last) {
            files::read(source, self.format, &mut layers);
        }
        for (path, node) in &self.flags {
            layers.add(nested(path, node.clone()));
        }
        let (entries, warnings) = layers.finish().map_err(Refused)?;
        let place = Place::flag("config");
        let mut places = BTreeMap::new();
        note_places(&entries, "", &mut places);
        let merged = Node { place: place.clone(), value: Value::Map(entries) }.to_json();
        let mut config: Config = serde_json::from_value(merged)
            .map_err(|error| Refused(vec![Remark { place, text: error.to_string() }]))?;
        config.is_dev = self.is_dev;
        config.places = places;
        Ok((config, warnings))
    }
}

/// The value as a configuration that holds it at `path` and nothing else.
fn nested(path: &str, node: Node) -> Node {
    path.rsplit('.').fold(node, |node, name| {
        let place = node.place.clone();
        Node { place, value: Value::Map(vec![(name.to_owned(), node)]) }
    })
}

fn note_places(entries: &[(String, Node)], prefix: &str, places: &mut BTreeMap<String, Place>) {
    for (name, node) in entries {
        let path = format!("{prefix}{name}");
        match &node.value {
            Value::Map(inner) => note_places(inner, &format!("{path}."), places),
            Value::List(items) => {
                let numbered = items.iter().enumerate();
                places.extend(numbered.map(|(at, item)| (format!("{path}.{at}"), item.place.clone())));
            }
            _ => {}
        }
        places.insert(path, node.place.clone());
    }
}

/// A length of time as configurations write it (`"1m30s"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: GoDuration = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(span.positive().unwrap_or_default()))
    }
}

/// A map of names to strings.
pub type Strings = BTreeMap<String, String>;

/// Keys that are acted on, as they were written; `None` where nothing was.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Start with the defaults for trying things out: one server in memory on 127.0.0.1.
    #[serde(skip)]
    pub is_dev: bool,
    /// Where each key and each item of a list was written, by its path (`dns_config.node_ttl`, `services.0`).
    #[serde(skip)]
    pub places: BTreeMap<String, Place>,
    /// Name of this node, unique in its datacenter. Default: the host's name.
    pub node_name: Option<String>,
    /// UUID of this node. Default: drawn once and kept in the data directory.
    pub node_id: Option<String>,
    /// Metadata of this node, at most 64 pairs.
    pub node_meta: Strings,
    /// Name of the datacenter, `[a-z0-9_-]`. Default `dc1`.
    pub datacenter: Option<String>,
    /// Name of the datacenter that leads a federation. Default: this one.
    pub primary_datacenter: Option<String>,
    /// Where everything durable is kept. No default; not needed with `-dev`.
    pub data_dir: Option<String>,
    /// Whether this node is a server.
    pub server: Option<bool>,
    /// Start a datacenter of one server at once.
    pub bootstrap: Option<bool>,
    /// Start a datacenter when so many servers are there.
    pub bootstrap_expect: Option<u64>,
    /// Serve without a vote in the agreement. Default no.
    pub read_replica: Option<bool>,
    /// Older spelling of `read_replica`.
    pub non_voting_server: Option<bool>,
    /// Nodes to join once at the start: `host` or `host:port`.
    pub start_join: Vec<String>,
    /// Servers of other datacenters to join once at the start.
    pub start_join_wan: Vec<String>,
    /// Nodes to join, tried again until one answers.
    pub retry_join: Vec<String>,
    /// Servers of other datacenters to join, tried again until one answers.
    pub retry_join_wan: Vec<String>,
    /// Time between such attempts. Default `30s`.
    pub retry_interval: Option<Span>,
    /// The same for other datacenters. Default `30s`.
    pub retry_interval_wan: Option<Span>,
    /// Attempts after which the agent gives up and ends; 0 means never. Default 0.
    pub retry_max: Option<u64>,
    /// The same for other datacenters. Default 0.
    pub retry_max_wan: Option<u64>,
    /// Join the nodes known from before even after this node has left. Default no.
    pub rejoin_after_leave: Option<bool>,
    /// How long a member that failed is remembered and tried again. Default `72h`, at least `8h`.
    pub reconnect_timeout: Option<Span>,
    /// The same for servers of other datacenters. Default `72h`, at least `8h`.
    pub reconnect_timeout_wan: Option<Span>,
    /// Key that encrypts the gossip: 16, 24 or 32 bytes in base64, as `keygen` makes them. Default: none.
    pub encrypt: Option<String>,
    /// Keep the gossip keys in memory only. Default no.
    pub disable_keyring_file: Option<bool>,
    /// Address for gossip in the datacenter. Default: `bind_addr`.
    pub serf_lan: Option<String>,
    /// Address for traffic between datacenters. Default: `bind_addr`.
    pub serf_wan: Option<String>,
    /// Do not measure how far other nodes are. Default no.
    pub disable_coordinates: Option<bool>,
    /// How voters are chosen when the datacenter begins; later the API changes it.
    pub autopilot: Autopilot,
    /// DNS and HTTP answer with `wan` addresses for nodes and instances of other datacenters. Default no.
    pub translate_wan_addrs: Option<bool>,
    /// Address for traffic between nodes. Default `0.0.0.0`, with `-dev` `127.0.0.1`.
    pub bind_addr: Option<String>,
    /// Address that others are told. Default: the bind address, or the host's private IPv4 address.
    pub advertise_addr: Option<String>,
    /// IPv4 address that others are told besides.
    pub advertise_addr_ipv4: Option<String>,
    /// IPv6 address that others are told besides.
    pub advertise_addr_ipv6: Option<String>,
    /// Address that other datacenters are told. Default: the advertised address.
    pub advertise_addr_wan: Option<String>,
    /// IPv4 address that other datacenters are told besides.
    pub advertise_addr_wan_ipv4: Option<String>,
    /// IPv6 address that other datacenters are told besides.
    pub advertise_addr_wan_ipv6: Option<String>,
    /// Addresses on which HTTP and DNS are served, separated by blanks. Default `127.0.0.1`.
    pub client_addr: Option<String>,
    /// Further addresses of this node by purpose.
    pub tagged_addresses: Strings,
    /// Where each interface listens, when not on `client_addr`.
    pub addresses: Addresses,
    /// Ports; -1 turns an interface off, 0 lets the system choose.
    pub ports: Ports,
    /// Leave the datacenter on SIGTERM. Default: no on a server.
    pub leave_on_terminate: Option<bool>,
    /// Do not leave the datacenter on SIGINT. Default: yes on a server.
    pub skip_leave_on_interrupt: Option<bool>,
    /// DNS domain. Default `consul.`.
    pub domain: Option<String>,
    /// Second DNS domain.
    pub alt_domain: Option<String>,
    /// DNS servers asked for names that are not ours: `ip` or `ip:port`.
    pub recursors: Vec<String>,
    /// How DNS answers.
    pub dns_config: DnsConfig,
    /// Lets catalog and health reads that name no mode be answered from state this old. Default `0s`: never.
    pub discovery_max_stale: Option<Span>,
    /// How HTTP answers.
    pub http_config: HttpConfig,
    /// How long blocking queries wait that do not say. Default `5m`.
    pub default_query_time: Option<Span>,
    /// How long blocking queries wait at most. Default `10m`.
    pub max_query_time: Option<Span>,
    /// Bounds.
    pub limits: Limits,
    /// Shortest time to live of a session. Default `10s`.
    pub session_ttl_min: Option<Span>,
    /// How long a change of a check's output alone may wait. Default `5m`.
    pub check_update_interval: Option<Span>,
    /// How many bytes of a check's output are kept. Default 4096.
    pub check_output_max_size: Option<u32>,
    /// Keep no output of checks.
    pub discard_check_output: Option<bool>,
    /// Allow checks that run programs, from files and by HTTP.
    pub enable_script_checks: Option<bool>,
    /// Allow checks that run programs, from files only.
    pub enable_local_script_checks: Option<bool>,
    /// Time between full comparisons with the catalog. Default `1m`.
    pub ae_interval: Option<Span>,
    /// Log entries after which a snapshot is taken. Default 16384.
    pub raft_snapshot_threshold: Option<u64>,
    /// Least time between two snapshots. Default `30s`.
    pub raft_snapshot_interval: Option<Span>,
    /// Log entries kept behind a snapshot. Default 10240.
    pub raft_trailing_logs: Option<u64>,
    /// Times of the consensus.
    pub performance: Performance,
    /// Metrics.
    pub telemetry: Telemetry,
    /// Who is told when a check turns critical and when it recovers. A block of this program's own.
    pub alerts: Alerts,
    /// Access control: read so that what nobody would enforce can be refused.
    pub acl: Acl,
    /// Older spelling of `acl.default_policy`, which once turned access control on by itself.
    pub acl_default_policy: Option<String>,
    /// Certificates and who must show one, by purpose.
    pub tls: TlsBlock,
    /// Certificates of the CAs that vouch for others, for every purpose.
    pub ca_file: Option<String>,
    /// Folder of such files.
    pub ca_path: Option<String>,
    /// Certificate of this node.
    pub cert_file: Option<String>,
    /// Key of that certificate.
    pub key_file: Option<String>,
    /// Oldest version of TLS that is spoken. Default `TLSv1_2`.
    pub tls_min_version: Option<String>,
    /// Whoever connects must show a certificate of our CAs. Default no.
    pub verify_incoming: Option<bool>,
    /// The same between nodes only.
    pub verify_incoming_rpc: Option<bool>,
    /// The same for HTTPS only.
    pub verify_incoming_https: Option<bool>,
    /// Insist on a CA, with which other nodes are asked over TLS only and their certificates judged. Default no; where
    /// a CA is named it holds anyway.
    pub verify_outgoing: Option<bool>,
    /// The same, and a server that is asked must carry the name `server.<dc>.<domain>`. Default no; where a CA is
    /// named it holds anyway.
    pub verify_server_hostname: Option<bool>,
    /// Least severe log level that is written. Default `info`, with `-dev` `debug`.
    pub log_level: Option<String>,
    /// Write the log as JSON.
    pub log_json: Option<bool>,
    /// Write the log to this file besides; a path ending in `/` names a folder.
    pub log_file: Option<String>,
    /// Begin a new log file after this time. Default `24h`.
    pub log_rotate_duration: Option<Span>,
    /// Begin a new log file after so many bytes. Default: no bound.
    pub log_rotate_bytes: Option<u64>,
    /// How many older log files are kept: 0 keeps all, -1 none.
    pub log_rotate_max_files: Option<i64>,
    /// File that holds the process id while the agent runs.
    pub pid_file: Option<String>,
    /// Definitions of services, in the HTTP API's spelling.
    pub services: Vec<serde_json::Value>,
    /// Definitions of checks, in the HTTP API's spelling.
    pub checks: Vec<serde_json::Value>,
}

/// Addresses of the interfaces, each a list separated by blanks. Default: `client_addr`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// DNS.
    pub dns: Option<String>,
    /// HTTP.
    pub http: Option<String>,
    /// HTTPS.
    pub https: Option<String>,
}

/// Ports of the interfaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// DNS, UDP and TCP. Default 8600.
    pub dns: Option<i32>,
    /// HTTP. Default 8500.
    pub http: Option<i32>,
    /// HTTPS. Default -1: off.
    pub https: Option<i32>,
    /// Between servers. Default 8300; shown in the catalog.
    pub server: Option<i32>,
    /// Gossip in the datacenter. Default 8301; shown among the members.
    pub serf_lan: Option<i32>,
    /// Gossip between datacenters. Default 8302; shown among the members.
    pub serf_wan: Option<i32>,
}

/// How DNS answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// How long answers about nodes may be kept. Default `0s`.
    pub node_ttl: Option<Span>,
    /// How long answers about services may be kept: by name, by `prefix*`, or `*`.
    pub service_ttl: BTreeMap<String, Span>,
    /// Mark cut answers so that clients ask again over TCP. Default no.
    pub enable_truncate: Option<bool>,
    /// Leave out instances with warnings. Default no.
    pub only_passing: Option<bool>,
    /// How long one recursor is waited for. Default `2s`.
    pub recursor_timeout: Option<Span>,
    /// `sequential` or `random`. Default `sequential`.
    pub recursor_strategy: Option<String>,
    /// Most answers over UDP without EDNS. Default 3.
    pub udp_answer_limit: Option<u32>,
    /// Most A or AAAA answers; 0 means no limit.
    pub a_record_limit: Option<u32>,
    /// Add the metadata of nodes as TXT records. Default yes.
    pub enable_additional_node_meta_txt: Option<bool>,
    /// Write names out in full each time. Default no.
    pub disable_compression: Option<bool>,
    /// The start-of-authority record.
    pub soa: Soa,
}

/// Numbers of the start-of-authority record, in seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Soa {
    /// Default 86400.
    pub expire: Option<u32>,
    /// How long "no such name" may be kept. Default 0.
    pub min_ttl: Option<u32>,
    /// Default 3600.
    pub refresh: Option<u32>,
    /// Default 600.
    pub retry: Option<u32>,
}

/// How HTTP answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HttpConfig {
    /// Path prefixes that are answered with 403.
    pub block_endpoints: Vec<String>,
    /// Headers added to every answer.
    pub response_headers: Strings,
    /// Networks from which agent endpoints may be written; empty means all.
    pub allow_write_http_from: Vec<String>,
    /// Whether `?cached` may be answered from the cache. Default yes.
    pub use_cache: Option<bool>,
}

/// Bounds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// HTTP connections of one client address. Default 200; 0 means no bound.
    pub http_max_conns_per_client: Option<u64>,
    /// Longest value of a key, in bytes. Default 524288, at most 8388608; every server keeps all values in memory.
    pub kv_max_value_size: Option<u64>,
    /// Longest body of a transaction, in bytes. Default 524288, at most 8388608, and never less than
    /// `kv_max_value_size`.
    pub txn_max_req_len: Option<u64>,
}

/// What is first decided about servers; afterwards `operator autopilot set-config` decides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Autopilot {
    /// Whether failed servers leave the agreement when enough others are there. Default true.
    pub cleanup_dead_servers: Option<bool>,
    /// Longest silence of a healthy server. Default `200ms`.
    pub last_contact_threshold: Option<Span>,
    /// Most log entries a healthy server lags. Default 250.
    pub max_trailing_logs: Option<u64>,
    /// Cleaning up never leaves fewer voters. Default 0: no such bound.
    pub min_quorum: Option<u64>,
    /// How long a new server is healthy before it votes. Default `10s`.
    pub server_stabilization_time: Option<Span>,
}

/// Times of the consensus.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Performance {
    /// Stretches the times of the consensus for slow machines, 1 to 10. Default 5.
    pub raft_multiplier: Option<u8>,
    /// How long a request waits for a leader before it fails. Default `7s`.
    pub rpc_hold_timeout: Option<Span>,
}

/// Certificates and who must show one, by purpose. What is not said here is as the keys at the top of the file say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TlsBlock {
    /// For every purpose that does not say otherwise.
    pub defaults: TlsProtocol,
    /// Between nodes.
    pub internal_rpc: TlsProtocol,
    /// HTTPS.
    pub https: TlsProtocol,
}

/// Certificates and who must show one, for one purpose.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TlsProtocol {
    /// Certificates of the CAs that vouch for others.
    pub ca_file: Option<String>,
    /// Folder of such files.
    pub ca_path: Option<String>,
    /// Certificate of this node.
    pub cert_file: Option<String>,
    /// Key of that certificate.
    pub key_file: Option<String>,
    /// Oldest version of TLS that is spoken. Default `TLSv1_2`.
    pub tls_min_version: Option<String>,
    /// Whoever connects must show a certificate of our CAs. Default no.
    pub verify_incoming: Option<bool>,
    /// Ask others over TLS only, and judge their certificates. Default no.
    pub verify_outgoing: Option<bool>,
    /// The same, and a server that is asked must carry the name `server.<dc>.<domain>`. Default no; where a CA is
    /// named it holds anyway.
    pub verify_server_hostname: Option<bool>,
}

/// Access control, which this version does not have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Acl {
    /// Whether it was to be on. Default no.
    pub enabled: Option<bool>,
    /// What was to happen to requests that no rule allows: `allow` or `deny`. Default `allow`.
    pub default_policy: Option<String>,
}

/// Metrics.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// How long a metric that is no longer written is shown to Prometheus. Default `0s`: not shown at all.
    pub prometheus_retention_time: Option<Span>,
    /// Leave the host's name out of gauges. Default no.
    pub disable_hostname: Option<bool>,
    /// `+prefix` shows and `-prefix` hides metrics; the longest prefix that fits decides.
    pub prefix_filter: Vec<String>,
    /// Whether metrics that no prefix fits are shown. Default yes.
    pub filter_default: Option<bool>,
    /// First word of every metric's name. Default `consul`.
    pub metrics_prefix: Option<String>,
}

/// Who is told when a check of this node turns critical and when it recovers. Default: nobody.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Alerts {
    /// URL that gets one POST per transition. Whoever knows it may write there, so it is not shown.
    pub webhook: Option<String>,
    /// Write one line to the log per transition.
    pub log: Option<bool>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let webhook = self.webhook.as_ref().map(|_| "(hidden)");
        f.debug_struct("Alerts").field("webhook", &webhook).field("log", &self.log).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fragments(texts: &[&str]) -> Sources {
        let files = texts.iter().map(|text| Source::Fragment((*text).to_owned())).collect();
        Sources { files, ..Sources::default() }
    }

    fn refuse(text: &str, expected: &str) {
        let refused = fragments(&[text]).read().unwrap_err().to_string();
        assert!(refused.contains(expected), "{text}: {refused}");
    }

    fn warn(text: &str, expected: &str) {
        let (_, warnings) = fragments(&[text]).read().unwrap();
        assert_eq!(warnings.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), [expected], "{text}");
    }

    #[test]
    fn later_scalars_win_lists_append_blocks_merge() {
        let first =
            "node_name = \"a\" recursors = [\"1.1.1.1\"] ports { http = 1 dns = 2 } node_meta { x = \"1\" }";
        let second = "node_name = \"b\" recursors = [\"8.8.8.8\"] ports { http = 3 } node_meta { y = \"2\" }";
        let mut sources = fragments(&[first, second]);
        let value = Value::Number(9.into());
        sources.flags.push(("ports.dns".to_owned(), Node { place: Place::flag("dns-port"), value }));
        let (config, warnings) = sources.read().unwrap();
        assert_eq!(config.node_name.as_deref(), Some("b"));
        assert_eq!(config.recursors, ["1.1.1.1", "8.8.8.8"]);
        assert_eq!((config.ports.http, config.ports.dns), (Some(3), Some(9)));
        assert_eq!(config.node_meta.len(), 2);
        assert_eq!(warnings, []);
        assert_eq!(config.places["ports.dns"].to_string(), "-dns-port");
    }

    #[test]
    fn files_are_read_in_order_and_fragments_after_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.json"), r#"{"node_name": "from-b", "services": [{"name": "x"}]}"#)
            .unwrap();
        fs::write(folder.path().join("a.hcl"), "node_name = \"from-a\"\nservice { name = \"y\" }").unwrap();
        fs::write(folder.path().join("notes.txt"), "not a configuration").unwrap();
        let fragment = Source::Fragment("datacenter = \"dc9\"".to_owned());
        let files = vec![fragment, Source::Path(folder.path().to_owned())];
        let (config, _) = Sources { files, ..Sources::default() }.read().unwrap();
        assert_eq!(config.node_name.as_deref(), Some("from-b"));
        assert_eq!(config.services.len(), 2);
        assert_eq!(config.services[0]["Name"], "y");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        refuse("\n datacentre = \"x\"", "-hcl:2:2: unknown key \"datacentre\"; did you mean \"datacenter\"?");
        refuse("ports { htpp = 1 }", "unknown key \"ports.htpp\"; did you mean \"http\"?");
        refuse("enable_truncate = true", "it belongs into its section: \"dns_config.enable_truncate\"");
        refuse("xyzzy = 1", "unknown key \"xyzzy\"; remove it");
        refuse("dns_config { soa { min_tll = 1 } }", "did you mean \"min_ttl\"?");
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_expected() {
        refuse("server = \"yes\"", "server must be true or false, without quotes, not the string \"yes\"");
        refuse("ports { http = 70000 }", "ports.http must be a whole number from -1 to 65535, not 70000");
        refuse("ports = 1", "ports must be a block { … }, not a number");
        refuse("recursors = \"8.8.8.8\"", "recursors must be a list of strings");
        refuse("max_query_time = \"10\"", "max_query_time must be a duration in quotes");
        refuse(
            "dns_config { service_ttl { web = 3 } }",
            "dns_config.service_ttl of \"web\" must be a duration",
        );
        refuse("node_meta { a = 1 }", "must be a block of strings; its \"a\" is the number 1");
        refuse("encrypt = 7 node_name = 3", "encrypt must be a string, not a number");
        refuse("encrypt = 7 node_name = 3", "node_name must be a string in quotes, not the number 3");
    }

    #[test]
    fn known_keys_without_effect_are_named_once() {
        warn("auto_reload_config = true", "auto_reload_config is known but not acted on by this version");
        warn(
            "acl { enabled = true }",
            "acl.enabled is known but not acted on by this version: everyone who reaches the HTTP port may read and write; \
             keep client_addr on loopback or let a firewall decide who connects, and name in \
             http_config.allow_write_http_from who may register",
        );
        warn("watches = [{ type = \"nodes\" }]", "watches is known but not acted on by this version");
        warn(
            "encrypt_verify_incoming = true encrypt_verify_outgoing = false",
            "encrypt_verify_outgoing = false is not acted on by this version: an agent with `encrypt` refuses every \
             gossip message in clear text and sends none; give the key to all agents of the datacenter at once",
        );
        warn("recursor = \"8.8.8.8\"", "recursor is an old spelling; write recursors");
        let (config, _) = fragments(&["recursor = \"8.8.8.8\""]).read().unwrap();
        assert_eq!(config.recursors, ["8.8.8.8"]);
        let (_, none) = fragments(&["acl { enabled = false } ui = false protocol = 3"]).read().unwrap();
        assert_eq!(none, []);
    }

    #[test]
    fn files_that_cannot_be_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &[u8], expected: &str| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let files = vec![Source::Path(path)];
            let refused = Sources { files, ..Sources::default() }.read().unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check("a.conf", b"", "the name must end in .hcl or .json");
        check("a.hcl", b"\xff\xfe", "is not UTF-8 text");
        check("a.json", b"{\"server\": tru}", "a.json:1:15: this is not JSON");
        let files = vec![Source::Path("/nowhere/a.hcl".into())];
        let refused = Sources { files, ..Sources::default() }.read().unwrap_err().to_string();
        assert!(refused.contains("/nowhere/a.hcl: cannot be read"), "{refused}");
    }

    fn walk(keys: &'static [keys::Key], visit: &mut impl FnMut(&'static keys::Key)) {
        for key in keys {
            visit(key);
            if let keys::Kind::Section(inner) = key.kind {
                walk(inner, visit);
            }
        }
    }

    /// Each acted key is a field of [`Config`] that the settings read: else it would be accepted and ignored.
    #[test]
    fn every_acted_key_is_read() {
        let fields = include_str!("config.rs");
        let readers = [
            include_str!("settings.rs"),
            include_str!("settings/cluster.rs"),
            include_str!("settings/autopilot.rs"),
            include_str!("settings/identity.rs"),
            include_str!("settings/leasing.rs"),
            include_str!("settings/network.rs"),
            include_str!("settings/reading.rs"),
            include_str!("settings/service.rs"),
            include_str!("settings/tls.rs"),
        ];
        walk(keys::KEYS, &mut |key| {
            let name = match key.name {
                "service" => "services",
                "check" => "checks",
                name => name,
            };
            if key.fate == keys::Fate::Acted {
                assert!(fields.contains(&format!("pub {name}: ")), "{name} has no field");
                let read = format!(".{name}");
                assert!(readers.iter().any(|text| text.contains(&read)), "nothing reads {name}");
            }
        });
    }
}
