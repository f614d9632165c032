//! The only place where Consul's bodies and the core's types meet. What Consul refuses is refused here, in its
//! words; what comes out is valid.

mod session;
mod txn;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;
use tribune_core::{
    Check, CheckDefinition as Probe, CheckId, CheckSpec, Command, Deregistration, InstanceId, InvalidCheck,
    InvalidName, Node, NodeName, Pairs, Registration, ServiceAddress, ServiceInstance, ServiceName, Status,
    Target, Weights,
};

use crate::agent::{CheckDefinition, ServiceDefinition};
use crate::catalog::{self, TaggedAddress};
use crate::duration::GoDuration;
use crate::error::ApiError;
use crate::health::CheckRegistration;

pub(crate) use session::refused as refused_session;
pub use txn::{TxnRequest, transaction};

/// How many pairs the metadata of a node or service may hold.
pub const META_PAIRS_MAX: usize = 64;
/// Longest key of a metadata pair, in bytes.
pub const META_KEY_BYTES_MAX: usize = 128;
/// Longest value of a metadata pair, in bytes.
pub const META_VALUE_BYTES_MAX: usize = 512;
/// Keys of metadata that start so are the registry's own.
pub const META_RESERVED_PREFIX: &str = "consul-";

/// A service ready to be carried by an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalService {
    /// The instance.
    pub instance: ServiceInstance,
    /// Its checks, each of which is of a definite kind.
    pub checks: Vec<CheckSpec>,
    /// Token to register it with, or empty.
    pub token: String,
}

impl TryFrom<ServiceDefinition> for LocalService {
    type Error = ApiError;

    fn try_from(body: ServiceDefinition) -> Result<Self, ApiError> {
        if body.name.is_empty() {
            return Err(ApiError::bad_request("Missing service name"));
        }
        let weights =
            weights(body.weights).map_err(|why| ApiError::bad_request(format!("Invalid Weights: {why}")))?;
        validate_meta(&body.meta)
            .map_err(|why| ApiError::bad_request(format!("Invalid Service Meta: {why}")))?;
        let name = ServiceName::new(&body.name).map_err(|why| bad_name("service name", &body.name, why))?;
        let id = if body.id.is_empty() { &body.name } else { &body.id };
        let id = InstanceId::new(id).map_err(|why| bad_name("service ID", id, why))?;
        let checks = service_checks(body.checks, &id, &name)?;
        let address = service_address(&body.address)?;
        let instance = ServiceInstance {
            tagged_addresses: with_ip_families(body.tagged_addresses, &address, body.port),
            tags: body.tags.into_iter().map(SmolStr::from).collect(),
            meta: pairs(body.meta),
            port: body.port,
            socket_path: body.socket_path.into(),
            enable_tag_override: body.enable_tag_override,
            connect_native: body.connect_native,
            id,
            name,
            address,
            weights,
        };
        Ok(Self { instance, checks, token: body.token })
    }
}

impl TryFrom<CheckDefinition> for CheckSpec {
    type Error = ApiError;

    /// A check registered by itself.
    fn try_from(body: CheckDefinition) -> Result<Self, ApiError> {
        if body.name.is_empty() {
            return Err(ApiError::bad_request("Missing check name"));
        }
        if !body.status.is_empty() && status(&body.status).is_none() {
            return Err(ApiError::bad_request("Bad check status"));
        }
        let id = if body.id.is_empty() { body.name.clone() } else { body.id.clone() };
        let service = match body.service_id.as_str() {
            "" => None,
            id => Some(InstanceId::new(id).map_err(|why| bad_name("service ID", id, why))?),
        };
        spec(body, id, None, service)
    }
}

/// The checks of a service, with the ids and names they have when they bring none.
fn service_checks(
    bodies: Vec<CheckDefinition>,
    service: &InstanceId,
    name: &ServiceName,
) -> Result<Vec<CheckSpec>, ApiError> {
    let several = bodies.len() > 1;
    let mut specs = Vec::with_capacity(bodies.len());
    for (at, body) in bodies.into_iter().enumerate() {
        if !body.status.is_empty() && status(&body.status).is_none() {
            return Err(ApiError::bad_request("Status for checks must 'passing', 'warning', 'critical'"));
        }
        let id = match body.id.as_str() {
            "" if several => format!("service:{service}:{}", at + 1),
            "" => format!("service:{service}"),
            id => id.to_owned(),
        };
        let default_name = format!("Service '{name}' check");
        specs.push(spec(body, id, Some(default_name), Some(service.clone()))?);
    }
    Ok(specs)
}

