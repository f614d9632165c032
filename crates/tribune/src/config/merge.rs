//! Checks configurations against the table of keys and merges them, later ones over earlier ones.
//!
//! Scalars of a later source win, lists are put behind one another, blocks are merged: Consul's rules. All that
//! is wrong is collected, so that one run shows every mistake.

use std::fmt;

use super::definition;
use super::keys::{self, Fate, Key, Kind};
use super::tree::{Node, Place, Value};

/// Something to tell whoever wrote a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

pub(super) type Entries = Vec<(String, Node)>;

/// Several sources on their way to one configuration.
#[derive(Debug, Default)]
pub(super) struct Layers {
    entries: Entries,
    errors: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl Layers {
    /// Puts a source over those added before.
    pub(super) fn add(&mut self, source: Node) {
        let mut entries = std::mem::take(&mut self.entries);
        if let Value::Map(added) = source.value {
            self.absorb(&mut entries, added, keys::KEYS, "");
        }
        self.entries = entries;
    }

    /// Notes an error that was found elsewhere.
    pub(super) fn refuse(&mut self, place: Place, text: String) {
        self.errors.push(Remark { place, text });
    }

    /// Notes a warning that was found elsewhere.
    pub(super) fn warn(&mut self, place: Place, text: String) {
        let remark = Remark { place, text };
        if !self.warnings.contains(&remark) {
            self.warnings.push(remark);
        }
    }

    /// The merged configuration and the warnings, or all errors.
    pub(super) fn finish(self) -> Result<(Entries, Vec<Remark>), Vec<Remark>> {
        if self.errors.is_empty() { Ok((self.entries, self.warnings)) } else { Err(self.errors) }
    }

    fn absorb(&mut self, into: &mut Entries, added: Entries, keys: &'static [Key], path: &str) {
        for (name, node) in added {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match keys::find(keys, &name) {
                _ if node.value == Value::Null => {}
                None => self.refuse(node.place, unknown(&name, &path, keys)),
                Some(key) => self.absorb_one(into, key, node, &path),
            }
        }
    }

    fn absorb_one(&mut self, into: &mut Entries, key: &'static Key, node: Node, path: &str) {
        match key.fate {
            Fate::Acted | Fate::Met => {}
            Fate::Always(instead) => self.warn_of_always(&node, path, instead),
            Fate::Known(meaning) => self.warn_of_known(key, &node, path, meaning),
            Fate::Moved(to) => {
                self.warn(node.place.clone(), format!("{path} is an old spelling; write {to}"));
                return self.absorb(into, relocated(to, node), keys::KEYS, "");
            }
        }
        match key.kind {
            Kind::Section(inner) => self.absorb_section(into, key, inner, node, path),
            Kind::Definitions(what) => {
                let items = definition::collect(what, node, &mut self.errors);
                if !items.is_empty() {
                    append(into, what.plural(), items);
                }
            }
            Kind::Texts | Kind::Pairs | Kind::Durations => {
                if let Some(value) = self.checked(key, node, path) {
                    match value.value {
                        Value::List(items) => append(into, key.name, items),
                        Value::Map(entries) => merge_map(into, key.name, value.place, entries),
                        _ => {}
                    }
                }
            }
            _ => {
                if let Some(value) = self.checked(key, node, path) {
                    put(into, key.name, value);
                }
            }
        }
    }

    fn absorb_section(
        &mut self,
        into: &mut Entries,
        key: &'static Key,
        inner: &'static [Key],
        node: Node,
        path: &str,
    ) {
        let place = node.place.clone();
        let Some(added) = self.blocks(node, path) else { return };
        let mut merged = match take(into, key.name) {
            Some(Node { value: Value::Map(entries), .. }) => entries,
            _ => Vec::new(),
        };
        self.absorb(&mut merged, added, inner, path);
        into.push((key.name.to_owned(), Node { place, value: Value::Map(merged) }));
    }

    /// The entries of a block, or of several written one after the other.
    fn blocks(&mut self, node: Node, path: &str) -> Option<Entries> {
        match node.value {
            Value::Map(entries) => Some(entries),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                Some(items.into_iter().filter_map(|item| self.blocks(item, path)).flatten().collect())
            }
            other => {
                self.refuse(node.place, format!("{path} must be a block {{ … }}, not {}", other.kind()));
                None
            }
        }
    }

