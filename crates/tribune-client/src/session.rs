//! Sessions, which hold keys: `/v1/session/…`.

use std::time::Duration;

use serde::Serialize;
use tribune_api::session::SessionCreated;
pub use tribune_api::session::SessionEntry;

use crate::client::Client;
use crate::error::Error;
use crate::question::Question;
use crate::request::Request;

/// What a session is to be. The default lasts until it is ended or its node fails.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// For people.
    pub name: String,
    /// The node it belongs to; empty means the agent's.
    pub node: String,
    /// Time within which it must be renewed; at least ten seconds unless servers allow less.
    pub ttl: Option<Duration>,
    /// How long its keys stay free when it ends; `None`: fifteen seconds.
    pub lock_delay: Option<Duration>,
    /// Whether its keys are removed when it ends, instead of being let go.
    pub deletes_keys: bool,
    /// Checks of its node that end it when they turn critical; `None`: whether the node is alive.
    pub node_checks: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_delay: Option<String>,
    behavior: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_checks: Option<&'a [String]>,
}

/// One session; the list is empty when it is not there.
pub fn info(id: &str) -> Question<Vec<SessionEntry>> {
    Question::new(Request::get(&["session", "info", id]))
}

/// The sessions of a node.
pub fn on_node(node: &str) -> Question<Vec<SessionEntry>> {
    Question::new(Request::get(&["session", "node", node]))
}

/// All sessions.
pub fn list() -> Question<Vec<SessionEntry>> {
    Question::new(Request::get(&["session", "list"]))
}

impl Client {
    /// Begins a session and gives its id.
    pub async fn create_session(&self, session: &NewSession) -> Result<String, Error> {
        let millis = |span: Duration| format!("{}ms", span.as_millis());
        let body = Body {
            name: &session.name,
            node: &session.node,
            ttl: session.ttl.map(millis),
            lock_delay: session.lock_delay.map(millis),
            behavior: if session.deletes_keys { "delete" } else { "release" },
            node_checks: session.node_checks.as_deref(),
        };
        let request = Request::put(&["session", "create"]).json(&body)?;
        let created: SessionCreated = self.change_with_answer(&request).await?;
        Ok(created.id)
    }

    /// Ends a session. That it is not there is no error.
    pub async fn destroy_session(&self, id: &str) -> Result<(), Error> {
        self.change(&Request::put(&["session", "destroy", id])).await
    }

    /// Starts the time of a session anew; gives whether it is still there.
    pub async fn renew_session(&self, id: &str) -> Result<bool, Error> {
        match self.change(&Request::put(&["session", "renew", id])).await {
            Ok(()) => Ok(true),
            Err(Error::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
