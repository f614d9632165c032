//! Keys and values: `/v1/kv/…`. For coordination: settings that change while programs run, locks, leaders.

use http::Method;
use serde::Deserialize;
pub use tribune_api::kv::KvPair;

use crate::client::Client;
use crate::error::Error;
use crate::question::Question;
use crate::request::Request;

/// What is kept under one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<KvPair>")]
pub struct Found(pub Option<KvPair>);

impl From<Vec<KvPair>> for Found {
    fn from(list: Vec<KvPair>) -> Self {
        Self(list.into_iter().next())
    }
}

/// One key. A watch on one that is not there waits until it is.
pub fn get(key: &str) -> Question<Found> {
    Question::new(Request::to_key(Method::GET, key).or_empty())
}

/// All keys that start with `prefix`, in the order of their bytes; the empty prefix asks for all there are.
pub fn tree(prefix: &str) -> Question<Vec<KvPair>> {
    Question::new(Request::to_key(Method::GET, prefix).with("recurse", "").or_empty())
}

/// The names of all keys that start with `prefix`. With a `separator` names are cut behind its first occurrence
/// after the prefix, as a listing of a folder would.
pub fn names(prefix: &str, separator: &str) -> Question<Vec<String>> {
    let request = Request::to_key(Method::GET, prefix).with("keys", "").or_empty();
    Question::new(if separator.is_empty() { request } else { request.with("separator", separator) })
}

/// A value to be written, and under which condition.
///
/// ```
/// use tribune_client::kv::Put;
///
/// let only_if_absent = Put::new("app/leader", "host-1").cas(0);
/// ```
#[derive(Debug, Clone)]
pub struct Put {
    request: Request,
}

impl Put {
    /// Writes `value` under `key`, whatever is there.
    pub fn new(key: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { request: Request::to_key(Method::PUT, key).bytes(value.into()) }
    }

    /// Sets a number that belongs to whoever uses the key.
    #[must_use]
    pub fn flags(self, flags: u64) -> Self {
        self.with("flags", flags.to_string())
    }

    /// Only when the key last changed at this index; 0: only when it is not there.
    #[must_use]
    pub fn cas(self, index: u64) -> Self {
        self.with("cas", index.to_string())
    }

    /// Only when this session has the key or can have it now, and then holds it.
    #[must_use]
    pub fn acquire(self, session: &str) -> Self {
        self.with("acquire", session)
    }

    /// Only when this session holds the key, which it then lets go.
    #[must_use]
    pub fn release(self, session: &str) -> Self {
        self.with("release", session)
    }

    /// In another datacenter.
    #[must_use]
    pub fn datacenter(self, name: &str) -> Self {
        self.with("dc", name)
    }

    fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        Self { request: self.request.with(name, value) }
    }
}

/// Which keys are to be removed.
#[derive(Debug, Clone)]
pub struct Delete {
    request: Request,
}

impl Delete {
    /// One key. That it is not there is no error.
    pub fn key(key: &str) -> Self {
        Self { request: Request::to_key(Method::DELETE, key) }
    }

    /// All keys that start with `prefix`; the empty prefix removes everything.
    pub fn tree(prefix: &str) -> Self {
        Self { request: Request::to_key(Method::DELETE, prefix).with("recurse", "") }
    }

    /// Only when the key last changed at this index.
    #[must_use]
    pub fn cas(self, index: u64) -> Self {
        Self { request: self.request.with("cas", index.to_string()) }
    }

    /// In another datacenter.
    #[must_use]
    pub fn datacenter(self, name: &str) -> Self {
        Self { request: self.request.with("dc", name) }
    }
}

impl Client {
    /// Writes a value; gives whether its condition held. Without one it always does.
    ///
    /// ```no_run
    /// # async fn run(client: tribune_client::Client) -> Result<(), tribune_client::Error> {
    /// use tribune_client::kv::Put;
    ///
    /// if !client.put(&Put::new("app/once", "1").cas(0)).await? {
    ///     println!("somebody was faster");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&self, put: &Put) -> Result<bool, Error> {
        self.change_with_answer(&put.request).await
    }

    /// Removes keys; gives whether the condition held. Without one it always does.
    pub async fn delete(&self, delete: &Delete) -> Result<bool, Error> {
        self.change_with_answer(&delete.request).await
    }
}
