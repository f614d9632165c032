//! A configuration file as it was written: values with the place each one stands at.
//!
//! Nothing here knows which keys exist; see [`super::keys`] for that.

use std::fmt;
use std::sync::Arc;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or a name for what is no file (`-hcl`, `-http-port`).
    pub source: Arc<str>,
    /// Line, from 1; 0 for what has no lines, such as a flag.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// A place in something that is no file.
    pub fn flag(name: &str) -> Self {
        Self { source: format!("-{name}").into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.source),
            line => write!(f, "{}:{line}:{}", self.source, self.column),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins; for the value of a key, where the key stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What can stand in a configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`; means the same as leaving the key out.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A string, escapes resolved.
    Text(String),
    /// `[…]`, or a key written several times with a block each time.
    List(Vec<Node>),
    /// `{…}`: keys in the order written, repeated ones kept.
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What people call this kind of value, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a block",
        }
    }
}

impl Node {
    /// The same value as JSON, places forgotten. Of keys written twice the last one stays.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(it) => (*it).into(),
            Value::Number(it) => it.clone().into(),
            Value::Text(it) => it.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
        }
    }
}
