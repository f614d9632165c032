//! What a read gives back: the value, what the agent said about its freshness, and where it comes from.

use std::time::Duration;

use http::HeaderMap;
use tribune_api::headers;
use tribune_core::Index;

use crate::error::Error;

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The log position the answer belongs to (`X-Consul-Index`); 0 where the API gives none.
    pub index: Index,
    /// Whether the answering server knew a leader.
    pub known_leader: bool,
    /// Time since the answering server heard from its leader.
    pub last_contact: Duration,
    /// Where the answer comes from. Look at it before acting on what may be old.
    pub source: Source,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An agent gave it just now.
    Agent,
    /// No agent answers; this is what one said `age` ago.
    LastKnown {
        /// Time since then.
        age: Duration,
    },
}

impl<T> Answer<T> {
    /// The value, provided that an agent gave it just now; otherwise [`Error::Outdated`].
    pub fn fresh(self) -> Result<T, Error> {
        match self.source {
            Source::Agent => Ok(self.value),
            Source::LastKnown { age } => Err(Error::Outdated { age }),
        }
    }

    /// The same answer with something else made of its value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        let Self { value, index, known_leader, last_contact, source } = self;
        Answer { value: change(value), index, known_leader, last_contact, source }
    }

    /// Takes the facts about `value` from the headers it came with. Headers that are not there or cannot be
    /// read count as "nothing known": only some endpoints have them.
    pub(crate) fn new(value: T, head: &HeaderMap, source: Source) -> Self {
        let text = |name| head.get(name).and_then(|value| value.to_str().ok());
        let number = |name| text(name).and_then(|value| value.parse::<u64>().ok());
        Self {
            value,
            index: Index(number(headers::INDEX).unwrap_or(0)),
            known_leader: text(headers::KNOWN_LEADER) == Some("true"),
            last_contact: Duration::from_millis(number(headers::LAST_CONTACT).unwrap_or(0)),
            source,
        }
    }
}
