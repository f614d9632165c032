//! Bodies of `/v1/session/…`: what a new session is asked to be, and sessions as they are written and as clients
//! read them.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tribune_core::{Behavior, CheckId, Session, Stored};

use crate::decode::{self, DecodeError, DecodeReason, Object, or_default, parse};
use crate::duration::GoDuration;

/// How long a key stays free when its holder ends, unless the session says otherwise.
pub const LOCK_DELAY: Duration = Duration::from_secs(15);

/// Shortest time to live unless the configuration says otherwise (`session_ttl_min`).
pub const TTL_MIN: Duration = Duration::from_secs(10);

/// Longest time to live.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Body of `/v1/session/create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// For people.
    pub name: String,
    /// The node it belongs to; empty means the agent's.
    pub node: String,
    /// How long its keys stay free when it ends.
    pub lock_delay: Duration,
    /// `release` or `delete`; empty means the former.
    pub behavior: String,
    /// Time to live as it was written, or empty.
    pub ttl: String,
    /// Checks of the node; `None`: whether the node is alive.
    pub node_checks: Option<Vec<String>>,
    /// Checks of instances.
    pub service_checks: Option<Vec<String>>,
    /// What both were before they were told apart; an empty list asks for no check at all.
    pub checks: Option<Vec<String>>,
}

impl Default for SessionRequest {
    fn default() -> Self {
        Self {
            name: String::new(),
            node: String::new(),
            lock_delay: LOCK_DELAY,
            behavior: String::new(),
            ttl: String::new(),
            node_checks: None,
            service_checks: None,
            checks: None,
        }
    }
}

impl SessionRequest {
    /// Reads a request body, which may be empty. Keys that nobody knows are passed over, as Consul does here.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let mut object = Object::new(parse(body)?)?;
        let read = Self {
            name: object.text(&["Name"])?,
            node: object.text(&["Node"])?,
            lock_delay: object.nested(&["LockDelay"], lock_delay)?.unwrap_or(LOCK_DELAY),
            behavior: object.text(&["Behavior"])?,
            ttl: object.text(&["TTL"])?,
            node_checks: object.nested(&["NodeChecks"], decode::texts)?,
            service_checks: object.nested(&["ServiceChecks"], service_checks)?,
            checks: object.nested(&["Checks"], decode::texts)?,
        };
        object.refuse_enterprise()?;
        Ok(read)
    }
}

/// A Go duration, or a number: below 1000 of seconds, else of nanoseconds.
fn lock_delay(value: Value) -> Result<Duration, DecodeError> {
    let span = match &value {
        Value::String(text) => {
            text.parse().map_err(|reason| DecodeError::here(DecodeReason::Duration(reason)))?
        }
        Value::Number(number) => {
            let given = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).unwrap_or(0);
            GoDuration(if given < 1000 { given.saturating_mul(1_000_000_000) } else { given })
        }
        _ => return Err(DecodeError::here(DecodeReason::Refused("LockDelay must be a duration".to_owned()))),
    };
    Ok(span.positive().unwrap_or_default())
}

/// `[{"ID": …}]`.
fn service_checks(value: Value) -> Result<Vec<String>, DecodeError> {
    let Value::Array(items) = value else {
        return Err(DecodeError::here(DecodeReason::Refused("ServiceChecks must be a list".to_owned())));
    };
    let read = |item: Value| {
        let mut object = Object::new(item)?;
        let id = object.text(&["ID"])?;
        object.refuse_enterprise()?;
        Ok(id)
    };
    items.into_iter().map(read).collect()
}

/// A session, written.
#[derive(Debug, Clone, Copy)]
pub struct SessionJson<'a>(pub &'a Stored<Session>);

impl Serialize for SessionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stored { value: session, created, modified } = self.0;
        let mut out = serializer.serialize_struct("Session", 10)?;
        out.serialize_field("ID", session.id.as_str())?;
        out.serialize_field("Name", &session.name)?;
        out.serialize_field("Node", session.node.as_str())?;
        out.serialize_field("LockDelay", &GoDuration::from(session.lock_delay).0)?;
        out.serialize_field("Behavior", behavior(session.behavior))?;
        out.serialize_field("TTL", &session.ttl_text)?;
        let ids = session.node_checks.as_ref();
        out.serialize_field(
            "NodeChecks",
            &ids.map(|ids| ids.iter().map(CheckId::as_str).collect::<Vec<_>>()),
        )?;
        let ids = session.service_checks.as_ref();
        out.serialize_field("ServiceChecks", &ids.map(|ids| ids.iter().map(OfService).collect::<Vec<_>>()))?;
        out.serialize_field("CreateIndex", &created.0)?;
        out.serialize_field("ModifyIndex", &modified.0)?;
        out.end()
    }
}

struct OfService<'a>(&'a CheckId);

impl Serialize for OfService<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ServiceCheck", 2)?;
        out.serialize_field("ID", self.0.as_str())?;
        out.serialize_field("Namespace", "")?;
        out.end()
    }
}

fn behavior(behavior: Behavior) -> &'static str {
    match behavior {
        Behavior::Release => "release",
        Behavior::Delete => "delete",
    }
}

/// The id of a new session, as it is written and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCreated {
    /// The id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A session as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SessionEntry {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// The node it belongs to.
    pub node: String,
    /// How long its keys stay free when it ends, in nanoseconds.
    pub lock_delay: u64,
    /// `release` or `delete`.
    pub behavior: String,
    /// Time to live, or empty.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// Checks of its node.
    #[serde(deserialize_with = "or_default")]
    pub node_checks: Vec<String>,
    /// When it was created.
    pub create_index: u64,
    /// When it last changed.
    pub modify_index: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> SessionRequest {
        SessionRequest::from_body(body.as_bytes()).unwrap()
    }

    #[test]
    fn lock_delays_come_in_three_spellings() {
        for (given, nanos) in [
            (r#""5s""#, 5_000_000_000),
            ("20", 20_000_000_000),
            ("999", 999_000_000_000),
            ("1000", 1000),
            ("61000000000", 61_000_000_000),
            ("0", 0),
            (r#""0s""#, 0),
            ("-5", 0),
            ("null", 15_000_000_000),
        ] {
            let delay = read(&format!(r#"{{"lockdelay":{given}}}"#)).lock_delay;
            assert_eq!(delay, Duration::from_nanos(nanos), "{given}");
        }
        let error = SessionRequest::from_body(br#"{"LockDelay":"x"}"#).unwrap_err();
        assert_eq!(error.to_string(), "time: invalid duration \"x\"");
    }

    #[test]
    fn an_empty_body_asks_for_the_defaults() {
        assert_eq!(read(""), SessionRequest::default());
        assert_eq!(read("{}"), SessionRequest::default());
        assert_eq!(read(r#"{"checks":[],"later":1}"#).checks, Some(vec![]));
        let body = r#"{"ServiceChecks":[{"ID":"c"}],"NodeChecks":["n"],"TTL":"90s"}"#;
        let named = read(body);
        assert_eq!(named.service_checks, Some(vec!["c".to_owned()]));
        assert_eq!((named.node_checks, named.ttl.as_str()), (Some(vec!["n".to_owned()]), "90s"));
    }
}
