//! Bodies of `/v1/event/…`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tribune_core::event;

/// A user event as it is sent and listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it is about.
    pub name: String,
    /// What is told, in base64; `null` when nothing is.
    pub payload: Option<String>,
    /// Only nodes whose name matches.
    pub node_filter: String,
    /// Only nodes with a service whose name matches.
    pub service_filter: String,
    /// Of those only where a tag matches.
    pub tag_filter: String,
    /// The version of its form.
    pub version: u32,
    /// When it was sent, by the members' common clock; zero in the answer to its sender.
    #[serde(rename = "LTime")]
    pub ltime: u64,
}

impl From<&event::Event> for Event {
    fn from(event: &event::Event) -> Self {
        Self {
            id: event.id.to_string(),
            name: event.name.to_string(),
            payload: (!event.payload.is_empty()).then(|| STANDARD.encode(&event.payload)),
            node_filter: event.node_filter.clone(),
            service_filter: event.service_filter.clone(),
            tag_filter: event.tag_filter.clone(),
            version: 1,
            ltime: event.ltime,
        }
    }
}