    fn checked(&mut self, key: &Key, node: Node, path: &str) -> Option<Node> {
        let node = unwrapped_block(key, node);
        match super::check::value(key.kind, &node) {
            Ok(()) => Some(node),
            Err(expected) => {
                self.refuse(node.place, format!("{path} {expected}"));
                None
            }
        }
    }

    fn warn_of_always(&mut self, node: &Node, path: &str, instead: &str) {
        if matches!(node.value, Value::Bool(false)) {
            self.warn(
                node.place.clone(),
                format!("{path} = false is not acted on by this version: {instead}"),
            );
        }
    }

    /// A value that asks for nothing (`false`, `""`, an empty list) needs no warning; a section warns by its keys.
    fn warn_of_known(&mut self, key: &Key, node: &Node, path: &str, meaning: &str) {
        let asks_for_nothing = match &node.value {
            Value::Bool(it) => !it,
            Value::Text(it) => it.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty() || matches!(key.kind, Kind::Section(_)),
            Value::Number(it) => it.as_i64() == Some(-1),
            Value::Null => true,
        };
        let inside_says_it = matches!(key.kind, Kind::Section(_));
        if asks_for_nothing || inside_says_it {
            return;
        }
        let meaning = if meaning.is_empty() { String::new() } else { format!(": {meaning}") };
        self.warn(node.place.clone(), format!("{path} is known but not acted on by this version{meaning}"));
    }
}

/// Blocks of strings may come as a list of one block, which is what JSON made from HCL looks like.
fn unwrapped_block(key: &Key, node: Node) -> Node {
    match (key.kind, node.value) {
        (Kind::Pairs | Kind::Durations, Value::List(mut items)) if items.len() == 1 => items.remove(0),
        (_, value) => Node { place: node.place, value },
    }
}

fn unknown(name: &str, path: &str, keys: &'static [Key]) -> String {
    let nearest = nearest(name, keys.iter().map(|key| key.name));
    let elsewhere = || path_of(name, keys::KEYS, "").filter(|other| other != path);
    match (nearest, elsewhere()) {
        (_, Some(other)) => format!("unknown key {path:?}; it belongs into its section: {other:?}"),
        (Some(other), None) => format!("unknown key {path:?}; did you mean {other:?}?"),
        (None, None) => format!("unknown key {path:?}; remove it"),
    }
}

/// The name most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = (name.chars().count() / 3).max(1);
    let wanted = name.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::damerau_levenshtein(&wanted, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn path_of(name: &str, keys: &'static [Key], prefix: &str) -> Option<String> {
    keys.iter().find_map(|key| match key.kind {
        _ if key.name == name && !prefix.is_empty() => Some(format!("{prefix}{name}")),
        Kind::Section(inner) => path_of(name, inner, &format!("{prefix}{}.", key.name)),
        _ => None,
    })
}

/// The value of an old key as entries at its new path.
fn relocated(to: &str, node: Node) -> Entries {
    let becomes_list = keys::find_path(to).is_some_and(|key| matches!(key.kind, Kind::Texts));
    let place = node.place.clone();
    let mut node =
        if becomes_list { Node { place: place.clone(), value: Value::List(vec![node]) } } else { node };
    let mut names = to.rsplit('.');
    let mut name = names.next().unwrap_or(to);
    for section in names {
        node = Node { place: place.clone(), value: Value::Map(vec![(name.to_owned(), node)]) };
        name = section;
    }
    vec![(name.to_owned(), node)]
}

fn take(entries: &mut Entries, name: &str) -> Option<Node> {
    let at = entries.iter().position(|(key, _)| key == name)?;
    Some(entries.remove(at).1)
}

fn put(entries: &mut Entries, name: &str, node: Node) {
    take(entries, name);
    entries.push((name.to_owned(), node));
}

fn append(entries: &mut Entries, name: &str, mut items: Vec<Node>) {
    match entries.iter_mut().find(|(key, _)| key == name) {
        Some((_, Node { value: Value::List(old), .. })) => old.append(&mut items),
        _ => {
            let Some(first) = items.first() else { return };
            let place = first.place.clone();
            put(entries, name, Node { place, value: Value::List(items) });
        }
    }
}

fn merge_map(entries: &mut Entries, name: &str, place: Place, added: Entries) {
    let mut merged = match take(entries, name) {
        Some(Node { value: Value::Map(old), .. }) => old,
        _ => Vec::new(),
    };
    for (key, node) in added {
        put(&mut merged, &key, node);
    }
    entries.push((name.to_owned(), Node { place, value: Value::Map(merged) }));
}
