//! Which of the listed things a request wants: by tag, by metadata of the node, by health, by filter expression.

use tribune_api::fields::filter;
use tribune_api::{ApiError, ReadOptions};
use tribune_core::coordinate::by_distance;
use tribune_core::filter::{Fields, Filter};
use tribune_core::state::{InstanceView, View};
use tribune_core::{Folded, Node, NodeName, Status, Topic};

use crate::call::Call;
use crate::question::Question;

/// What a request selects.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// An instance must have all of these, in any letter case.
    tags: Vec<String>,
    /// A node's metadata must hold all of these.
    pub(crate) node_meta: Vec<(String, String)>,
    /// Every check of an instance and of its node must pass.
    passing: bool,
    /// A filter expression.
    filter: Option<String>,
    /// The node whose neighbours come first, by its folded name.
    near: Option<Folded>,
}

/// A filter ready to be put to things of one kind; without an expression it keeps everything.
#[derive(Debug)]
pub(crate) struct Sieve(Option<Filter>);

impl Selection {
    /// For lists of nodes and checks.
    pub(crate) fn new(options: ReadOptions) -> Self {
        Self { node_meta: options.node_meta, filter: options.filter, ..Self::default() }
    }

    /// For lists that can be sorted by distance. `agent` is the node that was asked.
    pub(crate) fn with_near(mut self, call: &Call, agent: Option<&NodeName>) -> Self {
        self.near = match call.query.text("near") {
            Some("_agent") => agent.map(NodeName::folded),
            Some(name) => Some(Folded::new(name)),
            None => None,
        };
        self
    }

    /// For lists of instances, which have tags.
    pub(crate) fn with_tags(mut self, call: &Call) -> Self {
        self.tags = call.query.tags().into_iter().map(str::to_lowercase).collect();
        self.tags.sort_unstable();
        self.tags.dedup();
        self
    }

    /// For lists of instances with their checks.
    pub(crate) fn with_passing(mut self, call: &Call) -> Result<Self, ApiError> {
        self.passing = call.query.passing()?;
        Ok(self)
    }

    /// Whether it depends on more than names and tags of whole services.
    pub(crate) fn selects_instances(&self) -> bool {
        !self.node_meta.is_empty() || self.filter.is_some()
    }

    /// Puts what shapes the answer into the question.
    pub(crate) fn shape(&self, question: &mut Question) {
        if self.passing {
            question.part("passing", "");
        }
        for tag in &self.tags {
            question.part("tag", tag);
        }
        for (key, value) in &self.node_meta {
            question.part("meta", key);
            question.part("is", value);
        }
        if let Some(near) = &self.near {
            question.part("near", near.as_str());
            question.topics.add(Topic::Coordinates);
        }
        if let Some(filter) = &self.filter {
            question.part("filter", filter);
        }
    }

    /// Whether a node is wanted.
    pub(crate) fn wants_node(&self, node: &Node) -> bool {
        self.node_meta.iter().all(|(key, value)| node.meta.get(key).is_some_and(|held| held == value))
    }

    /// The things in their order, or the nearest first when that is wanted. `node` gives the node of each; those
    /// whose place is not known come last. Without a place to measure from the order stays.
    pub(crate) fn sorted<T>(
        &self,
        view: View<'_>,
        things: impl Iterator<Item = T>,
        node: impl Fn(&T) -> Folded,
    ) -> Vec<T> {
        let state = view.state();
        let Some(from) = self.near.as_ref().and_then(|near| state.coordinate(near.as_str())) else {
            return things.collect();
        };
        let place = |thing: T| (state.coordinate(node(&thing).as_str()), thing);
        let mut placed: Vec<_> = things.map(place).collect();
        placed.sort_by(|(a, _), (b, _)| by_distance(from, *a, *b));
        placed.into_iter().map(|(_, thing)| thing).collect()
    }

    /// Whether an instance is wanted.
    pub(crate) fn wants(&self, instance: &InstanceView<'_>) -> bool {
        let has = |tag: &String| {
            let tags = instance.service.value.tags.iter();
            tags.map(|held| held.to_lowercase()).any(|held| held == *tag)
        };
        self.wants_node(&instance.node.value)
            && self.tags.iter().all(has)
            && (!self.passing || instance.status() == Status::Passing)
    }

    /// The filter, for things of one kind.
    pub(crate) fn sieve<T: Fields>(&self) -> Result<Sieve, ApiError> {
        Sieve::new::<T>(self.filter.as_deref())
    }
}

impl Sieve {
    /// A filter expression, for things of one kind.
    pub(crate) fn new<T: Fields>(expression: Option<&str>) -> Result<Self, ApiError> {
        Ok(Self(expression.map(filter::<T>).transpose()?))
    }

    pub(crate) fn keeps<T: Fields>(&self, thing: &T) -> bool {
        self.0.as_ref().is_none_or(|filter| filter.matches(thing))
    }
}
