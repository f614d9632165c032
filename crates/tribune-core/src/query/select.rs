//! Which instances answer a query, in which order, and who is asked when there are none.

use std::time::Duration;

use super::ServiceQuery;
use crate::coordinate::{Coordinate, by_distance};
use crate::dice::Dice;
use crate::ids::{Datacenter, Folded};
use crate::model::Status;
use crate::state::{InstanceView, View};

/// The node itself is put first when distance brought it among so many.
const SELF_AMONG: usize = 10;

/// From where instances are near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The node.
    pub node: Folded,
    /// Where it lies, as far as known.
    pub place: Option<Coordinate>,
}

impl Near {
    /// A node of this datacenter.
    pub fn node(view: View<'_>, name: &str) -> Self {
        let node = Folded::new(name);
        let place = view.state().coordinate(node.as_str()).copied();
        Self { node, place }
    }

    /// Whether it is known how near this instance is. When it is not of the first one selected, it is of none, and
    /// the order means nothing.
    pub(crate) fn ranks(&self, view: View<'_>, instance: &InstanceView<'_>) -> bool {
        let node = instance.node.value.name.folded();
        node == self.node || (self.place.is_some() && view.state().coordinate(node.as_str()).is_some())
    }
}

/// The instances that answer a question: in random order, or the nearest first. `chance` is any number; it
/// decides the order.
pub fn select<'a>(
    view: View<'a>,
    query: &ServiceQuery,
    near: Option<&Near>,
    chance: u64,
) -> Vec<InstanceView<'a>> {
    let wanted = Wanted::new(query);
    let mut found: Vec<_> =
        view.instances(&query.service).filter(|instance| wanted.wants(instance)).collect();
    shuffle(&mut found, chance);
    let Some(near) = near else { return found };
    if let Some(from) = &near.place {
        let state = view.state();
        let place = |it: &InstanceView<'_>| state.coordinate(it.node.value.name.folded().as_str());
        found.sort_by(|a, b| by_distance(from, place(a), place(b)));
    }
    let own = found.iter().take(SELF_AMONG).position(|it| it.node.value.name.folded() == near.node);
    if let Some(own) = own {
        found.swap(0, own);
    }
    found
}

/// Whether any instance answers a question.
pub fn finds(view: View<'_>, query: &ServiceQuery) -> bool {
    let wanted = Wanted::new(query);
    view.instances(&query.service).any(|instance| wanted.wants(&instance))
}

/// The datacenters to ask when no instance is here: the nearest first, then those that are named. Each once, never
/// this one, and only those that are `known`, which are sorted by distance.
pub fn failover(
    query: &ServiceQuery,
    own: &Datacenter,
    known: &[(Datacenter, Option<Duration>)],
) -> Vec<Datacenter> {
    let others = || known.iter().filter(|(name, _)| name != own);
    let nearest = others().filter(|(_, distance)| distance.is_some()).map(|(name, _)| name);
    let nearest = nearest.take(usize::try_from(query.nearest_n).unwrap_or(usize::MAX));
    let named = query.datacenters.iter().filter_map(|named| {
        others().map(|(name, _)| name).find(|name| name.as_str().eq_ignore_ascii_case(named))
    });
    let mut order: Vec<Datacenter> = Vec::new();
    for name in nearest.chain(named) {
        if !order.contains(name) {
            order.push(name.clone());
        }
    }
    order
}

/// What an instance must be like.
struct Wanted<'q> {
    query: &'q ServiceQuery,
    with: Vec<String>,
    without: Vec<String>,
    ignored: Vec<Folded>,
}

impl<'q> Wanted<'q> {
    fn new(query: &'q ServiceQuery) -> Self {
        let tags = query.tags.iter().map(|tag| tag.to_lowercase());
        let (without, with): (Vec<_>, Vec<_>) = tags.partition(|tag| tag.starts_with('!'));
        let without = without.into_iter().map(|tag| tag[1..].to_owned()).collect();
        let ignored = query.ignore_check_ids.iter().map(|id| Folded::new(id)).collect();
        Self { query, with, without, ignored }
    }

    fn wants(&self, instance: &InstanceView<'_>) -> bool {
        let (node, service) = (&instance.node.value, &instance.service.value);
        let worst = if self.query.only_passing { Status::Passing } else { Status::Warning };
        let holds = |held: &crate::model::Pairs, wanted: &crate::model::Pairs| {
            wanted.iter().all(|(key, value)| held.get(key) == Some(value))
        };
        self.status(instance) <= worst
            && (!self.query.connect || service.connect_native)
            && holds(&node.meta, &self.query.node_meta)
            && holds(&service.meta, &self.query.service_meta)
            && self.tags_fit(&service.tags)
    }

    /// The worst of the checks that count.
    fn status(&self, instance: &InstanceView<'_>) -> Status {
        let checks = instance.node_checks().chain(instance.own_checks());
        let counting = checks.filter(|check| !self.ignored.contains(&check.value.id.folded()));
        counting.map(|check| check.value.status).max().unwrap_or(Status::Passing)
    }

    fn tags_fit(&self, tags: &[smol_str::SmolStr]) -> bool {
        if self.with.is_empty() && self.without.is_empty() {
            return true;
        }
        let tags: Vec<String> = tags.iter().map(|tag| tag.to_lowercase()).collect();
        self.with.iter().all(|tag| tags.contains(tag)) && !self.without.iter().any(|tag| tags.contains(tag))
    }
}

/// Fisher and Yates.
fn shuffle<T>(things: &mut [T], chance: u64) {
    let mut dice = Dice(chance);
    for last in (1..things.len()).rev() {
        things.swap(last, dice.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    fn order(nearest_n: u64, named: &[&str]) -> String {
        let millis = |millis| Some(Duration::from_millis(millis));
        let known = [
            (dc("dc1"), millis(0)),
            (dc("near"), millis(5)),
            (dc("far"), millis(80)),
            (dc("unmeasured"), None),
        ];
        let datacenters = named.iter().map(|name| (*name).to_owned()).collect();
        let query = ServiceQuery { nearest_n, datacenters, ..ServiceQuery::default() };
        let order = failover(&query, &dc("dc1"), &known);
        order.iter().map(Datacenter::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_nearest_are_asked_first_and_then_the_named() {
        assert_eq!(order(0, &[]), "");
        assert_eq!(order(1, &[]), "near");
        assert_eq!(order(9, &[]), "near far");
        assert_eq!(order(0, &["far", "unknown", "dc1", "NEAR"]), "far near");
        assert_eq!(order(1, &["unmeasured", "near", "far"]), "near unmeasured far");
    }

    #[test]
    fn a_shuffle_gives_every_order() {
        let orders: BTreeSet<Vec<u8>> = (0..200)
            .map(|chance| {
                let mut things = vec![1, 2, 3];
                shuffle(&mut things, chance);
                things
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
