//! The fields that filter expressions may name, for each kind of thing that is listed.
//!
//! The names are those of the JSON, with the reference version's exceptions: log positions and the definition of a
//! check cannot be filtered on, and the fields of service mesh proxies can, though none has any.

use smol_str::SmolStr;
use tribune_core::filter::{Field, Fields, Filter, Kind, Value};
use tribune_core::state::InstanceView;
use tribune_core::{Pairs, ServiceAddress, ServiceInstance};

use crate::addresses::Addresses;
use crate::error::ApiError;
use crate::render::{
    AgentServiceJson, CatalogServiceJson, CheckJson, HealthEntryJson, NodeJson, ServiceJson, status_text,
};

/// Reads the `?filter` of a request for a list of `T`. A bad one is answered as the reference version does (500).
pub fn filter<T: Fields>(text: &str) -> Result<Filter, ApiError> {
    Filter::compile::<T>(text)
        .map_err(|why| ApiError::server(format!("Failed to create boolean expression evaluator: {why}")))
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

const ADDRESS: &[Field] = &[field("Address", Kind::Text), field("Port", Kind::Number)];

const WEIGHTS: &[Field] = &[field("Passing", Kind::Number), field("Warning", Kind::Number)];

const UPSTREAM: &[Field] = &[
    field("DestinationType", Kind::Text),
    field("DestinationNamespace", Kind::Text),
    field("DestinationName", Kind::Text),
    field("Datacenter", Kind::Text),
    field("LocalBindAddress", Kind::Text),
    field("LocalBindPort", Kind::Number),
    field("MeshGateway", Kind::Object(MESH_GATEWAY)),
];

const MESH_GATEWAY: &[Field] = &[field("Mode", Kind::Text)];

const EXPOSED_PATH: &[Field] = &[
    field("ListenerPort", Kind::Number),
    field("Path", Kind::Text),
    field("LocalPathPort", Kind::Number),
    field("Protocol", Kind::Text),
    field("ParsedFromCheck", Kind::Bool),
];

const PROXY: &[Field] = &[
    field("DestinationServiceName", Kind::Text),
    field("DestinationServiceID", Kind::Text),
    field("LocalServiceAddress", Kind::Text),
    field("LocalServicePort", Kind::Number),
    field("Upstreams", Kind::Objects(UPSTREAM)),
    field("MeshGateway", Kind::Object(MESH_GATEWAY)),
    field(
        "Expose",
        Kind::Object(&[field("Checks", Kind::Bool), field("Paths", Kind::Objects(EXPOSED_PATH))]),
    ),
];

const CONNECT: &[Field] = &[field("Native", Kind::Bool)];

const NODE: &[Field] = &[
    field("ID", Kind::Text),
    field("Node", Kind::Text),
    field("Address", Kind::Text),
    field("Datacenter", Kind::Text),
    field("TaggedAddresses", Kind::Map),
    field("Meta", Kind::Map),
    field("PeerName", Kind::Text),
];

const SERVICE: &[Field] = &[
    field("Kind", Kind::Text),
    field("ID", Kind::Text),
    field("Service", Kind::Text),
    field("Tags", Kind::List),
    field("Address", Kind::Text),
    field("TaggedAddresses", Kind::Table(ADDRESS)),
    field("Meta", Kind::Map),
    field("Port", Kind::Number),
    field("SocketPath", Kind::Text),
    field("Weights", Kind::Object(WEIGHTS)),
    field("EnableTagOverride", Kind::Bool),
    field("Proxy", Kind::Object(PROXY)),
    field("Connect", Kind::Object(CONNECT)),
    field("PeerName", Kind::Text),
];

const CATALOG_SERVICE: &[Field] = &[
    field("ID", Kind::Text),
    field("Node", Kind::Text),
    field("Address", Kind::Text),
    field("Datacenter", Kind::Text),
    field("TaggedAddresses", Kind::Map),
    field("NodeMeta", Kind::Map),
    field("ServiceKind", Kind::Text),
    field("ServiceID", Kind::Text),
    field("ServiceName", Kind::Text),
    field("ServiceTags", Kind::List),
    field("ServiceAddress", Kind::Text),
    field("ServiceTaggedAddresses", Kind::Table(ADDRESS)),
    field("ServiceMeta", Kind::Map),
    field("ServicePort", Kind::Number),
    field("ServiceSocketPath", Kind::Text),
    field("ServiceWeights", Kind::Object(WEIGHTS)),
    field("ServiceEnableTagOverride", Kind::Bool),
    field("ServiceProxy", Kind::Object(PROXY)),
    field("ServiceConnect", Kind::Object(CONNECT)),
];

const CHECK: &[Field] = &[
    field("Node", Kind::Text),
    field("CheckID", Kind::Text),
    field("CheckId", Kind::Text),
    field("Name", Kind::Text),
    field("Status", Kind::Text),
    field("Notes", Kind::Text),
    field("Output", Kind::Text),
    field("ServiceID", Kind::Text),
    field("ServiceName", Kind::Text),
    field("ServiceTags", Kind::List),
    field("Type", Kind::Text),
    field("Interval", Kind::Text),
    field("Timeout", Kind::Text),
    field("ExposedPort", Kind::Number),
];

/// Filters see what is stored, whatever addresses are shown.
fn node_of<'a>(instance: &InstanceView<'a>, datacenter: &'a str) -> NodeJson<'a> {
    NodeJson { node: instance.node, datacenter, addresses: Addresses::Own }
}

type Probe<'p> = &'p mut dyn FnMut(Value<'_>) -> bool;

impl Fields for NodeJson<'_> {
    const FIELDS: &'static [Field] = NODE;

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        let node = &self.node.value;
        let Some((name, rest)) = path.split_first() else { return false };
        match name.as_str() {
            "ID" => probe(Value::Text(&node.id)),
            "Node" => probe(Value::Text(node.name.as_str())),
            "Address" => probe(Value::Text(&node.address)),
            "Datacenter" => probe(Value::Text(self.datacenter)),
            "TaggedAddresses" => pairs(&node.tagged_addresses, rest, probe),
            "Meta" => pairs(&node.meta, rest, probe),
            "PeerName" => probe(Value::Text("")),
            _ => false,
        }
    }
}

