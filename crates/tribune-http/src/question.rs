//! A question in its canonical form: what is asked, the parameters that shape the answer, what it depends on.
//! Two requests with equal keys have the same answer at the same index.

use std::fmt::Write;
use std::sync::Arc;

use tokio::time::Instant;
use tribune_api::{Addresses, Layout};
use tribune_core::{Folded, Index, State, Topic};
use tribune_raft::Replica;

/// A question with its key.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) key: String,
    pub(crate) topics: Topics,
}

/// What an answer depends on.
#[derive(Debug)]
pub(crate) enum Topics {
    One(Topic),
    Both(Topic, Topic),
    Many(Vec<Topic>),
}

impl Question {
    /// A question to a route about `subject`, which is empty for lists of everything.
    pub(crate) fn new(route: &str, subject: &str, layout: Layout, topics: Topics) -> Self {
        let mut key = String::with_capacity(route.len() + subject.len() + 16);
        key.push_str(route);
        let mut question = Self { key, topics };
        question.part("", subject);
        if layout == Layout::Pretty {
            question.part("pretty", "");
        }
        question
    }

    /// A question to a route about one service.
    pub(crate) fn about_service(route: &str, name: Folded, layout: Layout) -> Self {
        let subject = name.clone();
        Self::new(route, subject.as_str(), layout, Topics::One(Topic::Service(name)))
    }

    /// Tells apart under which addresses nodes and instances are shown.
    pub(crate) fn under(mut self, addresses: Addresses) -> Self {
        if addresses == Addresses::Wan {
            self.part("under", "wan");
        }
        self
    }

    /// Adds a parameter that shapes the answer. Lengths stand before the texts, so that no two lists of
    /// parameters make one key.
    pub(crate) fn part(&mut self, name: &str, value: &str) {
        // Writing to memory does not fail.
        let _ = write!(self.key, "\n{name} {} {value}", value.len());
    }
}

impl Topics {
    /// Makes the answer depend on one more.
    pub(crate) fn add(&mut self, topic: Topic) {
        *self = match std::mem::replace(self, Self::Many(Vec::new())) {
            Self::One(first) => Self::Both(first, topic),
            Self::Both(first, second) => Self::Many(vec![first, second, topic]),
            Self::Many(mut topics) => {
                topics.push(topic);
                Self::Many(topics)
            }
        };
    }

    /// When the answer last changed, as far as `state` knows; never 0, which clients take for "not blocking".
    pub(crate) fn index(&self, state: &State) -> Index {
        let index = match self {
            Self::One(topic) => state.index_of(topic),
            Self::Both(first, second) => state.index_of(first).max(state.index_of(second)),
            Self::Many(topics) => topics.iter().map(|topic| state.index_of(topic)).max().unwrap_or_default(),
        };
        index.max(Index(1))
    }

    /// Waits for a state in which the answer may be newer than `after`; gives the newest there is at `until`.
    pub(crate) async fn changed(&self, replica: &Replica, after: Index, until: Instant) -> Arc<State> {
        match self {
            Self::One(topic) => replica.changed(topic, after, until).await,
            Self::Both(first, second) => tokio::select! {
                state = replica.changed(first, after, until) => state,
                state = replica.changed(second, after, until) => state,
            },
            Self::Many(topics) => {
                let waits = topics.iter().map(|topic| Box::pin(replica.changed(topic, after, until)));
                futures::future::select_all(waits).await.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parameters_make_one_key() {
        let key = |parts: &[(&str, &str)]| {
            let mut question = Question::new("/v1/x", "web", Layout::Compact, Topics::One(Topic::Nodes));
            for (name, value) in parts {
                question.part(name, value);
            }
            question.key
        };
        assert_ne!(key(&[("tag", "a"), ("tag", "b")]), key(&[("tag", "a\ntag 1 b")]));
        assert_ne!(key(&[("passing", "")]), key(&[]));
        assert_eq!(key(&[("tag", "a")]), key(&[("tag", "a")]));
    }
}
