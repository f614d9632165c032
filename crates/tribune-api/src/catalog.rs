//! Bodies of `/v1/catalog/…` as they are read: answers by clients, registrations and deregistrations by servers.
//! How answers are written is in [`crate::render`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decode::{DecodeError, DecodeReason, Object, or_default, parse};
use crate::health::CheckRegistration;

/// A node as lists and answers show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// UUID, or empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub node: String,
    /// Address.
    pub address: String,
    /// Datacenter.
    pub datacenter: String,
    /// Further addresses by purpose.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Metadata.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// When it was created.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

/// An address of a service under some tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaggedAddress {
    /// IP address or host name.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// SRV weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While everything passes.
    pub passing: i64,
    /// While something warns.
    pub warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// An instance beside its node, as in health answers and on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeService {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub service: String,
    /// Tags.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Own address; empty means the node's.
    pub address: String,
    /// Further addresses by purpose.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Metadata.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Port.
    pub port: u16,
    /// SRV weights.
    pub weights: Weights,
    /// Whether others may change its tags.
    pub enable_tag_override: bool,
    /// When it was created.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

/// An instance with its node in one flat object, as `/v1/catalog/service/:name` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogService {
    /// UUID of the node, or empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub address: String,
    /// Datacenter.
    pub datacenter: String,
    /// Further addresses of the node.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Metadata of the node.
    #[serde(deserialize_with = "or_default")]
    pub node_meta: BTreeMap<String, String>,
    /// Unique on its node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service's name.
    pub service_name: String,
    /// Tags.
    #[serde(deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// Own address; empty means the node's.
    pub service_address: String,
    /// Further addresses of the service.
    #[serde(deserialize_with = "or_default")]
    pub service_tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// SRV weights.
    pub service_weights: Weights,
    /// Metadata of the service.
    #[serde(deserialize_with = "or_default")]
    pub service_meta: BTreeMap<String, String>,
    /// Port.
    pub service_port: u16,
    /// Whether others may change its tags.
    pub service_enable_tag_override: bool,
    /// When the instance was created.
    pub create_index: u64,
    /// When the instance last changed.
    pub modify_index: u64,
}

/// A node with what runs on it, as `/v1/catalog/node/:node` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeServices {
    /// The node.
    pub node: Node,
    /// Its instances by id.
    #[serde(deserialize_with = "or_default")]
    pub services: BTreeMap<String, NodeService>,
}

/// Body of `/v1/catalog/register`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    /// Datacenter to write to; empty means the one asked.
    pub datacenter: String,
    /// UUID of the node, or empty.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub address: String,
    /// Further addresses of the node.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Metadata of the node.
    pub node_meta: BTreeMap<String, String>,
    /// Leaves a node that exists as it is.
    pub skip_node_update: bool,
    /// An instance on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRegistration>,
    /// Checks of the node or its instances.
    pub checks: Vec<CheckRegistration>,
}

/// The instance in a catalog registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceRegistration {
    /// Unique on its node; empty means the name.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub service: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Own address; empty means the node's.
    pub address: String,
    /// Further addresses by purpose.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Port.
    pub port: u16,
    /// Path of a Unix socket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// SRV weights; absent means one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Whether others may change its tags.
    pub enable_tag_override: bool,
    /// Whether it speaks the service mesh's protocol by itself.
    #[serde(skip)]
    pub connect_native: bool,
}

/// Body of `/v1/catalog/deregister`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Deregistration {
    /// Datacenter to write to; empty means the one asked.
    pub datacenter: String,
    /// The node.
    pub node: String,
    /// The instance to remove, or empty.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The check to remove, or empty.
    #[serde(rename = "CheckID")]
    pub check_id: String,
}