impl Fields for ServiceJson<'_> {
    const FIELDS: &'static [Field] = SERVICE;

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        service(&self.0.value, path, probe)
    }
}

impl Fields for AgentServiceJson<'_> {
    const FIELDS: &'static [Field] = SERVICE;

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        service(self.service, path, probe)
    }
}

impl Fields for CatalogServiceJson<'_> {
    const FIELDS: &'static [Field] = CATALOG_SERVICE;

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        let Some((name, rest)) = path.split_first() else { return false };
        let of_service = match name.as_str() {
            "NodeMeta" => return pairs(&self.instance.node.value.meta, rest, probe),
            "ServiceName" => return probe(Value::Text(self.instance.service.value.name.as_str())),
            other => other.strip_prefix("Service"),
        };
        match of_service {
            Some(name) => service_field(&self.instance.service.value, name, rest, probe),
            None => node_of(&self.instance, self.datacenter).any(path, probe),
        }
    }
}

impl Fields for CheckJson<'_> {
    const FIELDS: &'static [Field] = CHECK;

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        let check = self.check;
        let Some(name) = path.first() else { return false };
        probe(match name.as_str() {
            "Node" => Value::Text(self.node),
            "CheckID" | "CheckId" => Value::Text(check.id.as_str()),
            "Name" => Value::Text(&check.name),
            "Status" => Value::Text(status_text(check.status)),
            "Notes" => Value::Text(&check.notes),
            "Output" => Value::Text(&check.output),
            "ServiceID" => Value::Text(check.service_id.as_ref().map_or("", |id| id.as_str())),
            "ServiceName" => Value::Text(self.service.map_or("", |service| service.name.as_str())),
            "ServiceTags" => Value::List(self.service.map_or(&[], |service| &service.tags)),
            "Type" => Value::Text(&check.kind),
            "Interval" => Value::Text(&check.interval),
            "Timeout" => Value::Text(&check.timeout),
            "ExposedPort" => Value::Number(0),
            _ => return false,
        })
    }
}

