//! What somebody asked to be checked, which kind of check that is, or why it cannot be one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::OUTPUT_BYTES_DEFAULT;
use crate::ids::{CheckId, InstanceId};
use crate::model::{Check, CheckDefinition, Status};

/// The check that is critical while its node is in maintenance.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";

/// Followed by the instance's id: the check that is critical while the instance is in maintenance.
pub const SERVICE_MAINTENANCE_PREFIX: &str = "_service_maintenance:";

/// The shortest time between two probes. Shorter ones are lengthened to this: a check is no load generator.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Shortest time after which a critical service is removed; a shorter wish is lengthened, so that a restart
/// which takes a few seconds does not remove it.
const REMOVAL_MIN: Duration = Duration::from_secs(60);

/// A check as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Unique on its node.
    pub id: CheckId,
    /// For people.
    pub name: SmolStr,
    /// For people.
    pub notes: SmolStr,
    /// The instance it belongs to; `None` for a check of the node.
    pub service_id: Option<InstanceId>,
    /// The status until the first result.
    pub status: Status,
    /// What is probed, and how.
    pub definition: CheckDefinition,
    /// How many good results in a row make it passing or warning; 0 and 1 mean the first does.
    #[serde(default)]
    pub success_before_passing: u32,
    /// How many failures in a row make it a warning; 0 means as many as make it critical.
    #[serde(default)]
    pub failures_before_warning: u32,
    /// How many failures in a row make it critical; 0 and 1 mean the first does.
    #[serde(default)]
    pub failures_before_critical: u32,
    /// A good answer that takes this long or longer counts as a warning.
    #[serde(default)]
    pub slow_warning: Option<Duration>,
    /// A good answer that takes this long or longer counts as a failure.
    #[serde(default)]
    pub slow_critical: Option<Duration>,
    /// Which resource of this host is measured, if that is what is checked.
    #[serde(default)]
    pub host: Option<HostCheck>,
}

/// A check of this host's own resources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostCheck {
    /// What is measured.
    pub resource: HostResource,
    /// From this much use on it is a warning, in percent; 0 means never.
    pub warning_percent: u8,
    /// From this much use on it is critical, in percent; 0 means never.
    pub critical_percent: u8,
}

/// A resource of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostResource {
    /// Time spent computing, all processors together.
    Cpu,
    /// Memory that is not available to new programs.
    Memory,
    /// Space used on the file system that holds this path.
    Disk(SmolStr),
}

/// What stands behind a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CheckKind {
    /// The gRPC health protocol.
    Grpc,
    /// An HTTP request.
    Http,
    /// The service reports by itself, in time.
    Ttl,
    /// A TCP connection.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// The state of another service or node.
    Alias,
    /// A program in a container.
    Docker,
    /// A program.
    Script,
    /// An HTTP/2 ping.
    H2ping,
    /// A service of the operating system.
    OsService,
    /// A resource of this host.
    Host,
    /// Somebody put the service or node into maintenance.
    Maintenance,
}

/// Why a check cannot be run as asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheck {
    /// It has both an interval and a TTL.
    #[error("a check has either an interval or a ttl, not both")]
    IntervalAndTtl,
    /// It is probed but has no interval.
    #[error("a check that probes needs an interval above zero")]
    MissingInterval,
    /// It is an alias and something else as well.
    #[error("an alias check follows another one and cannot probe at an interval")]
    IntervalOnAlias,
    /// It is an alias with a TTL.
    #[error("an alias check cannot have a ttl")]
    TtlOnAlias,
    /// It says nothing of what to check.
    #[error("a check that is not probed needs a ttl above zero")]
    MissingTtl,
    /// The slowness that is critical is less than the one that warns.
    #[error("slow_critical must not be below slow_warning")]
    SlowThresholds,
    /// The percentages are not in order, beyond 100, or both zero.
    #[error("a host check needs percentages from 1 to 100, warning not above critical")]
    HostThresholds,
}

impl CheckKind {
    /// The word for it in a listing of checks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Ttl => "ttl",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Alias => "alias",
            Self::Docker => "docker",
            Self::Script => "script",
            Self::H2ping => "h2ping",
            Self::OsService => "os_service",
            Self::Host => "host",
            Self::Maintenance => "maintenance",
        }
    }

    /// Whether it asks at an interval, rather than being told.
    pub fn probes(self) -> bool {
        !matches!(self, Self::Ttl | Self::Alias | Self::Maintenance)
    }
}

