//! What a configuration amounts to: defaults chosen, addresses resolved, values checked against each other.
//!
//! The only thing that assembly and running parts look at; [`crate::config`] is not read after this.

mod address;
mod autopilot;
mod cluster;
mod identity;
mod leasing;
pub(crate) mod naming;
mod network;
mod reading;
mod service;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use tribune_api::params::WaitLimits;
use tribune_core::Datacenter;
use tribune_local::AlertConfig;

use crate::config::{Config, Refused, Remark};
use crate::logging::Logging;

pub use cluster::{Cluster, Founding, Joining, Role};
pub use identity::Identity;
pub use leasing::Leasing;
pub use tls::Tls;

use reading::{Reading, span};

/// Everything a node needs to know to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether it was started to try things out (`-dev`).
    pub is_dev: bool,
    /// Who this node is.
    pub identity: Identity,
    /// The datacenter it is in.
    pub datacenter: Datacenter,
    /// The datacenter that leads the federation.
    pub primary_datacenter: Datacenter,
    /// Where everything durable is kept; `None` keeps it in memory.
    pub data_dir: Option<PathBuf>,
    /// How it takes part in its datacenter and in the federation.
    pub cluster: Cluster,
    /// Where it is reached.
    pub network: Network,
    /// How connections are secured.
    pub tls: Tls,
    /// What a signal does.
    pub leaving: Leaving,
    /// How HTTP answers.
    pub http: Http,
    /// How DNS answers.
    pub dns: Dns,
    /// How checks are run and synchronised.
    pub checks: Checks,
    /// Who is told of checks that turn critical.
    pub alerts: AlertConfig,
    /// The log of commands.
    pub raft: Raft,
    /// What is first decided about servers.
    pub autopilot: tribune_core::autopilot::Config,
    /// Keys and sessions.
    pub leasing: Leasing,
    /// Metrics.
    pub telemetry: Telemetry,
    /// The log for people.
    pub logging: Logging,
    /// File that holds the process id while the agent runs.
    pub pid_file: Option<PathBuf>,
    /// Services and checks that the files define.
    pub definitions: tribune_local::Definitions,
}

/// Addresses and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Where servers take calls of other nodes of their datacenter. Port 0 lets the system choose.
    pub rpc: SocketAddr,
    /// Where gossip in the datacenter is taken, UDP and TCP. Port 0 lets the system choose.
    pub lan: SocketAddr,
    /// Where servers take calls of other datacenters; `None` when that is off. Port 0 lets the system choose.
    pub wan: Option<SocketAddr>,
    /// What others are told.
    pub advertise: IpAddr,
    /// What other datacenters are told.
    pub advertise_wan: IpAddr,
    /// Addresses by purpose, as the catalog shows them.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Where HTTP is served; empty when it is off. Port 0 lets the system choose.
    pub http: Vec<SocketAddr>,
    /// Where HTTPS is served; empty when it is off. Port 0 lets the system choose.
    pub https: Vec<SocketAddr>,
    /// Where DNS is served; empty when it is off. Port 0 lets the system choose.
    pub dns: Vec<SocketAddr>,
    /// Addresses for clients, for the banner.
    pub client: Vec<IpAddr>,
}

/// Whether a signal makes the node leave its datacenter.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// On SIGTERM.
    pub on_terminate: bool,
    /// On SIGINT.
    pub on_interrupt: bool,
}

/// How HTTP answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Makes catalog and health reads that name no mode stale, up to this far behind the leader.
    pub discovery_max_stale: Option<Duration>,
    /// Whether `?cached` may be answered from the cache.
    pub use_cache: bool,
    /// How long blocking queries wait.
    pub waits: WaitLimits,
    /// Path prefixes that are refused.
    pub block_endpoints: Vec<String>,
    /// Headers of every answer.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Networks from which agent endpoints may be written; empty means all.
    pub allow_write_from: Vec<IpNet>,
    /// Connections of one client address; `None` for no bound.
    pub connections_per_client_max: Option<usize>,
    /// Whether that bound holds for this machine's own addresses too: one that somebody wrote down does, the
    /// default does not, because proxies and sidecars on loopback speak for many.
    pub loopback_limited: bool,
}

