//! Definitions of services and checks, as requests and configuration files write them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tribune_core::CheckDefinition as Probe;
use tribune_core::check::{HostCheck, HostResource};

use crate::catalog::{TaggedAddress, Weights, decode_mesh};
use crate::decode::{DecodeError, DecodeReason, Object, parse};
use crate::health::decode_definition;
use crate::render::{Entries, write_definition};

/// Where a definition was written. Files may hold tokens and repeat blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The body of a request.
    Request,
    /// A configuration file.
    File,
}

/// A service that an agent is to carry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceDefinition {
    /// The service's name.
    pub name: String,
    /// Unique on the node; empty means the name.
    pub id: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Own address; empty means the node's.
    pub address: String,
    /// Further addresses by purpose.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Port; 0 when it has none.
    pub port: u16,
    /// Path of a Unix socket, or empty.
    pub socket_path: String,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// SRV weights; absent means one each.
    pub weights: Option<Weights>,
    /// Whether others may change its tags.
    pub enable_tag_override: bool,
    /// Token to register it with; only in files.
    pub token: String,
    /// Its checks: the lone `Check`, then the list of `Checks`.
    pub checks: Vec<CheckDefinition>,
    /// Whether it speaks the service mesh's protocol by itself.
    pub connect_native: bool,
}

/// A check that an agent is to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckDefinition {
    /// Unique on the node; empty means the name, or what is made from the service's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub notes: String,
    /// The instance it belongs to, or empty.
    pub service_id: String,
    /// The status until the first result; empty means critical.
    pub status: String,
    /// Token to register it with; only in files.
    pub token: String,
    /// What is probed, and how.
    pub probe: Probe,
    /// How many good results in a row make it passing.
    pub success_before_passing: u32,
    /// How many failures in a row make it a warning.
    pub failures_before_warning: u32,
    /// How many failures in a row make it critical.
    pub failures_before_critical: u32,
    /// A good answer that takes this long counts as a warning.
    pub slow_warning: Option<Duration>,
    /// A good answer that takes this long counts as a failure.
    pub slow_critical: Option<Duration>,
    /// A resource of this host, if that is what is checked.
    pub host: Option<HostCheck>,
}

impl ServiceDefinition {
    /// Reads the body of `/v1/agent/service/register`.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(parse(body)?, Origin::Request)
    }

    /// Reads a service from a request or from a `service` block of a configuration file.
    pub fn decode(value: Value, origin: Origin) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let check = |value| CheckDefinition::decode_inner(value, origin);
        let mut checks = object.blocks(&["Check"], origin == Origin::File, check)?;
        // Some clients send the empty form of a check that they do not have.
        checks.retain(|check| !check.is_empty());
        checks.extend(object.list(&["Checks"], check)?);
        let read = Self {
            name: object.text(&["Name"])?,
            id: object.text(&["ID"])?,
            tags: object.texts(&["Tags"])?,
            address: object.text(&["Address"])?,
            tagged_addresses: object.map(&["TaggedAddresses", "tagged_addresses"], TaggedAddress::decode)?,
            port: object.port(&["Port"])?,
            socket_path: object.text(&["SocketPath", "socket_path"])?,
            meta: object.pairs(&["Meta"])?,
            weights: object.nested(&["Weights"], Weights::decode)?,
            enable_tag_override: object.flag(&["EnableTagOverride", "enable_tag_override"])?.unwrap_or(false),
            token: object.text(&["Token"])?,
            checks,
            connect_native: decode_mesh(&mut object)?,
        };
        object.take(&["Locality"])?;
        object.refuse(
            &["Ports"],
            "several ports for one service are not offered; register one service for each port",
        )?;
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

