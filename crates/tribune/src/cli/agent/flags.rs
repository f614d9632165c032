//! The flags of `tribune agent`: each sets a key of the configuration over whatever the files say.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::syntax::Format;
use crate::config::tree::{Node, Place, Value};
use crate::config::{Source, Sources};

/// Runs an agent: a server with catalog, health checks, HTTP API and DNS.
#[derive(Debug)]
pub(in super::super) struct Arguments(Sources);

/// A flag that sets a key.
struct Flag {
    name: &'static str,
    key: &'static str,
    takes: Takes,
    help: &'static str,
}

/// What follows a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A string.
    Text,
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// A whole number.
    Number,
    /// A string; may be given several times.
    Texts,
    /// `key:value`; may be given several times.
    Pair,
}

use Takes::{Number, Pair, Switch, Text, Texts};

const fn flag(name: &'static str, key: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, key, takes, help }
}

const FLAGS: &[Flag] = &[
    flag("advertise", "advertise_addr", Text, "Address that others are told"),
    flag("advertise-wan", "advertise_addr_wan", Text, "Address that other datacenters are told"),
    flag(
        "allow-write-http-from",
        "http_config.allow_write_http_from",
        Texts,
        "Network from which the agent's endpoints may be written; may be repeated",
    ),
    flag("alt-domain", "alt_domain", Text, "Second DNS domain"),
    flag("auto-reload-config", "auto_reload_config", Switch, "Read changed configuration files by itself"),
    flag("bind", "bind_addr", Text, "Address for traffic between nodes"),
    flag("bootstrap", "bootstrap", Switch, "Start a datacenter of one server"),
    flag("bootstrap-expect", "bootstrap_expect", Number, "Start a datacenter when so many servers are there"),
    flag("check_output_max_size", "check_output_max_size", Number, "Bytes of a check's output that are kept"),
    flag("client", "client_addr", Text, "Addresses on which HTTP and DNS are served, separated by blanks"),
    flag("data-dir", "data_dir", Text, "Where everything durable is kept"),
    flag("datacenter", "datacenter", Text, "Name of the datacenter"),
    flag("default-query-time", "default_query_time", Text, "How long a blocking query waits by default"),
    flag("disable-host-node-id", "disable_host_node_id", Switch, "Draw a random node id (always so here)"),
    flag("disable-keyring-file", "disable_keyring_file", Switch, "Keep no file of gossip keys"),
    flag("dns-port", "ports.dns", Number, "Port of DNS; -1 turns it off"),
    flag("domain", "domain", Text, "DNS domain"),
    flag(
        "enable-local-script-checks",
        "enable_local_script_checks",
        Switch,
        "Allow script checks from files",
    ),
    flag(
        "enable-script-checks",
        "enable_script_checks",
        Switch,
        "Allow script checks from files and by HTTP",
    ),
    flag("encrypt", "encrypt", Text, "Key of the gossip encryption"),
    flag("grpc-port", "ports.grpc", Number, "Port of gRPC"),
    flag("grpc-tls-port", "ports.grpc_tls", Number, "Port of gRPC over TLS"),
    flag("http-port", "ports.http", Number, "Port of HTTP; -1 turns it off"),
    flag("https-port", "ports.https", Number, "Port of HTTPS"),
    flag("join", "start_join", Texts, "Address of a node to join at start"),
    flag("join-wan", "start_join_wan", Texts, "Address of a server of another datacenter to join at start"),
    flag("log-file", "log_file", Text, "Write the log to this file besides"),
    flag("log-json", "log_json", Switch, "Write the log as JSON"),
    flag(
        "log-level",
        "log_level",
        Text,
        "Least severe level that is logged: trace, debug, info, warn, error",
    ),
    flag("log-rotate-bytes", "log_rotate_bytes", Number, "Begin a new log file after so many bytes"),
    flag("log-rotate-duration", "log_rotate_duration", Text, "Begin a new log file after this time"),
    flag("log-rotate-max-files", "log_rotate_max_files", Number, "Older log files that are kept"),
    flag("max-query-time", "max_query_time", Text, "How long a blocking query may wait"),
    flag("node", "node_name", Text, "Name of this node"),
    flag("node-id", "node_id", Text, "UUID of this node"),
    flag("node-meta", "node_meta", Pair, "Metadata of this node, key:value; may be repeated"),
    flag("non-voting-server", "non_voting_server", Switch, "Serve without a vote"),
    flag("pid-file", "pid_file", Text, "File that holds the process id"),
    flag("primary-gateway", "primary_gateways", Texts, "Mesh gateway of the primary datacenter"),
    flag("protocol", "protocol", Number, "Protocol version"),
    flag("raft-protocol", "raft_protocol", Number, "Raft protocol version"),
    flag("read-replica", "read_replica", Switch, "Serve without a vote"),
    flag("recursor", "recursors", Texts, "DNS server for other names; may be repeated"),
    flag("rejoin", "rejoin_after_leave", Switch, "Join again after having left"),
    flag("retry-interval", "retry_interval", Text, "Time between attempts to join"),
    flag("retry-interval-wan", "retry_interval_wan", Text, "Time between attempts to join other datacenters"),
    flag("retry-join", "retry_join", Texts, "Address to join, again and again; may be repeated"),
    flag("retry-join-wan", "retry_join_wan", Texts, "Address of another datacenter to join, again and again"),
    flag("retry-max", "retry_max", Number, "Most attempts to join"),
    flag("retry-max-wan", "retry_max_wan", Number, "Most attempts to join other datacenters"),
    flag("segment", "segment", Text, "Network segment"),
    flag("serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", Texts, "Network that may gossip here"),
    flag("serf-lan-bind", "serf_lan", Text, "Address for gossip in the datacenter"),
    flag("serf-lan-port", "ports.serf_lan", Number, "Port of gossip in the datacenter"),
    flag(
        "serf-wan-allowed-cidrs",
        "serf_wan_allowed_cidrs",
        Texts,
        "Network that may gossip between datacenters",
    ),
    flag("serf-wan-bind", "serf_wan", Text, "Address for gossip between datacenters"),
    flag("serf-wan-port", "ports.serf_wan", Number, "Port of gossip between datacenters; -1 turns it off"),
    flag("server", "server", Switch, "Be a server"),
    flag("server-port", "ports.server", Number, "Port between servers"),
    flag("syslog", "enable_syslog", Switch, "Write the log to syslog"),
    flag("ui", "ui", Switch, "Serve the web interface"),
    flag("ui-content-path", "ui_content_path", Text, "Path of the web interface"),
    flag("ui-dir", "ui_dir", Text, "Files of the web interface"),
];