/// How DNS answers.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The domain, in lower case, with its last dot.
    pub domain: String,
    /// A second domain in the same form.
    pub alt_domain: Option<String>,
    /// How long answers about nodes may be kept.
    pub node_ttl: Duration,
    /// How long answers about services may be kept: by name, by `prefix*`, or `*`.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether cut answers are marked.
    pub enable_truncate: bool,
    /// Whether instances with warnings are left out.
    pub only_passing: bool,
    /// Most answers over UDP without EDNS.
    pub udp_answer_limit: usize,
    /// Most A or AAAA answers; `None` for no limit.
    pub a_record_limit: Option<usize>,
    /// Whether the metadata of nodes is added as TXT records.
    pub node_meta_txt: bool,
    /// Whether names are written out in full each time.
    pub disable_compression: bool,
    /// Numbers of the start-of-authority record.
    pub soa: Soa,
    /// Servers asked for other names.
    pub recursors: Vec<SocketAddr>,
    /// How long one of them is waited for.
    pub recursor_timeout: Duration,
    /// Whether they are asked in random order.
    pub recursors_at_random: bool,
}

/// Numbers of the start-of-authority record, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Soa {
    /// When a secondary gives up.
    pub expire: u32,
    /// How long "no such name" may be kept.
    pub min_ttl: u32,
    /// When a secondary looks again.
    pub refresh: u32,
    /// When it looks again after a failure.
    pub retry: u32,
}

/// How checks are run and synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Who may define checks that run programs.
    pub scripts: tribune_local::ScriptPolicy,
    /// How long a change of output alone may wait.
    pub update_interval: Duration,
    /// How many bytes of output are kept.
    pub output_bytes_max: usize,
    /// Whether output is thrown away.
    pub discard_output: bool,
    /// Time between full comparisons with the catalog.
    pub ae_interval: Duration,
}

/// The log of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raft {
    /// Entries after which a snapshot is due.
    pub snapshot_threshold: u64,
    /// Least time between two snapshots.
    pub snapshot_interval: Duration,
    /// Entries kept behind a snapshot.
    pub trailing_logs: u64,
    /// How long a request waits for a leader before it fails.
    pub rpc_hold_timeout: Duration,
    /// Stretches the times of elections, 1 to 10.
    pub multiplier: u8,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// First word of every name.
    pub prefix: String,
    /// The host's name in gauges, unless it is left out.
    pub host_name: Option<String>,
    /// How long Prometheus is shown a metric that is no longer written; `None` refuses Prometheus.
    pub prometheus_retention: Option<Duration>,
    /// Prefixes of names, and whether they are shown.
    pub filter: Vec<(String, bool)>,
    /// Whether names that no prefix fits are shown.
    pub filter_default: bool,
}

