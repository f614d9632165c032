//! Every key that Consul's configuration knows, with the few that are this program's own, and what becomes of it.
//!
//! One table for all: what is not in it is refused with the nearest name that is. A key is *acted* on; or *met*
//! (asks for nothing that this program would do otherwise); or *always* done, so that only `false` is warned of;
//! or *known* and accepted with one warning, because what it asks for is not built; or *moved*, an older spelling
//! of another key. What an acted key means, with default and unit, stands at its field in [`super::Config`].

/// A key and its meaning.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its value is used.
    Acted,
    /// This program behaves as the key asks without being asked.
    Met,
    /// This program always behaves as `true` asks; `false` is accepted with a warning, and the text says what
    /// happens instead.
    Always(&'static str),
    /// Accepted with a warning; the text says what that means for whoever wrote it, empty when nothing much.
    Known(&'static str),
    /// Another spelling of the key at this path (`section.key`).
    Moved(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A string.
    Text,
    /// A string nobody may see.
    Secret,
    /// `true` or `false`.
    Bool,
    /// A whole number between these bounds.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A string such as `"1m30s"`.
    Duration,
    /// A list of strings; lists of several files are put one behind the other.
    Texts,
    /// A block of strings; blocks of several files are merged.
    Pairs,
    /// A block of durations.
    Durations,
    /// A block of these keys; blocks of several files are merged.
    Section(&'static [Key]),
    /// Definitions of services or checks, one or many.
    Definitions(Definition),
    /// Anything at all.
    Any,
}

/// What a definition defines, and the key under which all of a kind are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// `service` and `services`.
    Service,
    /// `check` and `checks`.
    Check,
}

use Kind::{Any, Bool, Duration, Durations, Integer, Number, Pairs, Secret, Section, Text, Texts};

const fn acted(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, fate: Fate::Acted }
}

const fn met(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, fate: Fate::Met }
}

const fn always(name: &'static str, instead: &'static str) -> Key {
    Key { name, kind: Bool, fate: Fate::Always(instead) }
}

const fn known(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, fate: Fate::Known("") }
}

const fn unsafe_without(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, fate: Fate::Known(meaning) }
}

const fn moved(name: &'static str, kind: Kind, to: &'static str) -> Key {
    Key { name, kind, fate: Fate::Moved(to) }
}

const PORT: Kind = Integer(-1, 65_535);
const COUNT: Kind = Integer(0, i64::MAX);

const OPEN: &str = "everyone who reaches the HTTP port may read and write; keep client_addr on loopback or let a firewall \
                    decide who connects, and name in http_config.allow_write_http_from who may register";

const ENCRYPTED: &str = "an agent with `encrypt` refuses every gossip message in clear text and sends none; give the key to all \
                         agents of the datacenter at once";

