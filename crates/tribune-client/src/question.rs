//! A question as a value: built once, asked once or watched for ever.

use std::marker::PhantomData;

use serde_json::value::RawValue;

use crate::request::Request;

/// Something to read, with a value of type `T` as its answer.
///
/// The modules [`catalog`](crate::catalog), [`health`](crate::health), [`agent`](crate::agent) and
/// [`status`](crate::status) make them; [`Client::ask`](crate::Client::ask) and
/// [`Client::watch`](crate::Client::watch) take them.
///
/// ```
/// use tribune_client::health;
///
/// let question = health::service("web").passing().tag("v2").datacenter("dc2").stale();
/// ```
#[derive(Debug)]
pub struct Question<T> {
    pub(crate) request: Request,
    answer: PhantomData<fn() -> T>,
}

impl<T> Clone for Question<T> {
    fn clone(&self) -> Self {
        Self::new(self.request.clone())
    }
}

impl<T> Question<T> {
    pub(crate) fn new(request: Request) -> Self {
        Self { request, answer: PhantomData }
    }

    fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        Self::new(self.request.with(name, value))
    }

    /// Asks another datacenter.
    pub fn datacenter(self, name: impl Into<String>) -> Self {
        self.with("dc", name)
    }

    /// Takes the answer of any server, even one that has lost its leader: fast, always there, perhaps a little
    /// old ([`Answer::last_contact`](crate::Answer::last_contact) tells).
    pub fn stale(self) -> Self {
        self.with("stale", "")
    }

    /// Takes only an answer from a leader that has just made sure it still leads.
    pub fn consistent(self) -> Self {
        self.with("consistent", "")
    }

    /// Takes an answer from the agent's cache.
    pub fn cached(self) -> Self {
        self.with("cached", "")
    }

    /// Only what an expression selects, such as `Service.Meta.version == "2"`.
    pub fn filter(self, expression: impl Into<String>) -> Self {
        self.with("filter", expression)
    }

    /// The nearest to a node first; `_agent` is the node that is asked.
    pub fn near(self, node: impl Into<String>) -> Self {
        self.with("near", node)
    }

    /// Only nodes with this pair in their metadata. May be given several times; all must be there.
    pub fn node_meta(self, key: &str, value: &str) -> Self {
        self.with("node-meta", format!("{key}:{value}"))
    }

    /// Only instances with this tag. May be given several times; all must be there.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with("tag", tag)
    }

    /// Only instances all of whose checks pass.
    pub fn passing(self) -> Self {
        self.with("passing", "1")
    }

    /// Members of the pool that spans datacenters instead of the local one.
    pub fn wan(self) -> Self {
        self.with("wan", "1")
    }

    /// The same question with the answer's JSON text as its value, for those who pass it on.
    pub fn raw(self) -> Question<Box<RawValue>> {
        Question::new(self.request)
    }
}