impl Arguments {
    pub(super) fn into_sources(self) -> Sources {
        self.0
    }
}

impl clap::Args for Arguments {
    fn augment_args(command: Command) -> Command {
        let files = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::Append).help(help)
        };
        let command = command
            .about("Runs an agent: a server with catalog, health checks, HTTP API and DNS")
            .arg(switch("dev").help("Try things out: one server in memory on 127.0.0.1, no files needed"))
            .arg(
                files("config-file", "Configuration file in HCL or JSON; may be repeated").value_name("FILE"),
            )
            .arg(
                files("config-dir", "Folder of *.hcl and *.json files; may be repeated")
                    .value_name("DIRECTORY"),
            )
            .arg(files("hcl", "Configuration as text in HCL; may be repeated").value_name("TEXT"))
            .arg(
                Arg::new("config-format")
                    .long("config-format")
                    .value_parser(["hcl", "json"])
                    .help("Format of all configuration files, whatever their names"),
            );
        // Start scripts add flags to those of whoever calls them, so the last of a kind counts.
        let command = command.args_override_self(true);
        FLAGS.iter().fold(command, |command, flag| command.arg(flag.argument()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let format = matches.get_one::<String>("config-format").map(|format| match format.as_str() {
            "json" => Format::Json,
            _ => Format::Hcl,
        });
        Ok(Self(Sources {
            files: files(matches),
            format,
            flags: FLAGS.iter().flat_map(|flag| flag.written(matches)).collect(),
            is_dev: is_on(matches, "dev"),
        }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Files and folders in the order in which they were named, whichever flag named them; then fragments.
fn files(matches: &ArgMatches) -> Vec<Source> {
    let named = |flag: &str| -> Vec<(usize, String)> {
        let texts = matches.get_many::<String>(flag).into_iter().flatten().cloned();
        matches.indices_of(flag).into_iter().flatten().zip(texts).collect()
    };
    let mut paths = named("config-file");
    paths.extend(named("config-dir"));
    paths.sort_unstable_by_key(|(at, _)| *at);
    let paths = paths.into_iter().map(|(_, path)| Source::Path(PathBuf::from(path)));
    paths.chain(named("hcl").into_iter().map(|(_, text)| Source::Fragment(text))).collect()
}

fn switch(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .hide_possible_values(true)
        .value_name("BOOL")
        .value_parser(BoolishValueParser::new())
}

fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

impl Flag {
    fn argument(&self) -> Arg {
        let plain = Arg::new(self.name).long(self.name);
        let argument = match self.takes {
            Switch => switch(self.name),
            Number => {
                plain.value_parser(clap::value_parser!(i64)).allow_negative_numbers(true).value_name("NUMBER")
            }
            Text => plain.value_name("TEXT"),
            Texts => plain.action(ArgAction::Append).value_name("TEXT"),
            Pair => plain.action(ArgAction::Append).value_name("KEY:VALUE"),
        };
        argument.help(self.help)
    }

    /// The key and its value, if the flag was given.
    fn written(&self, matches: &ArgMatches) -> Option<(String, Node)> {
        if matches.value_source(self.name) != Some(ValueSource::CommandLine) {
            return None;
        }
        let place = Place::flag(self.name);
        let node = |value| Node { place: place.clone(), value };
        let texts = || matches.get_many::<String>(self.name).into_iter().flatten();
        let value = match self.takes {
            Switch => Value::Bool(is_on(matches, self.name)),
            Number => Value::Number((*matches.get_one::<i64>(self.name)?).into()),
            Text => Value::Text(matches.get_one::<String>(self.name)?.clone()),
            Texts => Value::List(texts().map(|text| node(Value::Text(text.clone()))).collect()),
            Pair => Value::Map(
                texts()
                    .map(|text| {
                        let (key, value) = text.split_once(':').unwrap_or((text, ""));
                        (key.to_owned(), node(Value::Text(value.to_owned())))
                    })
                    .collect(),
            ),
        };
        Some((self.key.to_owned(), Node { place, value }))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::config::keys;

    fn sources(words: &str) -> Sources {
        let command = Arguments::augment_args(Command::new("agent"));
        let matches = command.try_get_matches_from(words.split(' ')).unwrap();
        Arguments::from_arg_matches(&matches).unwrap().into_sources()
    }

    #[test]
    fn every_flag_sets_a_key_that_exists() {
        for flag in FLAGS {
            assert!(keys::find_path(flag.key).is_some(), "{} sets {}", flag.name, flag.key);
        }
    }

    #[test]
    fn flags_become_keys() {
        let line = "agent --dev --http-port -1 --node-meta rack:a:1 --node-meta zone:b --recursor 1.1.1.1 --server=false";
        let (config, _) = sources(line).read().unwrap();
        assert!(config.is_dev);
        assert_eq!(config.ports.http, Some(-1));
        assert_eq!(config.node_meta["rack"], "a:1");
        assert_eq!(config.node_meta["zone"], "b");
        assert_eq!(config.recursors, ["1.1.1.1"]);
        assert_eq!(config.server, Some(false));
        assert_eq!(config.bootstrap, None);
        assert_eq!(config.places["ports.http"].to_string(), "-http-port");
    }

    #[test]
    fn of_a_flag_given_twice_the_last_counts() {
        let line = "agent --client 127.0.0.1 --http-port 1 --recursor 1.1.1.1 --client 0.0.0.0 --http-port 2 --recursor 9.9.9.9";
        let (config, _) = sources(line).read().unwrap();
        assert_eq!(config.ports.http, Some(2));
        assert_eq!(config.client_addr.as_deref(), Some("0.0.0.0"));
        assert_eq!(config.recursors, ["1.1.1.1", "9.9.9.9"]);
    }

    #[test]
    fn files_and_folders_keep_their_order() {
        let named = sources("agent --config-dir d --hcl a=1 --config-file f --config-dir e").files;
        let paths: Vec<String> = named
            .iter()
            .map(|source| match source {
                Source::Path(path) => path.display().to_string(),
                Source::Fragment(text) => text.clone(),
            })
            .collect();
        assert_eq!(paths, ["d", "f", "e", "a=1"]);
    }
}