/// The keys at the top of a file.
pub const KEYS: &[Key] = &[
    acted("node_name", Text),
    acted("node_id", Text),
    acted("node_meta", Pairs),
    acted("datacenter", Text),
    acted("data_dir", Text),
    acted("server", Bool),
    acted("bootstrap", Bool),
    acted("bootstrap_expect", COUNT),
    acted("bind_addr", Text),
    acted("advertise_addr", Text),
    acted("advertise_addr_ipv4", Text),
    acted("advertise_addr_ipv6", Text),
    acted("advertise_addr_wan", Text),
    acted("advertise_addr_wan_ipv4", Text),
    acted("advertise_addr_wan_ipv6", Text),
    acted("client_addr", Text),
    acted("tagged_addresses", Pairs),
    acted("addresses", Section(ADDRESSES)),
    acted("ports", Section(PORTS)),
    acted("leave_on_terminate", Bool),
    acted("skip_leave_on_interrupt", Bool),
    acted("domain", Text),
    acted("alt_domain", Text),
    acted("recursors", Texts),
    acted("dns_config", Section(DNS_CONFIG)),
    acted("discovery_max_stale", Duration),
    acted("http_config", Section(HTTP_CONFIG)),
    acted("default_query_time", Duration),
    acted("max_query_time", Duration),
    acted("limits", Section(LIMITS)),
    acted("check_update_interval", Duration),
    acted("check_output_max_size", Integer(1, 16 << 20)),
    acted("discard_check_output", Bool),
    acted("enable_script_checks", Bool),
    acted("enable_local_script_checks", Bool),
    acted("ae_interval", Duration),
    acted("raft_snapshot_threshold", Integer(1, i64::MAX)),
    acted("raft_snapshot_interval", Duration),
    acted("raft_trailing_logs", Integer(1, i64::MAX)),
    acted("performance", Section(PERFORMANCE)),
    acted("telemetry", Section(TELEMETRY)),
    acted("alerts", Section(ALERTS)),
    acted("log_level", Text),
    acted("log_json", Bool),
    acted("log_file", Text),
    acted("log_rotate_duration", Duration),
    acted("log_rotate_bytes", COUNT),
    acted("log_rotate_max_files", Integer(-1, i64::MAX)),
    acted("pid_file", Text),
    acted("service", Kind::Definitions(Definition::Service)),
    acted("services", Kind::Definitions(Definition::Service)),
    acted("check", Kind::Definitions(Definition::Check)),
    acted("checks", Kind::Definitions(Definition::Check)),
    acted("primary_datacenter", Text),
    met("disable_host_node_id", Bool),
    met("disable_update_check", Bool),
    met("disable_anonymous_signature", Bool),
    met("disable_remote_exec", Bool),
    acted("disable_coordinates", Bool),
    acted("disable_keyring_file", Bool),
    met("protocol", Integer(2, 3)),
    met("raft_protocol", Integer(3, 3)),
    moved("recursor", Text, "recursors"),
    moved("acl_datacenter", Text, "primary_datacenter"),
    moved("http_api_response_headers", Pairs, "http_config.response_headers"),
    moved("statsite_prefix", Text, "telemetry.metrics_prefix"),
    known("watches", Any),
    known("acl", Section(ACL)),
    unsafe_without("acl_default_policy", Text, OPEN),
    unsafe_without("acl_master_token", Secret, OPEN),
    known("acl_agent_master_token", Secret),
    known("acl_agent_token", Secret),
    known("acl_down_policy", Text),
    known("acl_enable_key_list_policy", Bool),
    known("acl_replication_token", Secret),
    known("acl_token", Secret),
    known("acl_ttl", Duration),
    known("acl_disabled_ttl", Duration),
    known("acl_enforce_version_8", Bool),
    known("enable_acl_replication", Bool),
    acted("serf_lan", Text),
    acted("serf_wan", Text),
    known("serf_lan_allowed_cidrs", Texts),
    known("serf_wan_allowed_cidrs", Texts),
    acted("translate_wan_addrs", Bool),
    known("unix_sockets", Section(UNIX_SOCKETS)),
    acted("start_join", Texts),
    acted("start_join_wan", Texts),
    acted("retry_join", Texts),
    acted("retry_join_wan", Texts),
    acted("retry_interval", Duration),
    acted("retry_interval_wan", Duration),
    acted("retry_max", COUNT),
    acted("retry_max_wan", COUNT),
    acted("rejoin_after_leave", Bool),
    known("primary_gateways", Texts),
    known("primary_gateways_interval", Duration),
    acted("reconnect_timeout", Duration),
    acted("reconnect_timeout_wan", Duration),
    known("advertise_reconnect_timeout", Duration),
    known("server_rejoin_age_max", Duration),
    acted("encrypt", Secret),
    always("encrypt_verify_incoming", ENCRYPTED),
    always("encrypt_verify_outgoing", ENCRYPTED),
    acted("tls", Section(TLS)),
    acted("ca_file", Text),
    acted("ca_path", Text),
    acted("cert_file", Text),
    acted("key_file", Text),
    acted("verify_incoming", Bool),
    acted("verify_incoming_rpc", Bool),
    acted("verify_incoming_https", Bool),
    acted("verify_outgoing", Bool),
    acted("verify_server_hostname", Bool),
    known("server_name", Text),
    acted("tls_min_version", Text),
    known("tls_cipher_suites", Text),
    known("tls_prefer_server_cipher_suites", Bool),
    known("auto_encrypt", Any),
    known("auto_config", Any),
    known("auto_reload_config", Bool),
    known("audit", Any),
    known("raft_logstore", Any),
    acted("autopilot", Section(AUTOPILOT)),
    known("gossip_lan", Section(GOSSIP)),
    known("gossip_wan", Section(GOSSIP)),
    acted("session_ttl_min", Duration),
    known("check_deregister_interval_min", Duration),
    known("check_reap_interval", Duration),
    known("enable_agent_tls_for_checks", Bool),
    known("disable_http_unprintable_char_filter", Bool),
    known("disable_kv_key_validation", Bool),
    known("enable_debug", Bool),
    known("enable_central_service_config", Bool),
    known("connect", Any),
    known("peering", Any),
    known("use_streaming_backend", Bool),
    known("rpc", Any),
    known("config_entries", Any),
    known("cache", Any),
    known("ui_config", Any),
    known("ui", Bool),
    known("ui_dir", Text),
    known("ui_content_path", Text),
    known("enable_ui", Bool),
    known("enable_syslog", Bool),
    known("syslog_facility", Text),
    acted("non_voting_server", Bool),
    acted("read_replica", Bool),
    known("segment", Text),
    known("segments", Any),
    known("license_path", Text),
    known("partition", Text),
    known("default_intention_policy", Text),
    known("experiments", Texts),
    known("cloud", Any),
    known("locality", Any),
    known("reporting", Any),
    known("xds", Any),
    known("sync_coordinate_rate_target", Number),
    known("sync_coordinate_interval_min", Duration),
];

