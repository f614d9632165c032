//! When anything under a prefix last changed: a radix tree over keys in which each node knows the newest index
//! below it. Asking costs as much as the prefix is long, however many keys there are.
//!
//! The tree is persistent like all tables: an edit copies the nodes on its way. Its form follows from what is in
//! it alone, not from the order in which that came.

use std::sync::Arc;

use crate::ids::Index;

/// The newest index of every prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct Trie {
    root: Node,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// What follows after the parent's label; empty at the root alone.
    label: Box<[u8]>,
    /// The newest index of this node and all below it.
    newest: Index,
    /// The index of the key that ends here, if one does.
    own: Option<Index>,
    /// Ordered by the first byte of their labels, which differ.
    children: Vec<Arc<Node>>,
}

impl Trie {
    /// Notes that the key last changed at `index`, which is not older than what is known of it.
    pub(in crate::state) fn set(&mut self, key: &str, index: Index) {
        let mut node = &mut self.root;
        let mut rest = key.as_bytes();
        loop {
            node.newest = node.newest.max(index);
            let Some(first) = rest.first() else {
                node.own = Some(index);
                return;
            };
            match node.children.binary_search_by_key(first, |child| child.label[0]) {
                Err(at) => {
                    node.children.insert(at, Arc::new(Node::leaf(rest, index)));
                    return;
                }
                Ok(at) => {
                    let child = Arc::make_mut(&mut node.children[at]);
                    let common = common_length(&child.label, rest);
                    if common < child.label.len() {
                        child.split(common);
                    }
                    rest = &rest[common..];
                    node = child;
                }
            }
        }
    }

    /// Forgets a key.
    pub(in crate::state) fn remove(&mut self, key: &str) {
        self.root.remove(key.as_bytes());
    }

    /// The newest index of all keys that start with `prefix`; zero when there are none.
    pub(in crate::state) fn newest_under(&self, prefix: &str) -> Index {
        let mut node = &self.root;
        let mut rest = prefix.as_bytes();
        loop {
            let Some(first) = rest.first() else { return node.newest };
            let Ok(at) = node.children.binary_search_by_key(first, |child| child.label[0]) else {
                return Index(0);
            };
            node = &node.children[at];
            let common = common_length(&node.label, rest);
            if common < node.label.len() && common < rest.len() {
                return Index(0);
            }
            rest = &rest[common..];
        }
    }
}

impl Node {
    fn leaf(label: &[u8], index: Index) -> Self {
        Self { label: label.into(), newest: index, own: Some(index), children: Vec::new() }
    }

    /// Puts a new node in place of this one, which becomes its child, so that a label ends at `at`.
    fn split(&mut self, at: usize) {
        let (head, tail) = self.label.split_at(at);
        let (head, tail) = (Box::from(head), Box::from(tail));
        let lower = Self {
            label: tail,
            newest: self.newest,
            own: self.own.take(),
            children: std::mem::take(&mut self.children),
        };
        self.label = head;
        self.children.push(Arc::new(lower));
    }

    fn remove(&mut self, rest: &[u8]) {
        match rest.first() {
            None => self.own = None,
            Some(first) => {
                let Ok(at) = self.children.binary_search_by_key(first, |child| child.label[0]) else {
                    return;
                };
                let Some(below) = rest.strip_prefix(&*self.children[at].label) else { return };
                let child = Arc::make_mut(&mut self.children[at]);
                child.remove(below);
                if child.own.is_none() && child.children.is_empty() {
                    self.children.remove(at);
                } else {
                    child.join_only_child();
                }
            }
        }
        let below = self.children.iter().map(|child| child.newest).max();
        self.newest = self.own.max(below).unwrap_or_default();
    }

    /// A node without a key of its own and with one child is one node too many.
    fn join_only_child(&mut self) {
        if self.own.is_some() || self.children.len() != 1 {
            return;
        }
        let Some(child) = self.children.pop() else { return };
        self.label = [&*self.label, &*child.label].concat().into_boxed_slice();
        self.own = child.own;
        self.children.clone_from(&child.children);
    }
}

impl Drop for Node {
    /// One level after the other: a chain of thousands of nodes must not end in as many nested calls.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.children);
        while let Some(child) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(child) {
                pending.append(&mut node.children);
            }
        }
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn built(keys: &BTreeMap<String, u64>) -> Trie {
        let mut trie = Trie::default();
        keys.iter().for_each(|(key, index)| trie.set(key, Index(*index)));
        trie
    }

    proptest! {
        #[test]
        fn a_prefix_is_as_new_as_a_walk_finds(
            steps in proptest::collection::vec(("[abé]{0,5}", any::<bool>()), 1..60),
            prefix in "[abé]{0,4}",
        ) {
            let mut trie = Trie::default();
            let mut keys = BTreeMap::new();
            for (at, (key, removes)) in steps.into_iter().enumerate() {
                if removes {
                    trie.remove(&key);
                    keys.remove(&key);
                } else {
                    trie.set(&key, Index(at as u64 + 1));
                    keys.insert(key, at as u64 + 1);
                }
                let newest = keys.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, index)| *index);
                prop_assert_eq!(trie.newest_under(&prefix), Index(newest.max().unwrap_or(0)));
                prop_assert_eq!(&trie, &built(&keys));
            }
        }
    }

    #[test]
    fn the_longest_chain_there_can_be_fits_on_a_small_stack() {
        let work = || {
            let longest = "a".repeat(crate::kv::KV_KEY_BYTES_MAX);
            let mut trie = Trie::default();
            (1..=longest.len()).for_each(|length| trie.set(&longest[..length], Index(length as u64)));
            let shared = trie.clone();
            trie.remove(&longest);
            assert_eq!(trie.newest_under("aaa"), Index(longest.len() as u64 - 1));
            assert_eq!(shared.newest_under("aaa"), Index(longest.len() as u64));
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
        thread.join().unwrap();
    }
}
