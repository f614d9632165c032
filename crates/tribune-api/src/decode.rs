//! Reading JSON as Go reads it into structs: keys in any letter case, `null` the same as absent, of a key given
//! twice the last counts, unknown keys refused by name.
//!
//! An [`Object`] is taken apart field by field; what is left in the end is unknown. The same decoder reads request
//! bodies and configuration values, so both understand the same spellings: an error says where it is in
//! [`DecodeError::path`], and the caller says what it was reading.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::duration::{GoDuration, InvalidDuration};
use crate::error::ApiError;

/// Why a body or a configuration value could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, as keys joined by dots; empty at the top.
    pub path: String,
    /// What is wrong there.
    pub reason: DecodeReason,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeReason {
    /// There is no text at all.
    Empty,
    /// The text ends in the middle of a value.
    Truncated,
    /// The text is not JSON.
    Malformed(String),
    /// A key that nobody knows; the path ends with it.
    UnknownField {
        /// The key as it was written.
        name: String,
        /// The keys that could stand here.
        known: Vec<&'static str>,
    },
    /// One field under two letter cases of its key, so that it is unclear which counts.
    Ambiguous {
        /// The field.
        name: &'static str,
    },
    /// A value of another type than needed.
    WrongType {
        /// What it is (`number`, `string`, …).
        found: &'static str,
        /// What it should be, as Go names types.
        wanted: &'static str,
    },
    /// A number beyond its bounds.
    OutOfRange {
        /// The number.
        value: String,
        /// Lowest allowed.
        min: i64,
        /// Highest allowed.
        max: i64,
    },
    /// A text that is no duration.
    Duration(InvalidDuration),
    /// A part of Consul that is not here, with what to do instead.
    NotOffered(&'static str),
    /// A rule that the value breaks, in the words the caller is to read.
    Refused(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the top level" } else { &self.path };
        match &self.reason {
            DecodeReason::Empty => f.write_str("EOF"),
            DecodeReason::Truncated => f.write_str("unexpected EOF"),
            DecodeReason::Malformed(why) => write!(f, "json: {why}"),
            DecodeReason::UnknownField { name, .. } => write!(f, "json: unknown field {name:?}"),
            DecodeReason::Ambiguous { name } => {
                write!(f, "json: {name} is given more than once, in different letter case")
            }
            DecodeReason::WrongType { found, wanted } => {
                write!(f, "json: cannot unmarshal {found} into {path} of type {wanted}")
            }
            DecodeReason::OutOfRange { value, min, max } => {
                write!(f, "json: {value} is out of range for {path}: it must be between {min} and {max}")
            }
            DecodeReason::Duration(reason) => reason.fmt(f),
            DecodeReason::NotOffered(what) => write!(f, "{path} cannot be used: {what}"),
            DecodeReason::Refused(rule) => f.write_str(rule),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error.reason {
            DecodeReason::NotOffered(_) | DecodeReason::Refused(_) => Self::bad_request(error.to_string()),
            _ => Self::bad_request(format!("Request decode failed: {error}")),
        }
    }
}

impl DecodeError {
    /// An error at the place that is being read.
    pub fn here(reason: DecodeReason) -> Self {
        Self { path: String::new(), reason }
    }

    fn within(mut self, key: &str) -> Self {
        self.path = if self.path.is_empty() { key.to_owned() } else { format!("{key}.{}", self.path) };
        self
    }

    fn wrong_type(found: &Value, wanted: &'static str) -> Self {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Self::here(DecodeReason::WrongType { found, wanted })
    }
}

/// Reads the first JSON value of a body; what follows it is ignored, as Go's decoder does. Nesting beyond 128
/// levels is refused by the parser.
pub fn parse(body: &[u8]) -> Result<Value, DecodeError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(DecodeError::here(DecodeReason::Empty));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    Value::deserialize(&mut reader).map_err(|error| {
        DecodeError::here(if error.is_eof() {
            DecodeReason::Truncated
        } else {
            DecodeReason::Malformed(error.to_string())
        })
    })
}

/// A JSON object being taken apart. Fields are named by their keys: the first is the name in errors, the others
/// are other spellings of it. All of them match in any letter case.
#[derive(Debug)]
pub struct Object {
    left: Vec<(String, Value)>,
    known: Vec<&'static str>,
}

impl Object {
    /// Takes an object, or `null` for an empty one.
    pub fn new(value: Value) -> Result<Self, DecodeError> {
        match value {
            Value::Object(map) => Ok(Self { left: map.into_iter().collect(), known: Vec::new() }),
            Value::Null => Ok(Self { left: Vec::new(), known: Vec::new() }),
            other => Err(DecodeError::wrong_type(&other, "object")),
        }
    }

    /// The value of a field, unless it is absent or `null`. Of several spellings in one object the one named
    /// first counts; two letter cases of one spelling are ambiguous.
    pub fn take(&mut self, keys: &[&'static str]) -> Result<Option<Value>, DecodeError> {
        self.known.extend(keys);
        let mut found = None;
        for key in keys {
            let mut matching = Vec::new();
            self.left.retain_mut(|(name, value)| {
                let matches = name.eq_ignore_ascii_case(key);
                if matches && !value.is_null() {
                    matching.push(value.take());
                }
                !matches
            });
            if matching.len() > 1 {
                return Err(DecodeError::here(DecodeReason::Ambiguous { name: keys[0] }).within(keys[0]));
            }
            found = found.or(matching.pop());
        }
        Ok(found)
    }

    fn read<T>(
        &mut self,
        keys: &[&'static str],
        read: impl FnOnce(Value) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let value = self.take(keys)?;
        value.map(read).transpose().map_err(|error| error.within(keys[0]))
    }

    /// A text, or the empty one.
    pub fn text(&mut self, keys: &[&'static str]) -> Result<String, DecodeError> {
        Ok(self.read(keys, text)?.unwrap_or_default())
    }

    /// A truth value, if there is one.
    pub fn flag(&mut self, keys: &[&'static str]) -> Result<Option<bool>, DecodeError> {
        self.read(keys, |value| value.as_bool().ok_or_else(|| DecodeError::wrong_type(&value, "bool")))
    }

    /// A whole number within bounds, if there is one.
    pub fn integer(
        &mut self,
        keys: &[&'static str],
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, DecodeError> {
        self.read(keys, |value| {
            let Value::Number(number) = &value else { return Err(DecodeError::wrong_type(&value, "int")) };
            match number.as_i64() {
                Some(integer) if range.contains(&integer) => Ok(integer),
                None if number.as_f64().is_some_and(|float| float.fract() != 0.0) => {
                    Err(DecodeError::wrong_type(&value, "int"))
                }
                _ => Err(DecodeError::here(DecodeReason::OutOfRange {
                    value: number.to_string(),
                    min: *range.start(),
                    max: *range.end(),
                })),
            }
        })
    }

    /// A port, 0 when there is none.
    pub fn port(&mut self, keys: &[&'static str]) -> Result<u16, DecodeError> {
        let port = self.integer(keys, 0..=65_535)?.unwrap_or(0);
        Ok(u16::try_from(port).unwrap_or(0))
    }

    /// A duration as a Go duration or a number of nanoseconds; `None` when it is absent or not positive.
    pub fn duration(&mut self, keys: &[&'static str]) -> Result<Option<Duration>, DecodeError> {
        Ok(self.span(keys)?.and_then(GoDuration::positive))
    }

    /// As [`Object::duration`], but below zero is zero instead of absent, for whoever must refuse it.
    pub fn duration_if_set(&mut self, keys: &[&'static str]) -> Result<Option<Duration>, DecodeError> {
        let set = self.span(keys)?.filter(|span| span.0 != 0);
        Ok(set.map(|span| span.positive().unwrap_or_default()))
    }

    fn span(&mut self, keys: &[&'static str]) -> Result<Option<GoDuration>, DecodeError> {
        self.read(keys, |value| match &value {
            Value::String(text) if text.is_empty() => Ok(GoDuration(0)),
            Value::String(text) => {
                text.parse().map_err(|reason| DecodeError::here(DecodeReason::Duration(reason)))
            }
            Value::Number(number) => {
                // Go reads such a number as a float and drops the fraction.
                let nanos = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64));
                Ok(GoDuration(nanos.unwrap_or_default()))
            }
            other => Err(DecodeError::wrong_type(other, "duration")),
        })
    }

    /// A list of texts.
    pub fn texts(&mut self, keys: &[&'static str]) -> Result<Vec<String>, DecodeError> {
        Ok(self.read(keys, texts)?.unwrap_or_default())
    }

    /// An object whose values are all texts.
    pub fn pairs(&mut self, keys: &[&'static str]) -> Result<BTreeMap<String, String>, DecodeError> {
        self.map(keys, text)
    }

    /// A list; absent is empty.
    pub fn list<T>(
        &mut self,
        keys: &[&'static str],
        mut read: impl FnMut(Value) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let list = self.read(keys, |value| match value {
            Value::Array(items) => items.into_iter().map(&mut read).collect(),
            other => Err(DecodeError::wrong_type(&other, "list")),
        })?;
        Ok(list.unwrap_or_default())
    }

    /// An object with free keys; absent is empty.
    pub fn map<T>(
        &mut self,
        keys: &[&'static str],
        mut read: impl FnMut(Value) -> Result<T, DecodeError>,
    ) -> Result<BTreeMap<String, T>, DecodeError> {
        let map = self.read(keys, |value| match value {
            Value::Object(map) => map
                .into_iter()
                .map(|(key, value)| read(value).map(|value| (key, value)))
                .collect::<Result<BTreeMap<_, _>, _>>(),
            other => Err(DecodeError::wrong_type(&other, "map")),
        })?;
        Ok(map.unwrap_or_default())
    }

    /// One object or, where blocks may be repeated, a list of them; absent is none.
    pub fn blocks<T>(
        &mut self,
        keys: &[&'static str],
        repeatable: bool,
        mut read: impl FnMut(Value) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let blocks = self.read(keys, |value| match value {
            Value::Array(items) if repeatable => items.into_iter().map(read).collect(),
            one => Ok(vec![read(one)?]),
        })?;
        Ok(blocks.unwrap_or_default())
    }

    /// An object with known keys, if there is one.
    pub fn nested<T>(
        &mut self,
        keys: &[&'static str],
        read: impl FnOnce(Value) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        self.read(keys, read)
    }

    /// Refuses a part of Consul that is not offered here; its empty and zero forms are accepted.
    pub fn refuse(&mut self, keys: &[&'static str], instead: &'static str) -> Result<(), DecodeError> {
        match self.take(keys)? {
            Some(value) if !is_zero(&value) => {
                Err(DecodeError::here(DecodeReason::NotOffered(instead)).within(keys[0]))
            }
            _ => Ok(()),
        }
    }

    /// `Namespace` and `Partition`, of which there is one each.
    pub fn refuse_enterprise(&mut self) -> Result<(), DecodeError> {
        for (key, instead) in [
            ("Namespace", "unknown field \"Namespace\" - Namespaces are a Consul Enterprise feature"),
            ("Partition", "unknown field \"Partition\" - Partitions are a Consul Enterprise feature"),
        ] {
            let value = self.take(&[key])?;
            if value.is_some_and(|value| !is_zero(&value) && value != "default") {
                return Err(DecodeError::here(DecodeReason::Malformed(instead.to_owned())));
            }
        }
        Ok(())
    }

    /// Makes sure that nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(DecodeError {
                path: name.clone(),
                reason: DecodeReason::UnknownField { name, known: self.known },
            }),
        }
    }
}

/// A string.
pub fn text(value: Value) -> Result<String, DecodeError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(DecodeError::wrong_type(&other, "string")),
    }
}

/// A list of strings.
pub fn texts(value: Value) -> Result<Vec<String>, DecodeError> {
    match value {
        Value::Array(items) => items.into_iter().map(text).collect(),
        other => Err(DecodeError::wrong_type(&other, "list")),
    }
}

/// Whether a value says nothing: `null`, `false`, `0`, `""`, or made of such things only.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_zero),
    }
}

/// For fields of answers that may be `null` where the type has an empty value.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