impl Settings {
    /// Decides everything that the configuration leaves open. The remarks are warnings.
    pub fn resolve(config: &Config) -> Result<(Self, Vec<Remark>), Refused> {
        let mut reading = Reading::new(config);
        let identity = reading.identity();
        let datacenter = reading.datacenter("datacenter", config.datacenter.as_deref().unwrap_or("dc1"));
        let primary = config.primary_datacenter.as_deref();
        let primary_datacenter = match primary {
            Some(name) => reading.datacenter("primary_datacenter", name),
            None => datacenter.clone(),
        };
        reading.access();
        let cluster = reading.cluster();
        let is_server = cluster.is_server();
        let network = reading.network();
        let settings = Self {
            is_dev: config.is_dev,
            data_dir: reading.data_dir(),
            tls: reading.tls(&datacenter, !network.https.is_empty()),
            network,
            leaving: Leaving {
                on_terminate: config.leave_on_terminate.unwrap_or(!is_server),
                on_interrupt: !config.skip_leave_on_interrupt.unwrap_or(is_server),
            },
            http: reading.http(),
            dns: reading.dns(),
            checks: reading.checks(),
            alerts: reading.alerts(),
            raft: Raft {
                snapshot_threshold: config.raft_snapshot_threshold.unwrap_or(16_384),
                snapshot_interval: span(config.raft_snapshot_interval, 30),
                trailing_logs: config.raft_trailing_logs.unwrap_or(10_240),
                rpc_hold_timeout: span(config.performance.rpc_hold_timeout, 7),
                multiplier: config.performance.raft_multiplier.unwrap_or(5),
            },
            autopilot: autopilot::autopilot(&config.autopilot),
            leasing: reading.leasing(),
            telemetry: reading.telemetry(&identity),
            logging: reading.logging(),
            pid_file: config.pid_file.as_ref().map(PathBuf::from),
            definitions: reading.definitions(),
            identity,
            cluster,
            datacenter,
            primary_datacenter,
        };
        reading.finish(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Sources};

    fn resolve(text: &str, is_dev: bool) -> Result<(Settings, Vec<Remark>), Refused> {
        let files = vec![Source::Fragment(text.to_owned())];
        let (config, _) = Sources { files, is_dev, ..Sources::default() }.read().unwrap();
        Settings::resolve(&config)
    }

    fn refuse(text: &str, expected: &str) {
        let refused = resolve(text, true).unwrap_err().to_string();
        assert!(refused.contains(expected), "{text}: {refused}");
    }

    #[test]
    fn dev_needs_nothing() {
        let (settings, warnings) = resolve("node_name = \"one\"", true).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(settings.data_dir, None);
        assert_eq!(settings.network.http, ["127.0.0.1:8500".parse().unwrap()]);
        assert_eq!(settings.network.dns, ["127.0.0.1:8600".parse().unwrap()]);
        assert_eq!(settings.network.tagged_addresses["lan_ipv4"], "127.0.0.1");
        assert_eq!(settings.dns.domain, "consul.");
        assert_eq!(settings.logging.level.0, tracing::Level::DEBUG);
    }

    #[test]
    fn one_server_needs_a_data_dir() {
        let server = "server = true bootstrap_expect = 1 data_dir = \"/x\" bind_addr = \"10.1.2.3\"";
        let (settings, _) = resolve(server, false).unwrap();
        assert_eq!(settings.network.advertise.to_string(), "10.1.2.3");
        assert_eq!(settings.network.client, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let why = |text| resolve(text, false).unwrap_err().to_string();
        assert!(why("server = true bootstrap_expect = 1").contains("data_dir must name the folder"));
        let both = why("server = true data_dir = \"/x\" bootstrap = true\nbootstrap_expect = 3");
        assert!(both.contains("-hcl:2:1: bootstrap_expect and bootstrap exclude each other"), "{both}");
        let client = why("data_dir = \"/x\" bootstrap_expect = 3");
        assert!(client.contains("bootstrap_expect is for servers"), "{client}");
    }

    #[test]
    fn a_node_is_a_client_unless_it_is_told_to_serve() {
        let role = |text: &str| {
            resolve(&format!("data_dir = \"/x\" bind_addr = \"10.1.2.3\" {text}"), false)
                .unwrap()
                .0
                .cluster
                .role
        };
        let server = |founding| Role::Server { founding, votes: true };
        assert_eq!(role(""), Role::Client);
        assert_eq!(role("server = true"), server(Founding::Never));
        assert_eq!(role("server = true bootstrap_expect = 1"), server(Founding::Alone));
        assert_eq!(role("server = true bootstrap = true"), server(Founding::Alone));
        assert_eq!(role("server = true bootstrap_expect = 3"), server(Founding::Together(3)));
        let replica = Role::Server { founding: Founding::Never, votes: false };
        assert_eq!(role("server = true read_replica = true"), replica);
        let (client, _) = resolve("data_dir = \"/x\" bind_addr = \"10.1.2.3\"", false).unwrap();
        assert!(client.leaving.on_terminate && client.leaving.on_interrupt);
    }

    #[test]
    fn gossip_keys_are_checked_and_never_shown() {
        let (settings, _) = resolve("encrypt = \"cg8StVXbQJ0gPvMd9o7yrg==\"", true).unwrap();
        assert!(!format!("{settings:?}").contains("cg8StV"));
        refuse(
            "encrypt = \"c2hvcnQ=\"",
            "encrypt is no key for gossip: key size must be 16, 24 or 32 bytes, not 5",
        );
        refuse("encrypt = \"?\"", "encrypt is no key for gossip: the key is not valid base64");
        refuse("reconnect_timeout = \"1h\"", "reconnect_timeout must be at least 8h");
    }

    #[test]
    fn ports_can_be_off_chosen_and_several() {
        let (settings, _) =
            resolve("ports { http = 0 dns = -1 } client_addr = \"127.0.0.1 ::1\"", true).unwrap();
        assert_eq!(settings.network.http, ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
        assert_eq!(settings.network.dns, []);
    }

    #[test]
    fn what_will_not_do_is_refused_with_key_and_place() {
        refuse(
            "\ndatacenter = \"d c\"",
            "-hcl:2:1: datacenter must be made of a-z, 0-9, _ and -, not \"d c\"",
        );
        refuse("ports { http = 8600 }", "ports.dns must differ from ports.http");
        refuse("log_level = \"loud\"", "log_level is wrong: unknown log level \"loud\"");
        refuse("client_addr = \"localhost\"", "client_addr \"localhost\" is not an IP address");
        refuse("recursors = [\"dns.example\"]", "recursors must hold addresses");
        refuse("node_id = \"7\"", "node_id must be a UUID");
        refuse("node_meta { \"consul-x\" = \"1\" }", "reserved");
        refuse("domain = \"a b\"", "domain must be a DNS domain");
        refuse("http_config { allow_write_http_from = [\"x\"] }", "must hold networks");
        refuse("telemetry { prefix_filter = [\"x\"] }", "must begin with + or -");
        refuse("advertise_addr = \"0.0.0.0\"", "advertise_addr must be an address that others can reach");
        refuse("service {\n port = 1 }", "-hcl:1:1: service \"without a name\": Missing service name");
        refuse(
            "\nservice { name = \"web\" check { ttl = \"1s\" interval = \"1s\" } }",
            "-hcl:2:1: service \"web\": Invalid check: Interval and TTL cannot both be specified",
        );
    }

    #[test]
    fn waits_have_a_default_below_their_bound() {
        let waits = |text: &str| resolve(text, true).map(|(settings, _)| settings.http.waits);
        assert_eq!(waits("").unwrap(), WaitLimits::default());
        let minute = Duration::from_secs(60);
        let both = waits("default_query_time = \"30s\" max_query_time = \"1m\"").unwrap();
        assert_eq!(both, WaitLimits { default: minute / 2, max: minute });
        // A bound below the usual default lowers that too: nobody has asked for more.
        assert_eq!(waits("max_query_time = \"1m\"").unwrap(), WaitLimits { default: minute, max: minute });
        refuse(
            "default_query_time = \"2m\" max_query_time = \"1m\"",
            "default_query_time must not be longer",
        );
        refuse("max_query_time = \"0s\"", "max_query_time must be longer than nothing");
    }

    #[test]
    fn the_autopilot_has_consuls_defaults() {
        let autopilot = |text: &str| resolve(text, true).unwrap().0.autopilot;
        assert_eq!(autopilot(""), tribune_core::autopilot::Config::default());
        let written =
            autopilot("autopilot { cleanup_dead_servers = false, last_contact_threshold = \"1s\" }");
        assert!(!written.cleanup_dead_servers);
        assert_eq!(written.last_contact_threshold, Duration::from_secs(1));
        assert_eq!(written.max_trailing_logs, 250);
    }

    #[test]
    fn alerts_are_off_until_somebody_is_named() {
        let (settings, _) = resolve("", true).unwrap();
        assert_eq!(settings.alerts, AlertConfig::default());
        let text = "alerts { webhook = \"https://hooks.example/T0/secret\" log = true }";
        let (settings, warnings) = resolve(text, true).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(settings.alerts.webhook.as_deref(), Some("https://hooks.example/T0/secret"));
        assert!(settings.alerts.log);
        assert!(!format!("{settings:?}").contains("secret"), "the address of a webhook is a secret");
    }

    #[test]
    fn a_webhook_that_cannot_be_called_is_refused_without_being_shown() {
        for url in
            ["hooks.example/secret", "ftp://hooks.example/secret", "https:///secret", "https://a b/secret"]
        {
            let refused =
                resolve(&format!("alerts {{\n webhook = {url:?} }}"), true).unwrap_err().to_string();
            assert!(refused.contains("-hcl:2:2: alerts.webhook must be a URL"), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn nobody_is_exposed_who_asked_to_deny() {
        let cannot = "default_policy \"deny\" cannot be kept: this version has no access control";
        refuse("acl { enabled = true default_policy = \"deny\" }", cannot);
        refuse("acl_default_policy = \"deny\" acl_datacenter = \"dc1\"", cannot);
        for open in
            ["enabled = true", "default_policy = \"deny\"", "enabled = false default_policy = \"deny\""]
        {
            assert!(resolve(&format!("acl {{ {open} }}"), true).is_ok(), "{open}");
        }
    }

    #[test]
    fn odd_names_are_warned_about() {
        let (_, warnings) = resolve("node_name = \"a_b\"", true).unwrap();
        assert!(warnings[0].text.contains("will not be discoverable via DNS"));
        let risky = "node_name = \"a\" enable_script_checks = true client_addr = \"0.0.0.0\"";
        assert!(resolve(risky, true).unwrap().1[0].text.contains("run programs on this host"));
    }
}
