//! Answers as they are written: straight from the core's views into the buffer, borrowing everything.
//!
//! Each type here is one JSON object of Consul's. The order of its fields, which of them may be `null` and which
//! are left out are those of the reference version.

use std::time::Duration;

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use tribune_core::check::{NODE_MAINTENANCE, SERVICE_MAINTENANCE_PREFIX};
use tribune_core::state::{CheckView, InstanceView, NodeView, ServiceView};
use tribune_core::{
    Check, CheckDefinition, Node, Pairs, ServiceAddress, ServiceInstance, Status, Stored, Weights,
};

use crate::addresses::Addresses;
use crate::duration::GoDuration;
use crate::error::ApiError;
use crate::json::{Layout, Map, Seq, Text, object, to_vec};

/// A node, written.
#[derive(Debug, Clone, Copy)]
pub struct NodeJson<'a> {
    /// The node.
    pub node: &'a Stored<Node>,
    /// The datacenter it is in.
    pub datacenter: &'a str,
    /// Which address is given.
    pub addresses: Addresses,
}

impl Serialize for NodeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stored { value: node, created, modified } = self.node;
        let mut out = serializer.serialize_struct("Node", 8)?;
        out.serialize_field("ID", &node.id)?;
        out.serialize_field("Node", node.name.as_str())?;
        out.serialize_field("Address", self.addresses.of_node(node))?;
        out.serialize_field("Datacenter", self.datacenter)?;
        out.serialize_field("TaggedAddresses", &NullablePairs(&node.tagged_addresses))?;
        out.serialize_field("Meta", &NullablePairs(&node.meta))?;
        out.serialize_field("CreateIndex", &created.0)?;
        out.serialize_field("ModifyIndex", &modified.0)?;
        out.end()
    }
}

/// An instance as health answers and node answers show it, written under these addresses.
#[derive(Debug, Clone, Copy)]
pub struct ServiceJson<'a>(pub &'a Stored<ServiceInstance>, pub Addresses);

impl Serialize for ServiceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stored { value: service, created, modified } = self.0;
        let mut out = serializer.serialize_struct("Service", 13)?;
        out.serialize_field("ID", service.id.as_str())?;
        out.serialize_field("Service", service.name.as_str())?;
        out.serialize_field("Tags", &service.tags)?;
        out.serialize_field("Address", self.1.of_service(service))?;
        if !service.tagged_addresses.is_empty() {
            out.serialize_field("TaggedAddresses", &AddressesJson(&service.tagged_addresses))?;
        }
        out.serialize_field("Meta", &NullablePairs(&service.meta))?;
        out.serialize_field("Port", &self.1.port_of(service))?;
        if !service.socket_path.is_empty() {
            out.serialize_field("SocketPath", &service.socket_path)?;
        }
        out.serialize_field("Weights", &WeightsJson(service.weights))?;
        out.serialize_field("EnableTagOverride", &service.enable_tag_override)?;
        out.serialize_field("Proxy", &NoProxy)?;
        out.serialize_field("Connect", &ConnectJson(service))?;
        out.serialize_field("CreateIndex", &created.0)?;
        out.serialize_field("ModifyIndex", &modified.0)?;
        out.end()
    }
}

/// An instance with its node in one flat object, written.
#[derive(Debug, Clone, Copy)]
pub struct CatalogServiceJson<'a> {
    /// The instance and its node.
    pub instance: InstanceView<'a>,
    /// The datacenter they are in.
    pub datacenter: &'a str,
    /// Which addresses are given.
    pub addresses: Addresses,
}

impl Serialize for CatalogServiceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let node = &self.instance.node.value;
        let Stored { value: service, created, modified } = self.instance.service;
        let mut out = serializer.serialize_struct("CatalogService", 20)?;
        out.serialize_field("ID", &node.id)?;
        out.serialize_field("Node", node.name.as_str())?;
        out.serialize_field("Address", self.addresses.of_node(node))?;
        out.serialize_field("Datacenter", self.datacenter)?;
        out.serialize_field("TaggedAddresses", &NullablePairs(&node.tagged_addresses))?;
        out.serialize_field("NodeMeta", &NullablePairs(&node.meta))?;
        out.serialize_field("ServiceKind", "")?;
        out.serialize_field("ServiceID", service.id.as_str())?;
        out.serialize_field("ServiceName", service.name.as_str())?;
        out.serialize_field("ServiceTags", &service.tags)?;
        out.serialize_field("ServiceAddress", self.addresses.of_service(service))?;
        if !service.tagged_addresses.is_empty() {
            out.serialize_field("ServiceTaggedAddresses", &AddressesJson(&service.tagged_addresses))?;
        }
        out.serialize_field("ServiceWeights", &WeightsJson(service.weights))?;
        out.serialize_field("ServiceMeta", &PairsJson(&service.meta))?;
        out.serialize_field("ServicePort", &self.addresses.port_of(service))?;
        if !service.socket_path.is_empty() {
            out.serialize_field("ServiceSocketPath", &service.socket_path)?;
        }
        out.serialize_field("ServiceEnableTagOverride", &service.enable_tag_override)?;
        out.serialize_field("ServiceProxy", &NoProxy)?;
        out.serialize_field("ServiceConnect", &ConnectJson(service))?;
        out.serialize_field("CreateIndex", &created.0)?;
        out.serialize_field("ModifyIndex", &modified.0)?;
        out.end()
    }
}