impl CheckSpec {
    /// A check with this definition and everything else at its default: critical until the first result, which
    /// counts at once.
    pub fn new(id: CheckId, name: impl Into<SmolStr>, definition: CheckDefinition) -> Self {
        Self {
            id,
            name: name.into(),
            notes: SmolStr::default(),
            service_id: None,
            status: Status::Critical,
            definition,
            success_before_passing: 0,
            failures_before_warning: 0,
            failures_before_critical: 0,
            slow_warning: None,
            slow_critical: None,
            host: None,
        }
    }

    /// Which kind of check this is. Of several things to probe the first in the order of [`CheckKind`] counts.
    pub fn kind(&self) -> Result<CheckKind, InvalidCheck> {
        let probe = self.probe_kind();
        let alias = self.is_alias();
        let interval = self.definition.interval.is_some_and(|interval| !interval.is_zero());
        let ttl = self.definition.ttl.is_some_and(|ttl| !ttl.is_zero());
        self.validate_thresholds()?;
        match probe {
            _ if interval && ttl => Err(InvalidCheck::IntervalAndTtl),
            Some(_) if !interval => Err(InvalidCheck::MissingInterval),
            Some(_) if alias => Err(InvalidCheck::IntervalOnAlias),
            None if alias && ttl => Err(InvalidCheck::TtlOnAlias),
            Some(kind) => Ok(kind),
            None if alias => Ok(CheckKind::Alias),
            None if ttl => Ok(CheckKind::Ttl),
            None if self.is_maintenance() => Ok(CheckKind::Maintenance),
            None => Err(InvalidCheck::MissingTtl),
        }
    }

    /// The check as the catalog is to show it.
    pub fn to_check(&self, kind: CheckKind, status: Status, output: std::sync::Arc<str>) -> Check {
        Check {
            id: self.id.clone(),
            name: self.name.clone(),
            status,
            notes: self.notes.clone(),
            output,
            service_id: self.service_id.clone(),
            kind: SmolStr::new_static(kind.as_str()),
            definition: None,
            interval: self.definition.interval.map(shown).unwrap_or_default(),
            timeout: self.definition.timeout.map(shown).unwrap_or_default(),
        }
    }

    /// How many bytes of output are kept, when `agent_max` is what the agent allows by default.
    pub fn output_bytes_max(&self, agent_max: usize) -> usize {
        match self.definition.output_max_size {
            None | Some(0) => agent_max,
            // A check may ask for less than the agent's limit at will, for more only up to the usual limit.
            Some(size) => (size as usize).min(agent_max.max(OUTPUT_BYTES_DEFAULT)),
        }
    }

    /// After how long in the critical state its service is removed; `None` when it stays.
    pub fn removal_after(&self) -> Option<Duration> {
        let after = self.definition.deregister_critical_service_after?;
        let wanted = self.service_id.is_some() && !after.is_zero();
        wanted.then_some(after.max(REMOVAL_MIN))
    }

    /// Whether it is an alias of something on a node that is named, rather than on its own.
    pub fn watches_other_node(&self) -> bool {
        !self.definition.alias_node.is_empty()
    }

    fn probe_kind(&self) -> Option<CheckKind> {
        let definition = &self.definition;
        let script = !definition.script_args.is_empty();
        let docker = script && !definition.docker_container_id.is_empty();
        let asked = [
            (CheckKind::Grpc, !definition.grpc.is_empty()),
            (CheckKind::Http, !definition.http.is_empty()),
            (CheckKind::Tcp, !definition.tcp.is_empty()),
            (CheckKind::Udp, !definition.udp.is_empty()),
            (CheckKind::Docker, docker),
            (CheckKind::Script, script),
            (CheckKind::H2ping, !definition.h2ping.is_empty()),
            (CheckKind::OsService, !definition.os_service.is_empty()),
            (CheckKind::Host, self.host.is_some()),
        ];
        asked.into_iter().find_map(|(kind, asked)| asked.then_some(kind))
    }