fn spec(
    body: CheckDefinition,
    id: String,
    default_name: Option<String>,
    service: Option<InstanceId>,
) -> Result<CheckSpec, ApiError> {
    let name = if body.name.is_empty() { default_name.unwrap_or_default() } else { body.name };
    let id = CheckId::new(&id).map_err(|why| bad_name("check ID", &id, why))?;
    let spec = CheckSpec {
        notes: body.notes.into(),
        service_id: service,
        status: status(&body.status).unwrap_or(Status::Critical),
        success_before_passing: body.success_before_passing,
        failures_before_warning: body.failures_before_warning,
        failures_before_critical: body.failures_before_critical,
        slow_warning: body.slow_warning,
        slow_critical: body.slow_critical,
        host: body.host,
        ..CheckSpec::new(id, name, body.probe)
    };
    spec.kind().map_err(|why| ApiError::bad_request(format!("Invalid check: {}", invalid_check(&why))))?;
    Ok(spec)
}

/// Why a check is not valid, in Consul's words where it has some.
pub fn invalid_check(why: &InvalidCheck) -> String {
    match why {
        InvalidCheck::IntervalAndTtl => "Interval and TTL cannot both be specified".to_owned(),
        InvalidCheck::MissingInterval => {
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks".to_owned()
        }
        InvalidCheck::IntervalOnAlias => "Interval cannot be set for Alias checks".to_owned(),
        InvalidCheck::TtlOnAlias => "TTL must be not be set for Alias checks".to_owned(),
        InvalidCheck::MissingTtl => "TTL must be > 0 for TTL checks".to_owned(),
        InvalidCheck::SlowThresholds => "SlowCritical must not be below SlowWarning".to_owned(),
        InvalidCheck::HostThresholds => {
            "a Host check needs WarningPercent or CriticalPercent from 1 to 100, the former not above the latter"
                .to_owned()
        }
    }
}

impl TryFrom<catalog::Registration> for Command {
    type Error = ApiError;

    fn try_from(body: catalog::Registration) -> Result<Self, ApiError> {
        let node = node(&body)?;
        let service = body.service.map(|service| catalog_service(service, &node.name)).transpose()?;
        let checks = body.checks.into_iter().map(|check| catalog_check(check, &node.name));
        let checks = checks.collect::<Result<_, _>>()?;
        let skip_node_update = body.skip_node_update;
        Ok(Self::Register(Box::new(Registration { node, skip_node_update, service, checks })))
    }
}

impl TryFrom<catalog::Deregistration> for Command {
    type Error = ApiError;

    fn try_from(body: catalog::Deregistration) -> Result<Self, ApiError> {
        let target = match (body.service_id.as_str(), body.check_id.as_str()) {
            ("", "") => Target::Node,
            ("", id) => Target::Check(CheckId::new(id).map_err(|why| bad_name("check ID", id, why))?),
            (id, _) => Target::Instance(InstanceId::new(id).map_err(|why| bad_name("service ID", id, why))?),
        };
        Ok(Self::Deregister(Deregistration { node: node_name(&body.node)?, target }))
    }
}

fn node_name(name: &str) -> Result<NodeName, ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad_request("Must provide node"));
    }
    NodeName::new(name).map_err(|why| bad_name("node name", name, why))
}

fn node(body: &catalog::Registration) -> Result<Node, ApiError> {
    let name = node_name(&body.node)?;
    if body.address.is_empty() && !body.skip_node_update {
        return Err(ApiError::bad_request("Must provide address if SkipNodeUpdate is not set"));
    }
    validate_uuid(&body.id).map_err(|why| ApiError::bad_request(format!("Bad node ID: {why}")))?;
    Ok(Node {
        name,
        id: body.id.to_ascii_lowercase().into(),
        address: body.address.as_str().into(),
        tagged_addresses: pairs(body.tagged_addresses.clone()),
        meta: pairs(body.node_meta.clone()),
    })
}