const ADDRESSES: &[Key] = &[
    acted("dns", Text),
    acted("http", Text),
    acted("https", Text),
    known("grpc", Text),
    known("grpc_tls", Text),
];

const PORTS: &[Key] = &[
    acted("dns", PORT),
    acted("http", PORT),
    acted("server", PORT),
    acted("serf_lan", PORT),
    acted("serf_wan", PORT),
    acted("https", PORT),
    known("grpc", PORT),
    known("grpc_tls", PORT),
    known("sidecar_min_port", PORT),
    known("sidecar_max_port", PORT),
    known("expose_min_port", PORT),
    known("expose_max_port", PORT),
    known("proxy_min_port", PORT),
    known("proxy_max_port", PORT),
];

const DNS_CONFIG: &[Key] = &[
    acted("node_ttl", Duration),
    acted("service_ttl", Durations),
    acted("enable_truncate", Bool),
    acted("only_passing", Bool),
    acted("recursor_timeout", Duration),
    acted("recursor_strategy", Text),
    acted("udp_answer_limit", COUNT),
    acted("a_record_limit", COUNT),
    acted("enable_additional_node_meta_txt", Bool),
    acted("soa", Section(SOA)),
    acted("disable_compression", Bool),
    met("allow_stale", Bool),
    met("max_stale", Duration),
    met("use_cache", Bool),
    met("cache_max_age", Duration),
    known("prefer_namespace", Bool),
];

const SOA: &[Key] = &[
    acted("expire", Integer(0, u32::MAX as i64)),
    acted("min_ttl", Integer(0, u32::MAX as i64)),
    acted("refresh", Integer(0, u32::MAX as i64)),
    acted("retry", Integer(0, u32::MAX as i64)),
];

const HTTP_CONFIG: &[Key] = &[
    acted("block_endpoints", Texts),
    acted("response_headers", Pairs),
    acted("allow_write_http_from", Texts),
    acted("use_cache", Bool),
    known("max_header_bytes", COUNT),
];

const LIMITS: &[Key] = &[
    acted("http_max_conns_per_client", COUNT),
    known("https_handshake_timeout", Duration),
    known("rpc_handshake_timeout", Duration),
    known("rpc_client_timeout", Duration),
    known("rpc_rate", Number),
    known("rpc_max_burst", COUNT),
    known("rpc_max_conns_per_client", COUNT),
    acted("kv_max_value_size", COUNT),
    acted("txn_max_req_len", COUNT),
    known("request_limits", Any),
];

const TELEMETRY: &[Key] = &[
    acted("prometheus_retention_time", Duration),
    acted("disable_hostname", Bool),
    acted("prefix_filter", Texts),
    acted("filter_default", Bool),
    acted("metrics_prefix", Text),
    known("statsd_address", Text),
    known("statsite_address", Text),
    known("dogstatsd_addr", Text),
    known("dogstatsd_tags", Texts),
    known("enable_host_metrics", Bool),
    known("disable_compat_1.9", Bool),
    known("disable_per_tenancy_usage_metrics", Bool),
    known("retry_failed_connection", Bool),
    known("circonus_api_app", Text),
    known("circonus_api_token", Secret),
    known("circonus_api_url", Text),
    known("circonus_broker_id", Text),
    known("circonus_broker_select_tag", Text),
    known("circonus_check_display_name", Text),
    known("circonus_check_force_metric_activation", Text),
    known("circonus_check_id", Text),
    known("circonus_check_instance_id", Text),
    known("circonus_check_search_tag", Text),
    known("circonus_check_tags", Text),
    known("circonus_submission_interval", Text),
    known("circonus_submission_url", Text),
];

