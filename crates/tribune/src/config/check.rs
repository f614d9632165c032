//! Whether a value is what its key asks for.

use tribune_api::GoDuration;

use super::keys::Kind;
use super::tree::{Node, Value};

/// Says what was expected and found, as a text that follows the name of the key.
pub(super) fn value(kind: Kind, node: &Node) -> Result<(), String> {
    match (kind, &node.value) {
        (Kind::Text, Value::Text(_)) | (Kind::Secret, Value::Text(_)) | (Kind::Bool, Value::Bool(_)) => {
            Ok(())
        }
        (Kind::Number, Value::Number(_)) | (Kind::Any | Kind::Section(_) | Kind::Definitions(_), _) => Ok(()),
        (Kind::Integer(min, max), Value::Number(number)) => integer(number, min, max),
        (Kind::Duration, Value::Text(text)) => duration(text),
        (Kind::Texts, Value::List(items)) => items.iter().try_for_each(|item| match &item.value {
            Value::Text(_) => Ok(()),
            other => Err(format!("must be a list of strings; one of its items is {}", shown(other))),
        }),
        (Kind::Pairs, Value::Map(entries)) => entries.iter().try_for_each(|(name, node)| match &node.value {
            Value::Text(_) => Ok(()),
            other => Err(format!("must be a block of strings; its {name:?} is {}", shown(other))),
        }),
        (Kind::Durations, Value::Map(entries)) => entries.iter().try_for_each(|(name, node)| {
            value(Kind::Duration, node).map_err(|expected| format!("of {name:?} {expected}"))
        }),
        (Kind::Secret, other) => Err(format!("must be a string, not {}", other.kind())),
        (_, other) => Err(format!("must be {}, not {}", expected(kind), shown(other))),
    }
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Secret => "a string in quotes".to_owned(),
        Kind::Bool => "true or false, without quotes".to_owned(),
        Kind::Integer(min, i64::MAX) => format!("a whole number of at least {min}"),
        Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Number => "a number".to_owned(),
        Kind::Duration => "a duration in quotes, such as \"30s\" or \"1h30m\"".to_owned(),
        Kind::Texts => "a list of strings, such as [\"a\", \"b\"]".to_owned(),
        Kind::Pairs => "a block of strings, such as { name = \"value\" }".to_owned(),
        Kind::Durations => "a block of durations, such as { web = \"10s\" }".to_owned(),
        Kind::Section(_) | Kind::Definitions(_) => "a block { … }".to_owned(),
        Kind::Any => "a value".to_owned(),
    }
}

fn integer(number: &serde_json::Number, min: i64, max: i64) -> Result<(), String> {
    match number.as_i64().or_else(|| whole(number)) {
        Some(it) if (min..=max).contains(&it) => Ok(()),
        _ => Err(format!("must be {}, not {number}", expected(Kind::Integer(min, max)))),
    }
}

/// JSON writers may print 8500 as 8500.0.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}

fn duration(text: &str) -> Result<(), String> {
    match text.parse::<GoDuration>() {
        Ok(span) if span >= GoDuration(0) => Ok(()),
        _ => Err(format!("must be {}, not {text:?}", expected(Kind::Duration))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("the string {text:?}"),
        Value::Number(number) => format!("the number {number}"),
        Value::Bool(it) => it.to_string(),
        other => other.kind().to_owned(),
    }
}