/// Body of `/v1/catalog/node/:node`, written: the node and those of its instances that were kept, by id.
#[derive(Debug, Clone, Copy)]
pub struct NodeServicesJson<'a> {
    /// The node.
    pub node: NodeJson<'a>,
    /// Its instances, ordered by id.
    pub services: &'a [ServiceJson<'a>],
}

impl Serialize for NodeServicesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NodeServices", 2)?;
        out.serialize_field("Node", &self.node)?;
        let services = || self.services.iter().map(|service| (service.0.value.id.as_str(), service));
        out.serialize_field("Services", &Map(services))?;
        out.end()
    }
}

/// Body of `/v1/catalog/node-services/:node`, written; without a node it says so with nulls.
#[derive(Debug, Clone, Copy)]
pub struct NodeServiceListJson<'a>(pub Option<NodeServicesJson<'a>>);

impl Serialize for NodeServiceListJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NodeServiceList", 2)?;
        out.serialize_field("Node", &self.0.map(|found| found.node))?;
        out.serialize_field("Services", &self.0.map(|found| found.services))?;
        out.end()
    }
}

impl<'a> NodeJson<'a> {
    /// The node behind a view.
    pub fn new(view: &NodeView<'a>, datacenter: &'a str) -> Self {
        Self { node: view.node(), datacenter, addresses: Addresses::Own }
    }

    /// The same with these addresses.
    #[must_use]
    pub fn under(self, addresses: Addresses) -> Self {
        Self { addresses, ..self }
    }
}

/// Body of `/v1/catalog/services`: names with the tags that any instance carries.
pub fn services<'a>(
    services: impl Iterator<Item = ServiceView<'a>>,
    layout: Layout,
) -> Result<Vec<u8>, ApiError> {
    let pairs = services.map(|service| (service.name().as_str(), Seq(move || service.tags())));
    object(pairs, layout)
}

/// A check, as all lists of checks show it.
#[derive(Debug, Clone, Copy)]
pub struct CheckJson<'a> {
    /// Name of the node it is on.
    pub node: &'a str,
    /// The check.
    pub check: &'a Check,
    /// The instance it belongs to, if any.
    pub service: Option<&'a ServiceInstance>,
    /// Log positions of its creation and last change; zero for what only an agent knows.
    pub indexes: (u64, u64),
}

impl<'a> From<CheckView<'a>> for CheckJson<'a> {
    fn from(view: CheckView<'a>) -> Self {
        let Stored { value: check, created, modified } = view.check;
        let node = view.node.value.name.as_str();
        Self { node, check, service: view.service, indexes: (created.0, modified.0) }
    }
}

impl Serialize for CheckJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let check = self.check;
        let tags = self.service.map_or(&[][..], |service| &service.tags);
        let mut out = serializer.serialize_struct("HealthCheck", 13)?;
        out.serialize_field("Node", self.node)?;
        out.serialize_field("CheckID", check.id.as_str())?;
        out.serialize_field("Name", &check.name)?;
        out.serialize_field("Status", status_text(check.status))?;
        out.serialize_field("Notes", &check.notes)?;
        out.serialize_field("Output", &*check.output)?;
        out.serialize_field("ServiceID", check.service_id.as_ref().map_or("", |id| id.as_str()))?;
        out.serialize_field("ServiceName", self.service.map_or("", |service| service.name.as_str()))?;
        out.serialize_field("ServiceTags", tags)?;
        out.serialize_field("Type", &check.kind)?;
        out.serialize_field("Definition", &DefinitionJson(check.definition.as_deref()))?;
        out.serialize_field("CreateIndex", &self.indexes.0)?;
        out.serialize_field("ModifyIndex", &self.indexes.1)?;
        out.end()
    }
}

