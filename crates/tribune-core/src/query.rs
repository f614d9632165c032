//! Prepared queries: questions about services that are kept under a name, with what to do when nobody answers here.
//!
//! A query is kept as it was written. A template stands for all names that begin with its own; what it asks for is
//! filled in from the name that was used ([`Template`]). [`select`] says which instances answer, and [`failover`]
//! which datacenters are asked, in this order, when none do.

mod select;
mod template;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::model::Pairs;

pub use select::{Near, failover, finds, select};
pub use template::Template;

/// A query as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// A UUID in lower case.
    pub id: SmolStr,
    /// A name to use instead of the id; for templates the beginning of names. May be empty.
    pub name: SmolStr,
    /// The session it ends with, or empty.
    pub session: SmolStr,
    /// The token it is executed with, or empty.
    pub token: SmolStr,
    /// Makes it a template.
    pub template: Option<TemplateSpec>,
    /// What is asked for.
    pub service: ServiceQuery,
    /// How long DNS answers may be kept, as it was written; empty when nothing was.
    pub dns_ttl: SmolStr,
    /// The same as a time.
    pub dns_ttl_span: Duration,
}

/// What makes a query a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TemplateSpec {
    /// Takes parts out of the name that was used; may be empty.
    pub regexp: String,
    /// Whether tags that turn out empty are left out.
    pub remove_empty_tags: bool,
}

/// What is asked for. In a template texts may hold `${name.full}`, `${name.prefix}`, `${name.suffix}` and
/// `${match(1)}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceQuery {
    /// The service.
    pub service: String,
    /// So many of the nearest datacenters are asked when no instance is here.
    pub nearest_n: u64,
    /// Then these, in this order.
    pub datacenters: Vec<String>,
    /// Leaves out instances with warnings, too.
    pub only_passing: bool,
    /// Checks that do not count.
    pub ignore_check_ids: Vec<String>,
    /// The node whose neighbours come first; `_agent` is the one that is asked, `_ip` the one that asks.
    pub near: String,
    /// Tags that an instance must have, or with `!` before them must not have.
    pub tags: Vec<String>,
    /// What the metadata of the node must hold.
    pub node_meta: Pairs,
    /// What the metadata of the instance must hold.
    pub service_meta: Pairs,
    /// Only instances that speak the service mesh's protocol.
    pub connect: bool,
}

/// Why a query is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum QueryRefusal {
    /// Another one has the name.
    #[error("name '{0}' aliases an existing query name")]
    NameTaken(SmolStr),
    /// Another one has it as its id.
    #[error("name '{0}' aliases an existing query ID")]
    NameIsId(SmolStr),
    /// There is a template for all names already.
    #[error("a query template with an empty name already exists")]
    CatchAllTaken,
    /// There is no such session.
    #[error("invalid session {0:?}")]
    NoSession(SmolStr),
    /// There is no such query to be changed.
    #[error("Cannot modify non-existent prepared query: '{0}'")]
    Unknown(SmolStr),
    /// The template cannot be filled in.
    #[error("failed compiling template: {0}")]
    Template(String),
}

impl ServiceQuery {
    /// Whether other datacenters are asked when no instance is here.
    pub fn fails_over(&self) -> bool {
        self.nearest_n > 0 || !self.datacenters.is_empty()
    }

    /// Whether an instance may be found that is critical: where checks are ignored.
    pub fn counts_critical(&self) -> bool {
        !self.ignore_check_ids.is_empty()
    }

    /// The node whose neighbours come first, when it is one and the same for all who ask.
    pub fn near_node(&self) -> Option<&str> {
        Some(self.near.as_str()).filter(|near| !["", "_agent", "_ip"].contains(near))
    }
}

impl Query {
    /// The template that it is, if it is one.
    pub fn compiled(&self) -> Result<Option<Template>, QueryRefusal> {
        let Some(spec) = &self.template else { return Ok(None) };
        Template::new(self, spec).map(Some).map_err(QueryRefusal::Template)
    }
}
