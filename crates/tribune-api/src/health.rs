//! Checks and health answers as they are read, and the definition of a check, which bodies and configuration
//! files share.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use smol_str::SmolStr;
use tribune_core::CheckDefinition;

use crate::catalog::{Node, NodeService};
use crate::decode::{DecodeError, DecodeReason, Object, or_default};
use crate::render::DefinitionJson;

/// A check as all lists of checks show it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// Name of its node.
    pub node: String,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// For people.
    pub name: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// For people.
    pub notes: String,
    /// What the last probe said.
    pub output: String,
    /// The instance it belongs to, or empty.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service of that instance, or empty.
    pub service_name: String,
    /// The tags of that instance.
    #[serde(deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// What kind of check it is, or empty.
    #[serde(rename = "Type")]
    pub kind: String,
    /// How it is probed, where the catalog knows.
    #[serde(deserialize_with = "definition")]
    pub definition: CheckDefinition,
    /// When it was created.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

/// An instance with its node and the checks that bear on it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceEntry {
    /// The node.
    pub node: Node,
    /// The instance.
    pub service: NodeService,
    /// Checks of the node and of the instance.
    #[serde(deserialize_with = "or_default")]
    pub checks: Vec<HealthCheck>,
}

/// A check in a catalog registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckRegistration {
    /// Name of its node; empty means the node that is registered.
    pub node: String,
    /// Unique on its node; empty means the name.
    pub check_id: String,
    /// For people.
    pub name: String,
    /// `passing`, `warning` or `critical`; empty means critical.
    pub status: String,
    /// For people.
    pub notes: String,
    /// What the last probe said.
    pub output: String,
    /// The instance it belongs to, or empty.
    pub service_id: String,
    /// What kind of check it is; empty means what its definition says.
    pub kind: String,
    /// How it is probed.
    pub definition: Option<CheckDefinition>,
}

impl CheckRegistration {
    pub(crate) fn decode(value: Value) -> Result<Self, DecodeError> {
        let mut object = Object::new(value)?;
        let read = Self {
            node: object.text(&["Node"])?,
            check_id: object.text(&["CheckID"])?,
            name: object.text(&["Name"])?,
            status: object.text(&["Status"])?,
            notes: object.text(&["Notes"])?,
            output: object.text(&["Output"])?,
            service_id: object.text(&["ServiceID"])?,
            kind: object.text(&["Type"])?,
            definition: object.nested(&["Definition"], |value| {
                // Whatever else a definition holds is passed over, as Consul does.
                decode_definition(&mut Object::new(value)?)
            })?,
        };
        // What follows is shown in answers and decided by us: whoever writes back what they read is understood.
        for derived in
            ["ServiceName", "ServiceTags", "CreateIndex", "ModifyIndex", "Interval", "Timeout", "ExposedPort"]
        {
            object.take(&[derived])?;
        }
        object.refuse(&["PeerName"], "cluster peering is not part of Tribune; leave it out")?;
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

impl Serialize for CheckRegistration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in [
            ("Node", &self.node),
            ("CheckID", &self.check_id),
            ("Name", &self.name),
            ("Status", &self.status),
            ("Notes", &self.notes),
            ("Output", &self.output),
            ("ServiceID", &self.service_id),
            ("Type", &self.kind),
        ] {
            if !value.is_empty() {
                out.serialize_entry(key, value)?;
            }
        }
        if self.definition.is_some() {
            out.serialize_entry("Definition", &DefinitionJson(self.definition.as_ref()))?;
        }
        out.end()
    }
}

/// Reads the fields of a definition out of a larger object, in Consul's two spellings of each.
pub(crate) fn decode_definition(object: &mut Object) -> Result<CheckDefinition, DecodeError> {
    let small = |text: String| SmolStr::from(text);
    let h2ping = object.text(&["H2PING", "h2ping"])?;
    let h2ping_use_tls = object.flag(&["H2PingUseTLS", "h2ping_use_tls"])?;
    let header: BTreeMap<String, Vec<String>> = object.map(&["Header"], crate::decode::texts)?;
    let output_max_size =
        object.integer(&["OutputMaxSize", "output_max_size"], i64::MIN..=i64::from(u32::MAX))?;
    if output_max_size.is_some_and(|size| size < 0) {
        let rule = "Invalid check: MaxOutputMaxSize must be positive".to_owned();
        return Err(DecodeError::here(DecodeReason::Refused(rule)));
    }
    Ok(CheckDefinition {
        http: small(object.text(&["HTTP"])?),
        header: header.into_iter().map(|(name, values)| (name.into(), boxed(values))).collect(),
        method: small(object.text(&["Method"])?),
        body: small(object.text(&["Body"])?),
        disable_redirects: object.flag(&["DisableRedirects", "disable_redirects"])?.unwrap_or(false),
        tls_server_name: small(object.text(&["TLSServerName", "tls_server_name"])?),
        tls_skip_verify: object.flag(&["TLSSkipVerify", "tls_skip_verify"])?.unwrap_or(false),
        tcp: small(object.text(&["TCP"])?),
        tcp_use_tls: object.flag(&["TCPUseTLS", "tcp_use_tls"])?.unwrap_or(false),
        udp: small(object.text(&["UDP"])?),
        grpc: small(object.text(&["GRPC"])?),
        grpc_use_tls: object.flag(&["GRPCUseTLS", "grpc_use_tls"])?.unwrap_or(false),
        h2ping_use_tls: h2ping_use_tls.unwrap_or(!h2ping.is_empty()),
        h2ping: small(h2ping),
        os_service: small(object.text(&["OSService", "os_service"])?),
        script_args: boxed(object.texts(&["ScriptArgs", "Args", "script_args"])?),
        docker_container_id: small(object.text(&["DockerContainerID", "docker_container_id"])?),
        shell: small(object.text(&["Shell"])?),
        alias_node: small(object.text(&["AliasNode", "alias_node"])?),
        alias_service: small(object.text(&["AliasService", "alias_service"])?),
        ttl: object.duration_if_set(&["TTL"])?,
        interval: object.duration_if_set(&["Interval"])?,
        timeout: object.duration(&["Timeout"])?,
        deregister_critical_service_after: object
            .duration(&["DeregisterCriticalServiceAfter", "deregister_critical_service_after"])?,
        output_max_size: output_max_size.and_then(|size| u32::try_from(size).ok()).filter(|&size| size > 0),
    })
}

fn boxed(texts: Vec<String>) -> Box<[SmolStr]> {
    texts.into_iter().map(SmolStr::from).collect()
}

/// For clients: what cannot be understood of a definition is an error of the answer.
fn definition<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<CheckDefinition, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let read = Object::new(value).and_then(|mut object| decode_definition(&mut object));
    read.map_err(serde::de::Error::custom)
}