/// An instance with its node and all checks that bear on it: an element of `/v1/health/service/:name`.
#[derive(Debug, Clone, Copy)]
pub struct HealthEntryJson<'a> {
    /// The instance with its node.
    pub instance: InstanceView<'a>,
    /// The datacenter they are in.
    pub datacenter: &'a str,
    /// Which addresses are given.
    pub addresses: Addresses,
}

impl Serialize for HealthEntryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ServiceEntry", 3)?;
        let Self { instance, datacenter, addresses } = *self;
        out.serialize_field("Node", &NodeJson { node: instance.node, datacenter, addresses })?;
        out.serialize_field("Service", &ServiceJson(instance.service, addresses))?;
        out.serialize_field("Checks", &Seq(|| self.instance.checks().map(CheckJson::from)))?;
        out.end()
    }
}

/// A service of this agent, as `/v1/agent/services` shows it.
#[derive(Debug, Clone, Copy)]
pub struct AgentServiceJson<'a> {
    /// The instance.
    pub service: &'a ServiceInstance,
    /// Hash of its content, only where one service is asked for.
    pub content_hash: Option<&'a str>,
}

impl Serialize for AgentServiceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let service = self.service;
        let mut out = serializer.serialize_struct("AgentService", 12)?;
        out.serialize_field("ID", service.id.as_str())?;
        out.serialize_field("Service", service.name.as_str())?;
        out.serialize_field("Tags", &service.tags)?;
        out.serialize_field("Meta", &PairsJson(&service.meta))?;
        out.serialize_field("Port", &service.port)?;
        out.serialize_field("Address", &service.address)?;
        if !service.socket_path.is_empty() {
            out.serialize_field("SocketPath", &service.socket_path)?;
        }
        if !service.tagged_addresses.is_empty() {
            out.serialize_field("TaggedAddresses", &AddressesJson(&service.tagged_addresses))?;
        }
        out.serialize_field("Weights", &WeightsJson(service.weights))?;
        out.serialize_field("EnableTagOverride", &service.enable_tag_override)?;
        if service.connect_native {
            out.serialize_field("Connect", &ConnectJson(service))?;
        }
        if let Some(hash) = self.content_hash {
            out.serialize_field("ContentHash", hash)?;
        }
        out.end()
    }
}

/// Health of one service of this agent: `/v1/agent/health/service/…`.
#[derive(Debug, Clone, Copy)]
pub struct ServiceHealthJson<'a> {
    /// The worst of its checks, `maintenance` above all: [`aggregated`].
    pub status: &'a str,
    /// The service; `None` when there is none.
    pub service: Option<AgentServiceJson<'a>>,
    /// Its checks, then those of the node.
    pub checks: &'a [CheckJson<'a>],
}

impl Serialize for ServiceHealthJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("AgentServiceChecksInfo", 3)?;
        out.serialize_field("AggregatedStatus", self.status)?;
        out.serialize_field("Service", &self.service)?;
        out.serialize_field("Checks", &self.service.map(|_| self.checks))?;
        out.end()
    }
}

/// A hash of everything `/v1/agent/service/:id` shows of a service: 16 hex digits that change with it.
pub fn content_hash(service: &ServiceInstance) -> Result<String, ApiError> {
    let shown = to_vec(&AgentServiceJson { service, content_hash: None }, Layout::Compact)?;
    // FNV-1a: a change must show, an adversary need not be kept out.
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Ok(format!("{:016x}", shown.iter().fold(0xcbf2_9ce4_8422_2325, fold)))
}

/// What all checks of a service amount to: `maintenance`, `critical`, `warning` or `passing`, and the HTTP status
/// code that says the same.
pub fn aggregated<'a>(checks: impl Iterator<Item = &'a Check>) -> (&'static str, u16) {
    let mut worst = Status::Passing;
    for check in checks {
        if check.id.as_str() == NODE_MAINTENANCE || check.id.as_str().starts_with(SERVICE_MAINTENANCE_PREFIX)
        {
            return ("maintenance", 503);
        }
        worst = worst.max(check.status);
    }
    let code = match worst {
        Status::Passing => 200,
        Status::Warning => 429,
        Status::Critical => 503,
    };
    (status_text(worst), code)
}

/// A status in Consul's words.
pub fn status_text(status: Status) -> &'static str {
    match status {
        Status::Passing => "passing",
        Status::Warning => "warning",
        Status::Critical => "critical",
    }
}

/// How something is probed; what is not set is left out.
#[derive(Debug, Clone, Copy)]
pub struct DefinitionJson<'a>(pub Option<&'a CheckDefinition>);

impl Serialize for DefinitionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        if let Some(definition) = self.0 {
            write_definition(&mut out, definition)?;
            if let Some(ttl) = definition.ttl {
                out.serialize_entry("TTL", &GoDuration::from(ttl).0)?;
            }
        }
        out.end()
    }
}

