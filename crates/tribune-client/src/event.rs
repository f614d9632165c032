//! User events: `/v1/event/…`.

use bytes::Bytes;

pub use tribune_api::event::Event;

use crate::client::Client;
use crate::error::Error;
use crate::operator::at;
use crate::question::Question;
use crate::request::Request;

/// The events that the agent has received, the oldest first; with a name only those.
pub fn list(name: Option<&str>) -> Question<Vec<Event>> {
    let request = Request::get(&["event", "list"]);
    Question::new(if let Some(name) = name { request.with("name", name) } else { request })
}

/// Whom an event is for, as regular expressions; an empty one matches all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filters<'a> {
    /// Of nodes' names.
    pub node: &'a str,
    /// Of names of services on a node.
    pub service: &'a str,
    /// Of tags of such a service.
    pub tag: &'a str,
}

impl Client {
    /// Sends an event to all agents of a datacenter; gives its id.
    pub async fn fire(
        &self,
        name: &str,
        payload: Bytes,
        filters: Filters<'_>,
        datacenter: Option<&str>,
    ) -> Result<String, Error> {
        let mut request = Request::put(&["event", "fire", name]).bytes(payload);
        for (key, value) in [("node", filters.node), ("service", filters.service), ("tag", filters.tag)] {
            if !value.is_empty() {
                request = request.with(key, value);
            }
        }
        Ok(self.change_with_answer::<Event>(&at(request, datacenter)).await?.id)
    }
}
