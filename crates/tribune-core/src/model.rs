//! What the registry holds, as plain data: nodes, service instances, checks.
//!
//! Values that hardly ever have entries (tags, metadata, tagged addresses) are boxed slices: a datacenter holds
//! a hundred thousand of them, and an empty map costs more than a full slice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ids::{CheckId, Index, InstanceId, NodeName, ServiceName};

/// A small sorted map with unique keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(SmolStr, V)>")]
#[serde(bound(deserialize = "V: Deserialize<'de>"))]
pub struct Pairs<V = SmolStr>(Box<[(SmolStr, V)]>);

impl<V> Pairs<V> {
    /// The value under `key`, which is compared exactly.
    pub fn get(&self, key: &str) -> Option<&V> {
        let at = self.0.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All pairs in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<V> From<Vec<(SmolStr, V)>> for Pairs<V> {
    /// Of several pairs with one key the last is kept, as in a JSON object.
    fn from(mut pairs: Vec<(SmolStr, V)>) -> Self {
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self(pairs.into_boxed_slice())
    }
}

impl<V> FromIterator<(SmolStr, V)> for Pairs<V> {
    fn from_iter<I: IntoIterator<Item = (SmolStr, V)>>(pairs: I) -> Self {
        Self::from(pairs.into_iter().collect::<Vec<_>>())
    }
}

/// Something in a table, with the log positions of its creation and of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored<T> {
    /// The thing itself.
    pub value: T,
    /// When it came into being (`CreateIndex`).
    pub created: Index,
    /// When it last changed (`ModifyIndex`).
    pub modified: Index,
}

/// A host that carries services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name; the identity of a node in the catalog.
    pub name: NodeName,
    /// Its UUID in lower case, or empty for nodes registered without one.
    pub id: SmolStr,
    /// Where it is reached: an IP address or a host name.
    pub address: SmolStr,
    /// Further addresses by purpose (`lan`, `wan`, `lan_ipv4`, …).
    pub tagged_addresses: Pairs,
    /// Free metadata.
    pub meta: Pairs,
}

/// An address and port of a service under some tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// IP address or host name.
    pub address: SmolStr,
    /// Port.
    pub port: u16,
}

/// How much traffic an instance should get, relative to its siblings (SRV weight).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While all checks pass; 1 to 65535.
    pub passing: u16,
    /// While the worst check is a warning; 0 to 65535.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// One running instance of a service on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInstance {
    /// Unique on its node.
    pub id: InstanceId,
    /// The service it is an instance of.
    pub name: ServiceName,
    /// Labels in the order given, duplicates kept.
    pub tags: Box<[SmolStr]>,
    /// Where it is reached; empty means at the node's address.
    pub address: SmolStr,
    /// Further addresses by purpose.
    pub tagged_addresses: Pairs<ServiceAddress>,
    /// Free metadata.
    pub meta: Pairs,
    /// Port, 0 when it has none.
    pub port: u16,
    /// Path of a Unix socket, or empty.
    #[serde(default)]
    pub socket_path: SmolStr,
    /// SRV weights.
    pub weights: Weights,
    /// Whether others may change its tags in the catalog against its agent's will.
    pub enable_tag_override: bool,
    /// Whether it speaks the service mesh's protocol by itself.
    #[serde(default)]
    pub connect_native: bool,
}

/// The state of a check. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// All is well.
    Passing,
    /// Usable, but somebody should look.
    Warning,
    /// Not usable.
    Critical,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// The result of a check as the catalog shows it. Name and tags of its service are not stored here: they are
/// those of the instance it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Unique on its node.
    pub id: CheckId,
    /// For people.
    pub name: SmolStr,
    /// Current state.
    pub status: Status,
    /// For people, written by whoever defined the check.
    pub notes: SmolStr,
    /// What the last probe said.
    pub output: Arc<str>,
    /// The instance it belongs to; `None` for a check of the node itself.
    pub service_id: Option<InstanceId>,
    /// What kind of probe stands behind it (`http`, `ttl`, …), or empty.
    pub kind: SmolStr,
    /// How it is probed, for those who probe on behalf of others; `None` for an agent's own checks.
    pub definition: Option<Arc<CheckDefinition>>,
    /// Time between probes as shown to people (`10s`), or empty.
    #[serde(default)]
    pub interval: SmolStr,
    /// Time limit of a probe as shown to people, or empty.
    #[serde(default)]
    pub timeout: SmolStr,
}

/// How something is to be probed. One field group per kind; which of them applies is decided by whoever probes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckDefinition {
    /// URL of an HTTP probe.
    pub http: SmolStr,
    /// Request headers of an HTTP probe.
    pub header: Pairs<Box<[SmolStr]>>,
    /// Request method of an HTTP probe; empty means GET.
    pub method: SmolStr,
    /// Request body of an HTTP probe.
    pub body: SmolStr,
    /// Whether redirects count as the answer instead of being followed.
    pub disable_redirects: bool,
    /// Name expected in the certificate of the other end.
    pub tls_server_name: SmolStr,
    /// Whether certificates are taken unseen.
    pub tls_skip_verify: bool,
    /// `host:port` of a TCP probe.
    pub tcp: SmolStr,
    /// Whether a TCP probe completes a TLS handshake.
    pub tcp_use_tls: bool,
    /// `host:port` of a UDP probe.
    pub udp: SmolStr,
    /// `host:port[/service]` of a gRPC health probe.
    pub grpc: SmolStr,
    /// Whether the gRPC probe uses TLS.
    pub grpc_use_tls: bool,
    /// `host:port` of an HTTP/2 ping probe.
    pub h2ping: SmolStr,
    /// Whether the HTTP/2 ping probe uses TLS.
    pub h2ping_use_tls: bool,
    /// Name of an operating system service.
    pub os_service: SmolStr,
    /// Program and arguments of a script probe.
    pub script_args: Box<[SmolStr]>,
    /// Container in which a script probe runs.
    pub docker_container_id: SmolStr,
    /// Shell of a container probe.
    pub shell: SmolStr,
    /// Node whose state is copied; empty means this node.
    pub alias_node: SmolStr,
    /// Instance whose state is copied.
    pub alias_service: SmolStr,
    /// Time within which a TTL check must be renewed.
    pub ttl: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Time limit of a probe.
    pub timeout: Option<Duration>,
    /// How long the check may be critical before its service is removed.
    pub deregister_critical_service_after: Option<Duration>,
    /// How many bytes of output are kept.
    pub output_max_size: Option<u32>,
}
