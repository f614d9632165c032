//! The part of a state that the answer to one topic needs, for those who hold no catalog of their own.

use std::collections::BTreeSet;

use super::State;
use super::snapshot::Record;
use super::tables::NodeEntry;
use super::topic::Topic;
use crate::coordinate::Placed;
use crate::ids::Folded;
use crate::query::ServiceQuery;

/// Of several nodes whose id begins alike no one is meant; two are enough to show that.
const ALIKE_MAX: usize = 2;

impl State {
    /// The records of which [`State::from_records`] makes a small state that answers questions about `topic` as this
    /// one does, and gives the topic the same index. Questions about anything else it answers with nothing.
    ///
    /// A node that is asked for may be named by the beginning of its id: when there is none of that name, the nodes
    /// come along whose ids begin so.
    pub fn slice(&self, topic: &Topic) -> Vec<Record> {
        let mut records = vec![self.header()];
        match topic {
            Topic::Service(key) => self.put_service(key, &mut records),
            Topic::Node(key) => match self.nodes.get(key) {
                Some(entry) => {
                    put_whole(entry, &mut records);
                    // Where it lies comes along, but a change of that alone is no change of the node.
                    let place = self.coordinates.get(key).copied();
                    let node = || entry.node.value.name.clone();
                    records
                        .extend(place.map(|it| Record::Coordinate(Placed { node: node(), coordinate: it })));
                }
                None => {
                    self.nodes_of_id(key).for_each(|entry| put_whole(entry, &mut records));
                    // Who is meant by an id changes with the nodes.
                    records.push(Record::Topic(Topic::Nodes, self.index_of(&Topic::Nodes)));
                }
            },
            Topic::Nodes => {
                records.extend(self.nodes.values().map(|entry| Record::Node(entry.node.clone())));
            }
            Topic::Services => {
                for entry in self.nodes.values() {
                    records.push(Record::Node(entry.node.clone()));
                    put_instances(entry, &mut records);
                }
            }
            Topic::Checks | Topic::Catalog => {
                self.nodes.values().for_each(|entry| put_whole(entry, &mut records))
            }
            // Not part of the catalog: only servers of this datacenter answer about these.
            Topic::Autopilot
            | Topic::Key(_)
            | Topic::Prefix(_)
            | Topic::Sessions
            | Topic::Session(_)
            | Topic::NodeSessions(_)
            | Topic::Leases
            | Topic::Coordinates
            | Topic::Queries => {}
        }
        records.push(Record::Topic(topic.clone(), self.index_of(topic)));
        records
    }

    /// The slice of the service that a prepared query asks for, with the places that decide which instance is near.
    pub fn query_slice(&self, query: &ServiceQuery) -> Vec<Record> {
        let mut records = self.slice(&Topic::Service(Folded::new(&query.service)));
        let Some(near) = query.near_node() else { return records };
        let mut nodes: BTreeSet<Folded> = BTreeSet::from([Folded::new(near)]);
        let named = |record: &Record| {
            let Record::Node(node) = record else { return None };
            Some(node.value.name.folded())
        };
        nodes.extend(records.iter().filter_map(named));
        let placed = nodes.iter().filter_map(|key| {
            let coordinate = *self.coordinates.get(key)?;
            Some(Record::Coordinate(Placed {
                node: self.nodes.get(key)?.node.value.name.clone(),
                coordinate,
            }))
        });
        records.extend(placed);
        records
    }

    /// The instances of a service, each node with its own checks and the checks of those instances only.
    fn put_service(&self, key: &Folded, records: &mut Vec<Record>) {
        let Some(service) = self.services.get(key) else { return };
        let mut last: Option<&Folded> = None;
        let mut instance_checks = Vec::new();
        for ((node, _), instance) in &service.instances {
            if last != Some(node) {
                records.append(&mut instance_checks);
                let Some(entry) = self.nodes.get(node) else { continue };
                last = Some(node);
                records.push(Record::Node(entry.node.clone()));
                records.extend(entry.own_checks.values().map(|check| Record::Check((**check).clone())));
            }
            records.push(Record::Instance(instance.service.clone()));
            instance_checks.extend(instance.checks.iter().map(|check| Record::Check((**check).clone())));
        }
        records.append(&mut instance_checks);
    }

    fn nodes_of_id<'a>(&'a self, prefix: &'a Folded) -> impl Iterator<Item = &'a NodeEntry> {
        let alike = self.node_ids.range(prefix.clone()..);
        let alike = alike.take_while(|(id, _)| id.as_str().starts_with(prefix.as_str())).take(ALIKE_MAX);
        alike.filter_map(|(_, name)| self.nodes.get(name)).map(|entry| &**entry)
    }
}

fn put_whole(entry: &NodeEntry, records: &mut Vec<Record>) {
    records.push(Record::Node(entry.node.clone()));
    put_instances(entry, records);
    records.extend(entry.checks.values().map(|check| Record::Check((**check).clone())));
}

fn put_instances(entry: &NodeEntry, records: &mut Vec<Record>) {
    records.extend(entry.instances.values().map(|held| Record::Instance(held.service.clone())));
}
