//! Sessions: from the body of a request to what the state is asked for.

use std::time::Duration;

use tribune_core::state::LIVENESS_CHECK;
use tribune_core::{Behavior, CheckId, NodeName, Session, SessionId, SessionRefusal};

use super::bad_name;
use crate::duration::GoDuration;
use crate::error::ApiError;
use crate::session::{SessionRequest, TTL_MAX};

impl SessionRequest {
    /// The session with this id, on this node unless the request names one.
    pub fn into_session(
        self,
        id: SessionId,
        node: &NodeName,
        ttl_min: Duration,
    ) -> Result<Session, ApiError> {
        let behavior = match self.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(ApiError::server(format!("Invalid Behavior setting '{other}'"))),
        };
        let node = match self.node.as_str() {
            "" => node.clone(),
            name => NodeName::new(name).map_err(|why| bad_name("node name", name, why))?,
        };
        let ttl = ttl(&self.ttl, ttl_min)?;
        let (node_checks, service_checks) = checks(self.node_checks, self.service_checks, self.checks);
        Ok(Session {
            id,
            name: self.name.into(),
            node,
            lock_delay: self.lock_delay,
            behavior,
            ttl,
            ttl_text: self.ttl.into(),
            node_checks: Some(ids(node_checks)?),
            service_checks: service_checks.map(ids).transpose()?,
        })
    }
}

fn ttl(text: &str, min: Duration) -> Result<Option<Duration>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let span: GoDuration =
        text.parse().map_err(|why| ApiError::server(format!("Session TTL '{text}' invalid: {why}")))?;
    if span.0 == 0 {
        return Ok(None);
    }
    span.positive().filter(|ttl| (min..=TTL_MAX).contains(ttl)).map(Some).ok_or_else(|| {
        let (min, max) = (GoDuration::from(min), GoDuration::from(TTL_MAX));
        ApiError::server(format!("Invalid Session TTL '{}', must be between [{min}={max}]", span.0))
    })
}

/// Which checks a session depends on. An explicitly empty list of either spelling switches the default off; those
/// of the older spelling are bound beside the others.
fn checks(
    node: Option<Vec<String>>,
    service: Option<Vec<String>>,
    older: Option<Vec<String>>,
) -> (Vec<String>, Option<Vec<String>>) {
    let is_off = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
    if is_off(&older) || is_off(&node) {
        return (Vec::new(), service);
    }
    let mut bound = node.unwrap_or_else(|| vec![LIVENESS_CHECK.to_owned()]);
    for id in older.unwrap_or_default() {
        if !bound.contains(&id) {
            bound.push(id);
        }
    }
    (bound, service)
}

fn ids(texts: Vec<String>) -> Result<Box<[CheckId]>, ApiError> {
    let id = |text: String| CheckId::new(text.as_str()).map_err(|why| bad_name("check ID", &text, why));
    texts.into_iter().map(id).collect()
}

/// Why a session was refused, in Consul's words.
pub(crate) fn refused(refusal: &SessionRefusal) -> String {
    match refusal {
        SessionRefusal::NoNode(_) => "Missing node registration".to_owned(),
        SessionRefusal::NoCheck(id) => format!("Missing check '{id}' registration"),
        SessionRefusal::CriticalCheck(id) => format!("Check '{id}' is in critical state"),
        SessionRefusal::IdTaken(id) => format!("Session id '{id}' is taken: create the session again"),
        SessionRefusal::Superseded => "another leader measures the time of sessions now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(body: &str) -> Result<Session, String> {
        let id = SessionId::new("c0477fcc-d9d7-9872-067c-d1cbf7cf237c").unwrap();
        let request = SessionRequest::from_body(body.as_bytes()).unwrap();
        let node = NodeName::new("here").unwrap();
        request.into_session(id, &node, Duration::from_secs(10)).map_err(|error| error.message)
    }

    #[test]
    fn a_session_depends_on_what_was_asked_for() {
        let bound = |body: &str| {
            let session = session(body).unwrap();
            session.checks().map(CheckId::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(bound(""), "serfHealth");
        assert_eq!(bound(r#"{"Checks":[]}"#), "");
        assert_eq!(bound(r#"{"NodeChecks":[],"Checks":["a"]}"#), "");
        assert_eq!(bound(r#"{"Checks":["a","serfHealth"]}"#), "serfHealth a");
        assert_eq!(bound(r#"{"NodeChecks":["n"],"ServiceChecks":[{"ID":"s"}]}"#), "n s");
        assert_eq!(bound(r#"{"NodeChecks":[],"ServiceChecks":[{"ID":"s"}]}"#), "s");
    }

    #[test]
    fn what_cannot_be_is_refused_in_consuls_words() {
        for (body, message) in [
            (r#"{"TTL":"5s"}"#, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"86401s"}"#, "Invalid Session TTL '86401000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"-1s"}"#, "Invalid Session TTL '-1000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"x"}"#, "Session TTL 'x' invalid: time: invalid duration \"x\""),
            (r#"{"Behavior":"x"}"#, "Invalid Behavior setting 'x'"),
        ] {
            assert_eq!(session(body).unwrap_err(), message);
        }
        let longest = session(r#"{"TTL":"24h","Node":"N"}"#).unwrap();
        assert_eq!((longest.ttl, longest.node.as_str()), (Some(TTL_MAX), "N"));
        let none = session(r#"{"TTL":"0s"}"#).unwrap();
        assert_eq!((none.ttl, none.ttl_text.as_str()), (None, "0s"));
    }
}