impl CheckDefinition {
    /// Reads the body of `/v1/agent/check/register`.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(parse(body)?, Origin::Request)
    }

    /// Reads a check from a request or from a `check` block of a configuration file.
    pub fn decode(value: Value, origin: Origin) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let service_id = object.text(&["ServiceID", "service_id"])?;
        let token = object.text(&["Token"])?;
        Ok(Self { service_id, token, ..Self::fields(object, origin, &["ID"])? })
    }

    /// A check inside a service: it belongs to that service whatever it says, and has no token of its own.
    fn decode_inner(value: Value, origin: Origin) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        object.take(&["ServiceID", "service_id"])?;
        if origin == Origin::File {
            object.take(&["Token"])?;
        }
        Self::fields(object, origin, &["ID", "CheckID", "check_id"])
    }

    fn fields(mut object: Object, origin: Origin, id: &[&'static str]) -> Result<Self, DecodeError> {
        let count = 0..=i64::from(u32::MAX);
        let counted = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let read = Self {
            id: object.text(id)?,
            name: object.text(&["Name"])?,
            notes: object.text(&["Notes"])?,
            status: object.text(&["Status"])?,
            success_before_passing: counted(
                object.integer(&["SuccessBeforePassing", "success_before_passing"], count.clone())?,
            ),
            failures_before_warning: counted(
                object.integer(&["FailuresBeforeWarning", "failures_before_warning"], count.clone())?,
            ),
            failures_before_critical: counted(
                object.integer(&["FailuresBeforeCritical", "failures_before_critical"], count)?,
            ),
            slow_warning: object.duration(&["SlowWarning", "slow_warning"])?,
            slow_critical: object.duration(&["SlowCritical", "slow_critical"])?,
            host: object.nested(&["Host", "host"], decode_host)?,
            probe: decode_definition(&mut object)?,
            ..Self::default()
        };
        object
            .refuse(&["ProxyHTTP", "ProxyGRPC"], "the service mesh is not part of Tribune; leave it out")?;
        if origin == Origin::File {
            object.refuse(
                &["Script"],
                "a script as one text is not run; write `args` with the program and its arguments",
            )?;
        }
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }

    /// Whether it says nothing at all, as the zero value that some clients send.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `{"Resource": "cpu" | "memory" | "disk", "Path": …, "WarningPercent": …, "CriticalPercent": …}`.
fn decode_host(value: Value) -> Result<HostCheck, DecodeError> {
    let mut object = Object::new(value)?;
    let name = object.text(&["Resource"])?;
    let path = object.text(&["Path"])?;
    let percent = |number: Option<i64>| number.and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    let resource = match name.as_str() {
        "cpu" => HostResource::Cpu,
        "memory" => HostResource::Memory,
        "disk" if path.is_empty() => HostResource::Disk("/".into()),
        "disk" => HostResource::Disk(path.as_str().into()),
        _ => {
            let why =
                format!("Invalid check: no host resource {name:?}; write \"cpu\", \"memory\" or \"disk\"");
            return Err(DecodeError::here(DecodeReason::Refused(why)));
        }
    };
    let read = HostCheck {
        resource,
        warning_percent: percent(object.integer(&["WarningPercent", "warning_percent"], 0..=100)?),
        critical_percent: percent(object.integer(&["CriticalPercent", "critical_percent"], 0..=100)?),
    };
    object.finish()?;
    Ok(read)
}

impl Serialize for ServiceDefinition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        let mut entry = Entries(&mut out);
        entry.text("Name", &self.name)?;
        entry.text("ID", &self.id)?;
        entry.some("Tags", (!self.tags.is_empty()).then_some(&self.tags))?;
        entry.text("Address", &self.address)?;
        let addresses = &self.tagged_addresses;
        entry.some("TaggedAddresses", (!addresses.is_empty()).then_some(addresses))?;
        entry.some("Port", (self.port != 0).then_some(self.port))?;
        entry.text("SocketPath", &self.socket_path)?;
        entry.some("Meta", (!self.meta.is_empty()).then_some(&self.meta))?;
        entry.some("Weights", self.weights)?;
        entry.flag("EnableTagOverride", self.enable_tag_override)?;
        let checks: Vec<_> = self.checks.iter().map(InService).collect();
        entry.some("Checks", (!checks.is_empty()).then_some(checks))?;
        entry.some("Connect", self.connect_native.then(|| BTreeMap::from([("Native", true)])))?;
        out.end()
    }
}

impl Serialize for CheckDefinition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(serializer, "ID")
    }
}

/// A check inside a service, where Consul knows its id by another name only.
struct InService<'a>(&'a CheckDefinition);

impl Serialize for InService<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer, "CheckID")
    }
}

impl CheckDefinition {
    fn write<S: Serializer>(&self, serializer: S, id: &'static str) -> Result<S::Ok, S::Error> {
        let count = |n: u32| (n != 0).then_some(n);
        let mut out = serializer.serialize_map(None)?;
        let mut entry = Entries(&mut out);
        entry.text(id, &self.id)?;
        entry.text("Name", &self.name)?;
        entry.text("Notes", &self.notes)?;
        entry.text("ServiceID", &self.service_id)?;
        entry.text("Status", &self.status)?;
        entry.span("TTL", self.probe.ttl)?;
        entry.some("SuccessBeforePassing", count(self.success_before_passing))?;
        entry.some("FailuresBeforeWarning", count(self.failures_before_warning))?;
        entry.some("FailuresBeforeCritical", count(self.failures_before_critical))?;
        entry.span("SlowWarning", self.slow_warning)?;
        entry.span("SlowCritical", self.slow_critical)?;
        entry.some("Host", self.host.as_ref().map(HostJson))?;
        write_definition(&mut out, &self.probe)?;
        out.end()
    }
}

struct HostJson<'a>(&'a HostCheck);

impl Serialize for HostJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, path) = match &self.0.resource {
            HostResource::Cpu => ("cpu", ""),
            HostResource::Memory => ("memory", ""),
            HostResource::Disk(path) => ("disk", path.as_str()),
        };
        let mut out = serializer.serialize_map(None)?;
        let mut entry = Entries(&mut out);
        entry.text("Resource", name)?;
        entry.text("Path", path)?;
        entry.some("WarningPercent", Some(self.0.warning_percent))?;
        entry.some("CriticalPercent", Some(self.0.critical_percent))?;
        out.end()
    }
}