fn catalog_service(body: catalog::ServiceRegistration, node: &NodeName) -> Result<ServiceInstance, ApiError> {
    if body.service.is_empty() {
        let text = if body.id.is_empty() {
            "Must provide service name"
        } else {
            "Must provide service name with ID"
        };
        return Err(ApiError::bad_request(text));
    }
    let id = if body.id.is_empty() { &body.service } else { &body.id };
    validate_meta(&body.meta).map_err(|why| {
        ApiError::bad_request(format!("Invalid Service Meta for node {node} and serviceID {id}: {why}"))
    })?;
    // Weights of zero are what a client sends that knows of none.
    let given = body.weights.filter(|weights| (weights.passing, weights.warning) != (0, 0));
    Ok(ServiceInstance {
        id: InstanceId::new(id).map_err(|why| bad_name("service ID", id, why))?,
        name: ServiceName::new(&body.service).map_err(|why| bad_name("service name", &body.service, why))?,
        tags: body.tags.into_iter().map(SmolStr::from).collect(),
        address: service_address(&body.address)?,
        tagged_addresses: addresses(body.tagged_addresses),
        meta: pairs(body.meta),
        port: body.port,
        socket_path: body.socket_path.into(),
        weights: weights(given).map_err(|why| ApiError::bad_request(format!("Invalid Weights: {why}")))?,
        enable_tag_override: body.enable_tag_override,
        connect_native: body.connect_native,
    })
}

fn catalog_check(body: CheckRegistration, node: &NodeName) -> Result<Check, ApiError> {
    if !body.node.is_empty() && !body.node.eq_ignore_ascii_case(node.as_str()) {
        let text = format!("check node {:?} does not match node {:?}", body.node, node.as_str());
        return Err(ApiError::bad_request(text));
    }
    let id = if body.check_id.is_empty() { &body.name } else { &body.check_id };
    let service_id = match body.service_id.as_str() {
        "" => None,
        id => Some(InstanceId::new(id).map_err(|why| bad_name("service ID", id, why))?),
    };
    let status = match body.status.as_str() {
        "" => Status::Critical,
        text => check_status(text)?,
    };
    let definition = body.definition.filter(|definition| *definition != Probe::default());
    let kind = match (&definition, body.kind.as_str()) {
        (Some(definition), "") => kind_of(definition).into(),
        (_, kind) => kind.into(),
    };
    let shown = |span: Option<std::time::Duration>| {
        span.map(|span| SmolStr::from(GoDuration::from(span).to_string())).unwrap_or_default()
    };
    Ok(Check {
        id: CheckId::new(id).map_err(|why| bad_name("check ID", id, why))?,
        interval: shown(definition.as_ref().and_then(|definition| definition.interval)),
        timeout: shown(definition.as_ref().and_then(|definition| definition.timeout)),
        name: body.name.into(),
        status,
        notes: body.notes.into(),
        output: body.output.into(),
        service_id,
        kind,
        definition: definition.map(Arc::new),
    })
}

/// What Consul calls a check with this definition; of several things to probe the first in this order counts, and
/// without an interval nothing is probed.
fn kind_of(definition: &Probe) -> &'static str {
    let probed = definition.interval.is_some();
    let script = probed && !definition.script_args.is_empty();
    let kinds = [
        ("grpc", probed && !definition.grpc.is_empty()),
        ("http", probed && !definition.http.is_empty()),
        ("ttl", definition.ttl.is_some()),
        ("tcp", probed && !definition.tcp.is_empty()),
        ("udp", probed && !definition.udp.is_empty()),
        ("alias", !definition.alias_node.is_empty() || !definition.alias_service.is_empty()),
        ("docker", script && !definition.docker_container_id.is_empty()),
        ("script", script),
        ("h2ping", probed && !definition.h2ping.is_empty()),
        ("os_service", probed && !definition.os_service.is_empty()),
    ];
    kinds.into_iter().find_map(|(kind, is)| is.then_some(kind)).unwrap_or("")
}