impl Fields for HealthEntryJson<'_> {
    const FIELDS: &'static [Field] = &[
        field("Node", Kind::Object(NODE)),
        field("Service", Kind::Object(SERVICE)),
        field("Checks", Kind::Objects(CHECK)),
    ];

    fn any(&self, path: &[SmolStr], probe: Probe<'_>) -> bool {
        let Some((name, rest)) = path.split_first() else { return false };
        match name.as_str() {
            "Node" => node_of(&self.instance, self.datacenter).any(rest, probe),
            "Service" => service(&self.instance.service.value, rest, probe),
            "Checks" if rest.is_empty() => probe(Value::Objects(self.instance.checks().count())),
            "Checks" => self.instance.checks().any(|check| CheckJson::from(check).any(rest, probe)),
            _ => false,
        }
    }
}

fn service(service: &ServiceInstance, path: &[SmolStr], probe: Probe<'_>) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    service_field(service, name, rest, probe)
}

fn service_field(service: &ServiceInstance, name: &str, rest: &[SmolStr], probe: Probe<'_>) -> bool {
    let inner = rest.first().map_or("", SmolStr::as_str);
    match name {
        "Kind" | "PeerName" => probe(Value::Text("")),
        "ID" => probe(Value::Text(service.id.as_str())),
        "Service" => probe(Value::Text(service.name.as_str())),
        "Tags" => probe(Value::List(&service.tags)),
        "Address" => probe(Value::Text(&service.address)),
        "TaggedAddresses" => table(&service.tagged_addresses, rest, probe),
        "Meta" => pairs(&service.meta, rest, probe),
        "Port" => probe(Value::Number(service.port.into())),
        "SocketPath" => probe(Value::Text(&service.socket_path)),
        "Weights" if inner == "Passing" => probe(Value::Number(service.weights.passing.into())),
        "Weights" => probe(Value::Number(service.weights.warning.into())),
        "EnableTagOverride" => probe(Value::Bool(service.enable_tag_override)),
        "Connect" => probe(Value::Bool(service.connect_native)),
        "Proxy" => no_proxy(inner, rest, probe),
        _ => false,
    }
}

/// The fields of the proxy of a service that is none.
fn no_proxy(inner: &str, rest: &[SmolStr], probe: Probe<'_>) -> bool {
    let last = rest.last().map_or("", SmolStr::as_str);
    match (inner, last) {
        ("LocalServicePort", _) => probe(Value::Number(0)),
        ("Upstreams", "Upstreams") | ("Expose", "Paths") => probe(Value::Objects(0)),
        ("Expose", "Checks") => probe(Value::Bool(false)),
        // Through a list without elements nothing holds.
        ("Upstreams" | "Expose", _) => false,
        _ => probe(Value::Text("")),
    }
}

fn pairs(pairs: &Pairs, rest: &[SmolStr], probe: Probe<'_>) -> bool {
    match rest.first() {
        None => probe(Value::Keys(pairs)),
        Some(key) => probe(pairs.get(key).map_or(Value::Missing, |value| Value::Text(value))),
    }
}

fn table(addresses: &Pairs<ServiceAddress>, rest: &[SmolStr], probe: Probe<'_>) -> bool {
    let Some((key, rest)) = rest.split_first() else { return probe(Value::Keys(addresses)) };
    let Some(address) = addresses.get(key) else { return probe(Value::Missing) };
    match rest.first().map_or("", SmolStr::as_str) {
        "Port" => probe(Value::Number(address.port.into())),
        _ => probe(Value::Text(&address.address)),
    }
}
