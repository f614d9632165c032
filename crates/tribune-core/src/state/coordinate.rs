//! Where the nodes of the catalog lie in the network.

use super::State;
use super::catalog::Change;
use super::topic::Topic;
use crate::coordinate::{Coordinate, Placed};
use crate::ids::Folded;

impl Change<'_> {
    /// Puts the places of nodes. Nodes that the catalog does not have are passed over: they may have gone while
    /// the measurement was on its way.
    pub(super) fn put_coordinates(&mut self, placed: &[Placed]) {
        for placed in placed.iter().filter(|placed| placed.coordinate.is_valid()) {
            let key = placed.node.folded();
            if !self.state.nodes.contains_key(&key) {
                continue;
            }
            let old = self.state.coordinates.insert(key, placed.coordinate);
            if old != Some(placed.coordinate) {
                self.touched.insert(Topic::Coordinates);
            }
        }
    }

    /// A node that goes has no place any more.
    pub(super) fn forget_coordinate(&mut self, node: &Folded) {
        if self.state.coordinates.remove(node).is_some() {
            self.touched.insert(Topic::Coordinates);
        }
    }
}

impl State {
    /// Where a node lies, by its folded name, as far as it is known.
    pub fn coordinate(&self, node: &str) -> Option<&Coordinate> {
        self.coordinates.get(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Deregistration, Outcome, Registration, Target};
    use crate::ids::{Index, NodeName};
    use crate::model::{Node, Pairs};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn put(node: &str, height: f64) -> Command {
        let coordinate = Coordinate { height, ..Coordinate::unknown() };
        Command::PutCoordinates(vec![Placed { node: name(node), coordinate }])
    }

    #[test]
    fn places_come_and_go_with_their_nodes() {
        let mut state = State::default();
        let node = Node {
            name: name("A"),
            id: "".into(),
            address: "10.0.0.1".into(),
            tagged_addresses: Pairs::default(),
            meta: Pairs::default(),
        };
        let registration = Registration { node, skip_node_update: false, service: None, checks: Vec::new() };
        state.apply(Index(1), &Command::Register(Box::new(registration)));
        let catalog = state.index_of(&Topic::Catalog);
        assert_eq!(state.apply(Index(2), &put("b", 0.1)).outcome, Outcome::Unchanged);
        assert_eq!(state.apply(Index(3), &put("a", 0.1)).touched, [Topic::Coordinates]);
        assert_eq!(state.apply(Index(4), &put("a", 0.1)).outcome, Outcome::Unchanged);
        assert_eq!(state.apply(Index(5), &put("a", f64::NAN)).outcome, Outcome::Unchanged);
        assert_eq!(state.index_of(&Topic::Coordinates), Index(3));
        assert_eq!(state.index_of(&Topic::Catalog), catalog);
        assert_eq!(state.coordinate("a").unwrap().height, 0.1);
        let slice = State::from_records(state.slice(&Topic::Node(name("a").folded()))).unwrap();
        assert_eq!(slice.coordinate("a"), state.coordinate("a"));
        assert_eq!(State::from_records(state.records()).unwrap(), state);
        let gone = Deregistration { node: name("a"), target: Target::Node };
        assert!(state.apply(Index(6), &Command::Deregister(gone)).touched.contains(&Topic::Coordinates));
        assert_eq!(state.coordinate("a"), None);
    }
}