/// A status by its word.
pub fn status(text: &str) -> Option<Status> {
    [Status::Passing, Status::Warning, Status::Critical]
        .into_iter()
        .find(|status| crate::render::status_text(*status) == text)
}

/// A status by its word, or Consul's refusal.
pub fn check_status(text: &str) -> Result<Status, ApiError> {
    status(text).ok_or_else(|| ApiError::bad_request(format!("Invalid check status: '{text}'")))
}

fn weights(given: Option<catalog::Weights>) -> Result<Weights, &'static str> {
    let Some(given) = given else { return Ok(Weights::default()) };
    if given.passing < 1 {
        return Err("Passing must be greater than 0");
    }
    if given.warning < 0 {
        return Err("Warning must be greater or equal than 0");
    }
    match (u16::try_from(given.passing), u16::try_from(given.warning)) {
        (Ok(passing), Ok(warning)) => Ok(Weights { passing, warning }),
        _ => Err("DNS Weight must be between 0 and 65535"),
    }
}

/// Checks the metadata of a node or service against its limits.
pub fn validate_meta(meta: &BTreeMap<String, String>) -> Result<(), String> {
    if meta.len() > META_PAIRS_MAX {
        return Err(format!("Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"));
    }
    for (key, value) in meta {
        validate_meta_pair(key, value)
            .map_err(|why| format!("Couldn't load metadata pair ('{key}', '{value}'): {why}"))?;
    }
    Ok(())
}

fn validate_meta_pair(key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("Key cannot be blank".to_owned());
    }
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("Key contains invalid characters".to_owned());
    }
    if key.len() > META_KEY_BYTES_MAX {
        return Err(format!("Key is too long (limit: {META_KEY_BYTES_MAX} characters)"));
    }
    if key.starts_with(META_RESERVED_PREFIX) {
        return Err(format!("Key prefix '{META_RESERVED_PREFIX}' is reserved for internal use"));
    }
    if value.len() > META_VALUE_BYTES_MAX {
        return Err(format!("Value is too long (limit: {META_VALUE_BYTES_MAX} characters)"));
    }
    Ok(())
}

/// Checks a node's id, which may be empty.
pub fn validate_uuid(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Ok(());
    }
    if id.len() != 36 {
        return Err("uuid string is wrong length");
    }
    let well_formed = id.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    if well_formed { Ok(()) } else { Err("uuid is improperly formatted") }
}

/// An address that others can use: anything but "all of this host's".
fn service_address(address: &str) -> Result<SmolStr, ApiError> {
    match address {
        "0.0.0.0" | "::" | "[::]" => Err(ApiError::bad_request("Invalid service address")),
        usable => Ok(usable.into()),
    }
}

/// Adds the address under the tags of its family, as agents do, unless those are taken.
fn with_ip_families(
    mut given: BTreeMap<String, TaggedAddress>,
    address: &str,
    port: u16,
) -> Pairs<ServiceAddress> {
    let tags: &[&str] = match address.parse() {
        Ok(IpAddr::V4(_)) => &["lan_ipv4", "wan_ipv4"],
        Ok(IpAddr::V6(_)) => &["lan_ipv6", "wan_ipv6"],
        Err(_) => &[],
    };
    for tag in tags {
        given.entry((*tag).to_owned()).or_insert_with(|| TaggedAddress { address: address.to_owned(), port });
    }
    addresses(given)
}

fn addresses(given: BTreeMap<String, TaggedAddress>) -> Pairs<ServiceAddress> {
    let one = |(tag, it): (String, TaggedAddress)| {
        (SmolStr::from(tag), ServiceAddress { address: it.address.into(), port: it.port })
    };
    given.into_iter().map(one).collect()
}

fn pairs(map: BTreeMap<String, String>) -> Pairs {
    map.into_iter().map(|(key, value)| (SmolStr::from(key), SmolStr::from(value))).collect()
}

fn bad_name(what: &str, name: &str, why: InvalidName) -> ApiError {
    let shown: String = name.chars().take(64).collect();
    ApiError::bad_request(format!("Invalid {what} {shown:?}: {why}"))
}