    fn is_alias(&self) -> bool {
        !self.definition.alias_node.is_empty() || !self.definition.alias_service.is_empty()
    }

    fn is_maintenance(&self) -> bool {
        let id = self.id.as_str();
        id == NODE_MAINTENANCE || id.starts_with(SERVICE_MAINTENANCE_PREFIX)
    }

    fn validate_thresholds(&self) -> Result<(), InvalidCheck> {
        if let (Some(warning), Some(critical)) = (self.slow_warning, self.slow_critical)
            && warning > critical
        {
            return Err(InvalidCheck::SlowThresholds);
        }
        let Some(host) = &self.host else { return Ok(()) };
        let (warning, critical) = (host.warning_percent, host.critical_percent);
        let in_order = critical == 0 || warning <= critical;
        let usable = warning <= 100 && critical <= 100 && (warning, critical) != (0, 0);
        if in_order && usable { Ok(()) } else { Err(InvalidCheck::HostThresholds) }
    }
}

/// A duration as people write it: `10s`, `1m30s`, `250ms`.
fn shown(duration: Duration) -> SmolStr {
    let (millis, seconds) = (duration.subsec_millis(), duration.as_secs());
    if seconds == 0 && millis > 0 {
        return smol_str::format_smolstr!("{millis}ms");
    }
    let rest = match millis {
        0 => format!("{}s", seconds % 60),
        _ => format!("{}.{:03}", seconds % 60, millis).trim_end_matches('0').to_string() + "s",
    };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => rest.into(),
        (0, minutes) => smol_str::format_smolstr!("{minutes}m{rest}"),
        (hours, minutes) => smol_str::format_smolstr!("{hours}h{minutes}m{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(edit: impl FnOnce(&mut CheckSpec)) -> CheckSpec {
        let mut spec = CheckSpec::new(CheckId::new("c").unwrap(), "c", CheckDefinition::default());
        edit(&mut spec);
        spec
    }

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn each_kind_is_told_from_what_it_probes() {
        let http = spec(|spec| {
            spec.definition.http = "http://localhost".into();
            spec.definition.tcp = "localhost:1".into();
            spec.definition.interval = SECOND;
        });
        assert_eq!(http.kind(), Ok(CheckKind::Http));
        assert_eq!(spec(|spec| spec.definition.ttl = SECOND).kind(), Ok(CheckKind::Ttl));
        let docker = spec(|spec| {
            spec.definition.script_args = ["true".into()].into();
            spec.definition.docker_container_id = "c1".into();
            spec.definition.interval = SECOND;
        });
        assert_eq!(docker.kind(), Ok(CheckKind::Docker));
        let maintenance = spec(|spec| spec.id = CheckId::new(NODE_MAINTENANCE).unwrap());
        assert_eq!(maintenance.kind(), Ok(CheckKind::Maintenance));
    }

    #[test]
    fn impossible_checks_are_refused_with_the_reason() {
        assert_eq!(spec(|_| {}).kind(), Err(InvalidCheck::MissingTtl));
        assert_eq!(
            spec(|spec| spec.definition.tcp = "a:1".into()).kind(),
            Err(InvalidCheck::MissingInterval)
        );
        let both = spec(|spec| {
            spec.definition.ttl = SECOND;
            spec.definition.interval = SECOND;
        });
        assert_eq!(both.kind(), Err(InvalidCheck::IntervalAndTtl));
        let alias = spec(|spec| {
            spec.definition.alias_service = "web".into();
            spec.definition.ttl = SECOND;
        });
        assert_eq!(alias.kind(), Err(InvalidCheck::TtlOnAlias));
        let host = HostCheck { resource: HostResource::Cpu, warning_percent: 90, critical_percent: 80 };
        assert_eq!(spec(|spec| spec.host = Some(host)).kind(), Err(InvalidCheck::HostThresholds));
    }

    #[test]
    fn durations_are_shown_as_people_write_them() {
        let texts = [250, 1_000, 10_000, 90_000, 3_600_000, 1_500].map(|ms| shown(Duration::from_millis(ms)));
        assert_eq!(texts, ["250ms", "1s", "10s", "1m30s", "1h0m0s", "1.5s"]);
    }
}
