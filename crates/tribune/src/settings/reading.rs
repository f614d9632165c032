//! A configuration being made into settings: collects everything that is wrong, each with its place.

use std::path::PathBuf;
use std::time::Duration;

use tribune_core::Datacenter;

use super::address::{self, HostAddress};
use super::identity::Identity;
use super::{Settings, Telemetry, naming};
use crate::config::tree::Place;
use crate::config::{Config, Refused, Remark, Span};
use crate::logging::{Form, LogFile, LogLevel, Logging};

/// Longest time between two log files when nothing is said.
const LOG_ROTATE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Reading<'a> {
    pub(super) config: &'a Config,
    pub(super) host: Vec<HostAddress>,
    errors: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self { config, host: address::of_this_host(), errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn finish(self, settings: Settings) -> Result<(Settings, Vec<Remark>), Refused> {
        if self.errors.is_empty() { Ok((settings, self.warnings)) } else { Err(Refused(self.errors)) }
    }

    /// Notes that the value of a key will not do; `why` follows the name of the key.
    pub(super) fn refuse(&mut self, key: &str, why: &str) {
        self.refuse_at(key, format!("{key} {why}"));
    }

    /// Notes that what was written at a path is wrong.
    pub(super) fn refuse_at(&mut self, path: &str, text: String) {
        let place = self.place(path);
        self.errors.push(Remark { place, text });
    }

    pub(super) fn warn(&mut self, key: &str, why: &str) {
        let place = self.place(key);
        self.warnings.push(Remark { place, text: format!("{key} {why}") });
    }

    fn place(&self, path: &str) -> Place {
        let nowhere = || Place { source: "configuration".into(), line: 0, column: 0 };
        self.config.places.get(path).cloned().unwrap_or_else(nowhere)
    }

    pub(super) fn datacenter(&mut self, key: &str, name: &str) -> Datacenter {
        naming::datacenter(name).unwrap_or_else(|why| {
            self.refuse(key, &why);
            fallback_datacenter()
        })
    }

    /// Refuses a configuration that would deny by default: without access control it would allow everything.
    pub(super) fn access(&mut self) {
        let denies = |policy: &Option<String>| policy.as_deref() == Some("deny");
        let config = self.config;
        let enabled = config.acl.enabled;
        let key = match enabled {
            Some(true) if denies(&config.acl.default_policy) => "acl.default_policy",
            None | Some(true) if denies(&config.acl_default_policy) => "acl_default_policy",
            _ => return,
        };
        let why = "\"deny\" cannot be kept: this version has no access control, so everyone who reaches the HTTP port \
                   would read and write; let client_addr, http_config.allow_write_http_from and a firewall decide \
                   who reaches it, and set acl.enabled = false to start without access control";
        self.refuse(key, why);
    }

    pub(super) fn data_dir(&mut self) -> Option<PathBuf> {
        if self.config.is_dev {
            return None;
        }
        let data_dir = self.config.data_dir.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from);
        if data_dir.is_none() {
            self.refuse(
                "data_dir",
                "must name the folder where everything durable is kept (or start with -dev)",
            );
        }
        data_dir
    }

    pub(super) fn logging(&mut self) -> Logging {
        let config = self.config;
        let default = if config.is_dev { "debug" } else { "info" };
        let level = config.log_level.as_deref().unwrap_or(default);
        let level = level.parse().unwrap_or_else(|error: crate::logging::UnknownLevel| {
            self.refuse("log_level", &format!("is wrong: {error}"));
            LogLevel(tracing::Level::INFO)
        });
        let form = if config.log_json == Some(true) { Form::Json } else { Form::Text };
        let file = config.log_file.as_deref().filter(|path| !path.is_empty()).map(|path| LogFile {
            path: if path.ends_with('/') { PathBuf::from(path).join("tribune.log") } else { path.into() },
            duration: config.log_rotate_duration.map_or(LOG_ROTATE_DEFAULT, |span| span.0),
            bytes: config.log_rotate_bytes.filter(|bytes| *bytes > 0),
            files_max: match config.log_rotate_max_files.unwrap_or(0) {
                0 => None,
                kept => Some(usize::try_from(kept).unwrap_or(0)),
            },
        });
        Logging { level, form, file }
    }

    pub(super) fn telemetry(&mut self, identity: &Identity) -> Telemetry {
        let written = &self.config.telemetry;
        let mut filter = Vec::new();
        for rule in &written.prefix_filter {
            match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
                (Some(prefix), _) => filter.push((prefix.to_owned(), true)),
                (_, Some(prefix)) => filter.push((prefix.to_owned(), false)),
                _ => self.refuse("telemetry.prefix_filter", &format!("must begin with + or -, not {rule:?}")),
            }
        }
        let retention = written.prometheus_retention_time.map(|span| span.0);
        Telemetry {
            prefix: written.metrics_prefix.clone().unwrap_or_else(|| "consul".to_owned()),
            host_name: (written.disable_hostname != Some(true)).then(|| identity.host_name.clone()),
            prometheus_retention: retention.filter(|span| !span.is_zero()),
            filter,
            filter_default: written.filter_default.unwrap_or(true),
        }
    }
}

/// The written length of time, or the default in seconds.
pub(super) fn span(written: Option<Span>, default_seconds: u64) -> Duration {
    written.map_or(Duration::from_secs(default_seconds), |span| span.0)
}

fn fallback_datacenter() -> Datacenter {
    Datacenter::new("dc1").unwrap_or_else(|_| unreachable!("dc1 is a valid name"))
}
