//! Bodies of `/v1/query/…`: prepared queries as they are written and read, and what executing one gives.

mod decode;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tribune_core::query::{Query, ServiceQuery, TemplateSpec};
use tribune_core::{Pairs, Stored};

use crate::duration::GoDuration;
use crate::error::ApiError;

/// The one type of templates.
const NAME_PREFIX_MATCH: &str = "name_prefix_match";

/// What is shown in the place of a token.
const HIDDEN: &str = "<hidden>";

/// A prepared query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PreparedQuery {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// The session it ends with.
    pub session: String,
    /// The token it is executed with.
    pub token: String,
    /// Whether it is a template.
    pub template: Template,
    /// What is asked for.
    pub service: Service,
    /// How DNS answers with it.
    #[serde(rename = "DNS")]
    pub dns: Dns,
    /// When it came into being.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

/// What makes a query a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Template {
    /// `name_prefix_match`, or empty.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Takes parts out of names.
    pub regexp: String,
    /// Whether empty tags are left out.
    pub remove_empty_tags: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// The service.
    pub service: String,
    /// What to do when no instance is here.
    pub failover: Failover,
    /// Leaves out instances with warnings.
    pub only_passing: bool,
    /// Checks that do not count.
    #[serde(rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Option<Vec<String>>,
    /// The node whose neighbours come first.
    pub near: String,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// Metadata of the node.
    pub node_meta: Option<BTreeMap<String, String>>,
    /// Metadata of the instance.
    pub service_meta: Option<BTreeMap<String, String>>,
    /// Only instances that speak the service mesh's protocol.
    pub connect: bool,
}

/// Where to look when no instance is here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failover {
    /// So many of the nearest datacenters.
    pub nearest_n: i64,
    /// Then these.
    pub datacenters: Option<Vec<String>>,
}

/// How DNS answers with a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// How long answers may be kept.
    #[serde(rename = "TTL")]
    pub ttl: String,
}

/// Answer to the creation of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The id that was given to it.
    #[serde(rename = "ID")]
    pub id: String,
}

/// What executing a query gives, whoever answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Executed {
    /// The service that was asked for.
    pub service: String,
    /// The instances, as in `/v1/health/service/:name`.
    pub nodes: Box<RawValue>,
    /// How long DNS answers may be kept.
    #[serde(rename = "DNS")]
    pub dns: Dns,
    /// The datacenter that answered.
    pub datacenter: String,
    /// How many other datacenters were asked.
    pub failovers: u64,
    /// What the answer says of itself.
    #[serde(flatten)]
    pub meta: QueryMeta,
}

/// What an answer says of itself, in its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryMeta {
    /// Always zero.
    pub index: u64,
    /// How long ago the answering server heard from its leader, in nanoseconds.
    pub last_contact: u64,
    /// Whether it knew one.
    pub known_leader: bool,
    /// `leader`, `consistent` or `stale`.
    pub consistency_level: String,
}

/// Answer to what a query means for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explained {
    /// The query with what it asks for filled in.
    pub query: PreparedQuery,
    /// What the answer says of itself.
    #[serde(flatten)]
    pub meta: QueryMeta,
}

impl Executed {
    /// Whether nobody answered.
    pub fn is_empty(&self) -> bool {
        self.nodes.get().split_ascii_whitespace().eq(["[]"]) || self.nodes.get() == "null"
    }
}

impl PreparedQuery {
    /// A query as it is kept. Its token is hidden from those who may not see it.
    pub fn shown(stored: &Stored<Query>) -> Self {
        let mut shown = Self::from(&stored.value);
        if !shown.token.is_empty() {
            HIDDEN.clone_into(&mut shown.token);
        }
        Self { create_index: stored.created.0, modify_index: stored.modified.0, ..shown }
    }

