//! User events: small messages that people send to all agents of a datacenter. What an event is, whom it concerns,
//! and which are remembered. They travel by gossip and are no part of the state.

use std::collections::VecDeque;
use std::sync::Arc;

use regex::Regex;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Events an agent remembers; older ones are forgotten.
pub const EVENTS_MAX: usize = 256;

/// Longest pattern of an event, in bytes.
const PATTERN_BYTES_MAX: usize = 512;

/// Memory that one pattern may cost when it is compiled: patterns come from whoever can send.
const PATTERN_MEMORY_MAX: usize = 256 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// A UUID in lower case.
    pub id: SmolStr,
    /// What it is about.
    pub name: SmolStr,
    /// What is told; empty when nothing is.
    pub payload: Vec<u8>,
    /// Only nodes whose name matches; empty means all.
    pub node_filter: String,
    /// Only nodes that run a service whose name matches; empty means all.
    pub service_filter: String,
    /// Of those only where a tag of the service matches; empty means all.
    pub tag_filter: String,
    /// When it was sent, by the clock that all members share.
    pub ltime: u64,
}

/// Why an event was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// It has no name.
    #[error("Missing name")]
    Nameless,
    /// Tags belong to services.
    #[error("Cannot provide tag filter without service filter")]
    TagWithoutService,
    /// One of its patterns is none. The first field says which.
    #[error("Invalid {0} filter: error parsing regexp: {1}")]
    Pattern(&'static str, String),
}

impl Event {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        if self.name.is_empty() {
            return Err(InvalidEvent::Nameless);
        }
        if !self.tag_filter.is_empty() && self.service_filter.is_empty() {
            return Err(InvalidEvent::TagWithoutService);
        }
        self.patterns().map(|_| ())
    }

    /// Which nodes, services and tags are meant.
    fn patterns(&self) -> Result<[Option<Regex>; 3], InvalidEvent> {
        Ok([
            pattern("node", &self.node_filter)?,
            pattern("service", &self.service_filter)?,
            pattern("tag", &self.tag_filter)?,
        ])
    }

    /// Whether it is for a node of this name that runs these services, each with its tags.
    pub fn concerns<'a, S, T>(&self, node: &str, services: S) -> bool
    where
        S: IntoIterator<Item = (&'a str, T)>,
        T: IntoIterator<Item = &'a str>,
    {
        let Ok([node_filter, service_filter, tag_filter]) = self.patterns() else { return false };
        let matches = |filter: &Option<Regex>, text: &str| filter.as_ref().is_none_or(|it| it.is_match(text));
        if !matches(&node_filter, node) {
            return false;
        }
        service_filter.is_none()
            || services.into_iter().any(|(name, tags)| {
                let tagged = || tags.into_iter().any(|tag| matches(&tag_filter, tag));
                matches(&service_filter, name) && (tag_filter.is_none() || tagged())
            })
    }

    /// What a reader waits with: both halves of the id folded into one number. It says nothing about order.
    pub fn index(&self) -> u64 {
        let digits: String = self.id.chars().filter(|c| *c != '-').collect();
        let half = |range| digits.get(range).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0);
        half(0..16) ^ half(16..32)
    }
}

/// Reads a pattern for nodes, services or tags, whichever `which` names. `None` for the empty one, which everything
/// matches.
pub fn pattern(which: &'static str, text: &str) -> Result<Option<Regex>, InvalidEvent> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |why| InvalidEvent::Pattern(which, why);
    if text.len() > PATTERN_BYTES_MAX {
        return Err(refused(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
    }
    let compiled = regex::RegexBuilder::new(text).size_limit(PATTERN_MEMORY_MAX).build();
    compiled.map(Some).map_err(|error| refused(error.to_string()))
}

/// The events that an agent remembers, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct EventLog(VecDeque<Arc<Event>>);

impl EventLog {
    /// Remembers an event, unless it is known already; says whether it was new.
    pub fn push(&mut self, event: Event) -> bool {
        if self.0.iter().any(|known| known.id == event.id) {
            return false;
        }
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(event));
        true
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, service: &str, tag: &str) -> Event {
        let (node_filter, service_filter, tag_filter) = (node.into(), service.into(), tag.into());
        Event { name: "deploy".into(), node_filter, service_filter, tag_filter, ..Event::default() }
    }

    #[test]
    fn an_event_concerns_those_whom_its_patterns_match() {
        let services = || [("web", vec!["v1", "blue"]), ("db", vec![])];
        let concerns = |event: &Event| event.concerns("node7", services());
        assert!(concerns(&event("", "", "")));
        assert!(concerns(&event("^node", "", "")) && !concerns(&event("^x", "", "")));
        assert!(concerns(&event("", "w.b", "")) && !concerns(&event("", "cache", "")));
        assert!(concerns(&event("", "web", "^v")) && !concerns(&event("", "db", "^v")));
        assert!(!concerns(&event("", "web", "green")));
        assert!(!concerns(&event("(", "", "")));
    }

    #[test]
    fn events_without_sense_are_refused() {
        assert_eq!(Event::default().check(), Err(InvalidEvent::Nameless));
        assert_eq!(event("", "", "x").check(), Err(InvalidEvent::TagWithoutService));
        let text = event("(", "", "").check().unwrap_err().to_string();
        assert!(text.starts_with("Invalid node filter: error parsing regexp:"), "{text}");
        assert!(event(&"x".repeat(600), "", "").check().is_err());
        assert!(event("", &"a{1000}".repeat(60), "").check().is_err(), "a pattern may not cost any amount");
        assert_eq!(event("n", "s", "t").check(), Ok(()));
    }

    #[test]
    fn the_index_is_made_of_both_halves_of_the_id() {
        let event = Event { id: "f11345b7-2d3e-6498-e649-3adc785bbca5".into(), ..Event::default() };
        assert_eq!(event.index(), 1_682_797_509_747_267_645);
        assert_eq!(Event::default().index(), 0);
    }

    #[test]
    fn the_last_ones_are_remembered_once() {
        let mut log = EventLog::default();
        for number in 0..EVENTS_MAX + 3 {
            let event = Event { id: number.to_string().into(), ..Event::default() };
            assert!(log.push(event.clone()));
            assert!(!log.push(event));
        }
        let ids: Vec<&str> = log.iter().map(|event| event.id.as_str()).collect();
        assert_eq!((ids.len(), ids[0], ids[EVENTS_MAX - 1]), (256, "3", "258"));
    }
}
