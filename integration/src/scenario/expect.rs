//! What an answer must be, and whether it is.
//!
//! A body is one of: nothing (anything goes), `<empty>`, `<text> exactly this`, `<contains> this`,
//! `<lacks> this`, `<exact> {"byte":"for byte"}`, `<exact with newline> {"byte":"for byte"}`, or JSON. In JSON, keys that are not listed may be there; lists
//! have exactly the listed elements in that order, unless they begin with `"<any order>"` (the same elements in
//! any order) or `"<includes>"` (these among others). A string may be `<any>`, `<number>`, `<string>`, `<uuid>`,
//! `<absent>`, `<like PART>`, `<above NAME>`; `<number as NAME>` and `<string as NAME>` capture. Header values
//! take the same placeholders.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Captured, fill};
use crate::http::Answer;

/// The expected answer of one step.
#[derive(Debug)]
pub(super) struct Expected {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Anything,
    Empty,
    Text(String),
    Contains(String),
    Lacks(String),
    Json(Value),
}

impl Expected {
    pub(super) fn new(status: u16, headers: Vec<(String, String)>, body: &str) -> Result<Self> {
        let after = |tag: &str| body.strip_prefix(tag).map(str::to_owned);
        let body = if body.is_empty() {
            Body::Anything
        } else if body == "<empty>" {
            Body::Empty
        } else if let Some(text) = after("<exact with newline> ") {
            Body::Text(text + "\n")
        } else if let Some(text) = after("<text> ").or_else(|| after("<exact> ")) {
            Body::Text(text)
        } else if let Some(text) = after("<contains> ") {
            Body::Contains(text)
        } else if let Some(text) = after("<lacks> ") {
            Body::Lacks(text)
        } else {
            Body::Json(serde_json::from_str(body).context("the expected body is not JSON")?)
        };
        Ok(Self { status, headers, body })
    }

    pub(super) fn check(&self, answer: &Answer, captured: &mut Captured) -> Result<()> {
        ensure!(answer.status == self.status, "status {} instead of {}", answer.status, self.status);
        for (name, pattern) in &self.headers {
            let value = answer.header(name).map_or(Value::Null, |value| Value::String(value.to_owned()));
            header(pattern, &value, captured).with_context(|| format!("header {name}"))?;
        }
        self.body(answer, captured)
    }

    fn body(&self, answer: &Answer, captured: &mut Captured) -> Result<()> {
        let text = answer.text();
        match &self.body {
            Body::Anything => Ok(()),
            Body::Empty => {
                ensure!(text.is_empty(), "a body where none is expected");
                Ok(())
            }
            Body::Text(expected) => {
                let expected = fill(expected, captured)?;
                ensure!(text == expected, "the body is not exactly {expected:?} but {text:?}");
                Ok(())
            }
            Body::Contains(part) => {
                let part = fill(part, captured)?;
                ensure!(text.contains(&part), "the body does not contain {part:?}");
                Ok(())
            }
            Body::Lacks(part) => {
                ensure!(!text.contains(part), "the body contains {part:?}");
                Ok(())
            }
            Body::Json(expected) => {
                ensure!(
                    answer.header("content-type") == Some("application/json"),
                    "JSON without its content type"
                );
                matches(expected, &answer.json()?, captured)
            }
        }
    }
}

fn header(pattern: &str, value: &Value, captured: &mut Captured) -> Result<()> {
    if pattern == "<absent>" {
        ensure!(value.is_null(), "it is there: {value}");
        return Ok(());
    }
    // Numbers arrive as text in headers.
    let number = value.as_str().and_then(|text| text.parse::<u64>().ok()).map(Value::from);
    let wants_number = pattern.starts_with("<number") || pattern.starts_with("<above");
    let value = number.filter(|_| wants_number).unwrap_or_else(|| value.clone());
    matches(&Value::String(pattern.to_owned()), &value, captured)
}

/// Whether `value` fits `pattern`; the error names the path to the first difference.
fn matches(pattern: &Value, value: &Value, captured: &mut Captured) -> Result<()> {
    match (pattern, value) {
        (Value::String(text), _) => string(text, value, captured),
        (Value::Object(pattern), Value::Object(object)) => {
            for (key, pattern) in pattern {
                match object.get(key) {
                    Some(value) => matches(pattern, value, captured).with_context(|| format!(".{key}"))?,
                    None => ensure!(pattern == "<absent>", ".{key} is missing"),
                }
            }
            Ok(())
        }
        (Value::Array(patterns), Value::Array(values)) => list(patterns, values, captured),
        (pattern, value) => {
            ensure!(pattern == value, "{value} instead of {pattern}");
            Ok(())
        }
    }
}

fn list(patterns: &[Value], values: &[Value], captured: &mut Captured) -> Result<()> {
    let (mode, rest) = match patterns.split_first() {
        Some((Value::String(mode), rest)) if mode == "<any order>" || mode == "<includes>" => {
            (mode.as_str(), rest)
        }
        _ => ("", patterns),
    };
    if mode != "<includes>" {
        ensure!(rest.len() == values.len(), "{} elements instead of {}", values.len(), rest.len());
    }
    if mode.is_empty() {
        for (at, (pattern, value)) in rest.iter().zip(values).enumerate() {
            matches(pattern, value, captured).with_context(|| format!("[{at}]"))?;
        }
        return Ok(());
    }
    let mut left: Vec<_> = values.iter().collect();
    for pattern in rest {
        let found = left.iter().position(|value| matches(pattern, value, &mut captured.clone()).is_ok());
        let found = found.with_context(|| format!("no element fits {pattern}"))?;
        matches(pattern, left.remove(found), captured)?;
    }
    Ok(())
}

fn string(pattern: &str, value: &Value, captured: &mut Captured) -> Result<()> {
    let placeholder = pattern.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let Some(placeholder) = placeholder else {
        let pattern = fill(pattern, captured)?;
        ensure!(value.as_str() == Some(&pattern), "{value} instead of {pattern:?}");
        return Ok(());
    };
    let (kind, argument) = placeholder.split_once(' ').unwrap_or((placeholder, ""));
    let fits = match kind {
        "any" => true,
        "number" => value.is_number(),
        "string" => value.is_string(),
        "uuid" => value.as_str().is_some_and(is_uuid),
        "like" => value.as_str().is_some_and(|text| text.contains(argument)),
        "above" => {
            let floor: u64 = captured.get(argument).context("nothing captured to be above")?.parse()?;
            value.as_u64().is_some_and(|number| number > floor)
        }
        "absent" => bail!("it is there: {value}"),
        // Text that merely looks like a placeholder.
        _ => value.as_str() == Some(pattern),
    };
    ensure!(fits, "{value} is not {pattern}");
    if let Some(name) = argument.strip_prefix("as ") {
        captured.insert(name.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.chars().all(|letter| letter == '-' || letter.is_ascii_hexdigit())
}