/// All fields of a definition but `TTL`, which catalog answers write as a number and requests as a text.
pub(crate) fn write_definition<M: SerializeMap>(out: &mut M, it: &CheckDefinition) -> Result<(), M::Error> {
    let mut entry = Entries(out);
    entry.span("Interval", it.interval)?;
    entry.some("OutputMaxSize", it.output_max_size)?;
    entry.span("Timeout", it.timeout)?;
    entry.span("DeregisterCriticalServiceAfter", it.deregister_critical_service_after)?;
    entry.text("HTTP", &it.http)?;
    entry.text("TLSServerName", &it.tls_server_name)?;
    entry.flag("TLSSkipVerify", it.tls_skip_verify)?;
    if !it.header.is_empty() {
        entry.0.serialize_entry("Header", &Map(|| it.header.iter()))?;
    }
    entry.text("Method", &it.method)?;
    entry.text("Body", &it.body)?;
    entry.flag("DisableRedirects", it.disable_redirects)?;
    entry.text("TCP", &it.tcp)?;
    entry.flag("TCPUseTLS", it.tcp_use_tls)?;
    entry.text("UDP", &it.udp)?;
    entry.text("H2PING", &it.h2ping)?;
    // Absent means yes, so a no has to be said.
    entry.some("H2PingUseTLS", (!it.h2ping.is_empty()).then_some(it.h2ping_use_tls))?;
    entry.text("OSService", &it.os_service)?;
    entry.some("ScriptArgs", (!it.script_args.is_empty()).then_some(&it.script_args))?;
    entry.text("DockerContainerID", &it.docker_container_id)?;
    entry.text("Shell", &it.shell)?;
    entry.text("GRPC", &it.grpc)?;
    entry.flag("GRPCUseTLS", it.grpc_use_tls)?;
    entry.text("AliasNode", &it.alias_node)?;
    entry.text("AliasService", &it.alias_service)
}

/// Entries of an object that are left out when they say nothing.
pub(crate) struct Entries<'a, M>(pub(crate) &'a mut M);

impl<M: SerializeMap> Entries<'_, M> {
    pub(crate) fn text(&mut self, key: &'static str, value: &str) -> Result<(), M::Error> {
        self.some(key, (!value.is_empty()).then_some(value))
    }

    pub(crate) fn flag(&mut self, key: &'static str, value: bool) -> Result<(), M::Error> {
        self.some(key, value.then_some(true))
    }

    pub(crate) fn span(&mut self, key: &'static str, value: Option<Duration>) -> Result<(), M::Error> {
        self.some(key, value.map(|span| Text(GoDuration::from(span))))
    }

    pub(crate) fn some<T: Serialize>(&mut self, key: &'static str, value: Option<T>) -> Result<(), M::Error> {
        match value {
            Some(value) => self.0.serialize_entry(key, &value),
            None => Ok(()),
        }
    }
}

/// `null` when empty.
struct NullablePairs<'a>(&'a Pairs);

impl Serialize for NullablePairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() { serializer.serialize_none() } else { serializer.collect_map(self.0.iter()) }
    }
}

struct PairsJson<'a>(&'a Pairs);

impl Serialize for PairsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

struct AddressesJson<'a>(&'a Pairs<ServiceAddress>);

impl Serialize for AddressesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct One<'a>(&'a ServiceAddress);
        impl Serialize for One<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut out = serializer.serialize_struct("Address", 2)?;
                out.serialize_field("Address", &self.0.address)?;
                out.serialize_field("Port", &self.0.port)?;
                out.end()
            }
        }
        serializer.collect_map(self.0.iter().map(|(tag, address)| (tag, One(address))))
    }
}

struct WeightsJson(Weights);

impl Serialize for WeightsJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Weights", 2)?;
        out.serialize_field("Passing", &self.0.passing)?;
        out.serialize_field("Warning", &self.0.warning)?;
        out.end()
    }
}

/// What Consul says of the proxy of a service that is none.
struct NoProxy;

impl Serialize for NoProxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let empty: [(&str, &str); 0] = [];
        let mut out = serializer.serialize_map(Some(2))?;
        out.serialize_entry("MeshGateway", &Map(|| empty.into_iter()))?;
        out.serialize_entry("Expose", &Map(|| empty.into_iter()))?;
        out.end()
    }
}

struct ConnectJson<'a>(&'a ServiceInstance);

impl Serialize for ConnectJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let native = self.0.connect_native.then_some(("Native", true));
        serializer.collect_map(native)
    }
}