/// This program's own: Consul has no alerts.
const ALERTS: &[Key] = &[acted("webhook", Secret), acted("log", Bool)];

const ACL: &[Key] = &[
    unsafe_without("enabled", Bool, OPEN),
    unsafe_without("default_policy", Text, OPEN),
    known("down_policy", Text),
    known("token_ttl", Duration),
    known("policy_ttl", Duration),
    known("role_ttl", Duration),
    known("disabled_ttl", Duration),
    known("enable_key_list_policy", Bool),
    known("enable_token_persistence", Bool),
    known("enable_token_replication", Bool),
    known("msp_disable_bootstrap", Bool),
    known("tokens", Section(ACL_TOKENS)),
];

const ACL_TOKENS: &[Key] = &[
    known("initial_management", Secret),
    known("master", Secret),
    known("default", Secret),
    known("agent", Secret),
    known("agent_recovery", Secret),
    known("agent_master", Secret),
    known("replication", Secret),
    known("dns", Secret),
    known("config_file_service_registration", Secret),
    known("managed_service_provider", Any),
];

const TLS: &[Key] = &[
    acted("defaults", Section(TLS_PROTOCOL)),
    acted("internal_rpc", Section(TLS_PROTOCOL)),
    acted("https", Section(TLS_PROTOCOL)),
    known("grpc", Any),
];

const TLS_PROTOCOL: &[Key] = &[
    acted("ca_file", Text),
    acted("ca_path", Text),
    acted("cert_file", Text),
    acted("key_file", Text),
    acted("verify_incoming", Bool),
    acted("verify_outgoing", Bool),
    acted("verify_server_hostname", Bool),
    acted("tls_min_version", Text),
    known("tls_cipher_suites", Text),
    known("use_auto_cert", Bool),
];

const UNIX_SOCKETS: &[Key] = &[known("user", Text), known("group", Text), known("mode", Text)];

const PERFORMANCE: &[Key] = &[
    met("leave_drain_time", Duration),
    acted("raft_multiplier", Integer(1, 10)),
    acted("rpc_hold_timeout", Duration),
    known("grpc_keepalive_interval", Duration),
    known("grpc_keepalive_timeout", Duration),
];

const AUTOPILOT: &[Key] = &[
    acted("cleanup_dead_servers", Bool),
    acted("last_contact_threshold", Duration),
    acted("max_trailing_logs", COUNT),
    acted("min_quorum", COUNT),
    acted("server_stabilization_time", Duration),
    known("redundancy_zone_tag", Text),
    known("disable_upgrade_migration", Bool),
    known("upgrade_version_tag", Text),
];

const GOSSIP: &[Key] = &[
    known("gossip_nodes", COUNT),
    known("gossip_interval", Duration),
    known("probe_interval", Duration),
    known("probe_timeout", Duration),
    known("retransmit_mult", COUNT),
    known("suspicion_mult", COUNT),
];

/// The key of this name among `keys`.
pub fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.name == name)
}

/// The key at a path such as `dns_config.soa.min_ttl`, with the keys of each section on the way.
pub fn find_path(path: &str) -> Option<&'static Key> {
    let mut keys = KEYS;
    let mut found = None;
    for name in path.split('.') {
        let key = find(keys, name)?;
        if let Kind::Section(inner) = key.kind {
            keys = inner;
        }
        found = Some(key);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(keys: &'static [Key], visit: &mut impl FnMut(&'static Key)) {
        for key in keys {
            visit(key);
            if let Kind::Section(inner) = key.kind {
                walk(inner, visit);
            }
        }
    }

    #[test]
    fn no_section_names_a_key_twice() {
        let mut sections = vec![KEYS];
        walk(KEYS, &mut |key| {
            if let Kind::Section(inner) = key.kind {
                sections.push(inner);
            }
        });
        for keys in sections {
            let mut names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "a name stands twice in {names:?}");
        }
    }

    #[test]
    fn moved_keys_lead_to_keys_that_are_acted_on() {
        walk(KEYS, &mut |key| {
            if let Fate::Moved(to) = key.fate {
                assert_eq!(find_path(to).map(|key| key.fate), Some(Fate::Acted), "{} -> {to}", key.name);
            }
        });
    }
}