    /// The query to be kept under this id, or why it makes no sense.
    pub fn into_query(self, id: &str) -> Result<Query, ApiError> {
        let invalid = |why: String| ApiError::server(format!("Invalid prepared query: {why}"));
        if self.name.is_empty() && self.template.kind.is_empty() && self.session.is_empty() {
            return Err(invalid("Must be bound to a session".to_owned()));
        }
        if self.token == HIDDEN {
            return Err(invalid(format!(
                "Bad Token '{HIDDEN}', it looks like a query definition with a redacted token was submitted"
            )));
        }
        if self.service.service.is_empty() {
            return Err(invalid("Must provide a Service name to query".to_owned()));
        }
        let nearest_n = self.service.failover.nearest_n;
        let nearest_n = u64::try_from(nearest_n)
            .map_err(|_| invalid(format!("Bad NearestN '{nearest_n}', must be >= 0")))?;
        let ttl = match self.dns.ttl.as_str() {
            "" => GoDuration::default(),
            text => text.parse().map_err(|error| invalid(format!("Bad DNS TTL '{text}': {error}")))?,
        };
        if ttl.0 < 0 {
            return Err(invalid(format!("DNS TTL '{}', must be >=0", ttl.0)));
        }
        let template = match self.template.kind.as_str() {
            "" => None,
            NAME_PREFIX_MATCH => Some(TemplateSpec {
                regexp: self.template.regexp,
                remove_empty_tags: self.template.remove_empty_tags,
            }),
            kind => {
                return Err(ApiError::server(format!(
                    "failed compiling template: Bad Template.Type '{kind}'"
                )));
            }
        };
        Ok(Query {
            id: id.to_lowercase().into(),
            name: self.name.into(),
            session: self.session.into(),
            token: self.token.into(),
            template,
            service: self.service.into_core(nearest_n),
            dns_ttl: self.dns.ttl.into(),
            dns_ttl_span: ttl.positive().unwrap_or_default(),
        })
    }
}

impl Service {
    fn into_core(self, nearest_n: u64) -> ServiceQuery {
        let pairs = |map: Option<BTreeMap<String, String>>| -> Pairs {
            map.unwrap_or_default().into_iter().map(|(key, value)| (key.into(), value.into())).collect()
        };
        ServiceQuery {
            service: self.service,
            nearest_n,
            datacenters: self.failover.datacenters.unwrap_or_default(),
            only_passing: self.only_passing,
            ignore_check_ids: self.ignore_check_ids.unwrap_or_default(),
            near: self.near,
            tags: self.tags.unwrap_or_default(),
            node_meta: pairs(self.node_meta),
            service_meta: pairs(self.service_meta),
            connect: self.connect,
        }
    }
}

impl From<&Query> for PreparedQuery {
    /// With everything, its token too: for another server.
    fn from(query: &Query) -> Self {
        let template = query.template.as_ref().map(|template| Template {
            kind: NAME_PREFIX_MATCH.to_owned(),
            regexp: template.regexp.clone(),
            remove_empty_tags: template.remove_empty_tags,
        });
        let service = &query.service;
        let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let pairs = |pairs: &Pairs| {
            let map = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            (!pairs.is_empty()).then_some(map)
        };
        Self {
            id: query.id.to_string(),
            name: query.name.to_string(),
            session: query.session.to_string(),
            token: query.token.to_string(),
            template: template.unwrap_or_default(),
            service: Service {
                service: service.service.clone(),
                failover: Failover {
                    nearest_n: i64::try_from(service.nearest_n).unwrap_or(i64::MAX),
                    datacenters: list(&service.datacenters),
                },
                only_passing: service.only_passing,
                ignore_check_ids: list(&service.ignore_check_ids),
                near: service.near.clone(),
                tags: list(&service.tags),
                node_meta: pairs(&service.node_meta),
                service_meta: pairs(&service.service_meta),
                connect: service.connect,
            },
            dns: Dns { ttl: query.dns_ttl.to_string() },
            create_index: 0,
            modify_index: 0,
        }
    }
}