impl Registration {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut object = Object::new(parse(body)?)?;
        let mut checks: Vec<_> = object.nested(&["Check"], CheckRegistration::decode)?.into_iter().collect();
        checks.extend(object.list(&["Checks"], CheckRegistration::decode)?);
        let read = Self {
            datacenter: object.text(&["Datacenter"])?,
            id: object.text(&["ID"])?,
            node: object.text(&["Node"])?,
            address: object.text(&["Address"])?,
            tagged_addresses: object.pairs(&["TaggedAddresses"])?,
            node_meta: object.pairs(&["NodeMeta"])?,
            skip_node_update: object.flag(&["SkipNodeUpdate"])?.unwrap_or(false),
            service: object.nested(&["Service"], ServiceRegistration::decode)?,
            checks,
        };
        object.take(&["WriteRequest"])?;
        object.take(&["Token"])?;
        object.take(&["Locality"])?;
        object.refuse(&["PeerName"], "cluster peering is not part of Tribune; leave it out")?;
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

impl ServiceRegistration {
    pub(crate) fn decode(value: Value) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let read = Self {
            id: object.text(&["ID"])?,
            service: object.text(&["Service"])?,
            tags: object.texts(&["Tags"])?,
            address: object.text(&["Address"])?,
            tagged_addresses: object.map(&["TaggedAddresses"], TaggedAddress::decode)?,
            meta: object.pairs(&["Meta"])?,
            port: object.port(&["Port"])?,
            socket_path: object.text(&["SocketPath"])?,
            weights: object.nested(&["Weights"], Weights::decode)?,
            enable_tag_override: object.flag(&["EnableTagOverride"])?.unwrap_or(false),
            connect_native: decode_mesh(&mut object)?,
        };
        // What an answer of ours or of Consul's holds besides: whoever writes back what they read is understood.
        for read_only in ["CreateIndex", "ModifyIndex", "Locality", "LocallyRegisteredAsSidecar"] {
            object.take(&[read_only])?;
        }
        object.refuse(&["PeerName"], "cluster peering is not part of Tribune; leave it out")?;
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

/// The parts of a service that belong to the service mesh; gives whether it speaks the mesh's protocol itself.
pub(crate) fn decode_mesh(object: &mut Object) -> Result<bool, DecodeError> {
    const INSTEAD: &str = "the service mesh is not part of Tribune; register the service without it";
    object.refuse(&["Kind"], INSTEAD)?;
    object.refuse(&["Proxy"], INSTEAD)?;
    let native = object.nested(&["Connect"], |value| {
        let mut connect = Object::new(value)?;
        let native = connect.flag(&["Native"])?.unwrap_or(false);
        // An empty sidecar asks for one with everything at its default, so it says something.
        connect.nested(&["SidecarService", "sidecar_service"], |_| {
            Err::<(), _>(DecodeError::here(DecodeReason::NotOffered(INSTEAD)))
        })?;
        Ok(native)
    })?;
    Ok(native.unwrap_or(false))
}

impl Deregistration {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut object = Object::new(parse(body)?)?;
        let read = Self {
            datacenter: object.text(&["Datacenter"])?,
            node: object.text(&["Node"])?,
            service_id: object.text(&["ServiceID"])?,
            check_id: object.text(&["CheckID"])?,
        };
        object.take(&["Address"])?;
        object.take(&["WriteRequest"])?;
        object.take(&["Token"])?;
        object.refuse(&["PeerName"], "cluster peering is not part of Tribune; leave it out")?;
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

impl TaggedAddress {
    pub(crate) fn decode(value: Value) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let read = Self { address: object.text(&["Address"])?, port: object.port(&["Port"])? };
        object.finish()?;
        Ok(read)
    }
}

impl Weights {
    pub(crate) fn decode(value: Value) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let all = i64::MIN..=i64::MAX;
        let read = Self {
            passing: object.integer(&["Passing"], all.clone())?.unwrap_or(0),
            warning: object.integer(&["Warning"], all)?.unwrap_or(0),
        };
        object.finish()?;
        Ok(read)
    }
}
