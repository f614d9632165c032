//! Names and values of the headers Consul's clients know.
//!
//! Names are in lower case, as the HTTP library wants them; a server that sends title-case headers gives them
//! Consul's capitals on the wire.

use std::time::Duration;

use crate::error::ApiError;
use crate::params::{Consistency, Query};

/// The index of an answer; never 0.
pub const INDEX: &str = "x-consul-index";
/// Whether the answering server knows a leader.
pub const KNOWN_LEADER: &str = "x-consul-knownleader";
/// Milliseconds since the answering server last heard the leader; 0 on the leader.
pub const LAST_CONTACT: &str = "x-consul-lastcontact";
/// The mode that the answer was made in.
pub const EFFECTIVE_CONSISTENCY: &str = "x-consul-effective-consistency";
/// Hash of an agent's service, for blocking by hash.
pub const CONTENT_HASH: &str = "x-consul-contenthash";
/// The status behind an answer about local health.
pub const REASON: &str = "x-consul-reason";
/// `HIT` or `MISS`.
pub const CACHE: &str = "x-cache";
/// Age of a cached answer in whole seconds.
pub const AGE: &str = "age";
/// A caller's token.
pub const TOKEN: &str = "x-consul-token";
/// An enterprise namespace.
pub const NAMESPACE: &str = "x-consul-namespace";

/// What every read says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The log position the answer is as new as.
    pub index: u64,
    /// Whether the server knows a leader.
    pub known_leader: bool,
    /// How long ago it heard the leader; zero on the leader.
    pub last_contact: Duration,
    /// The mode, on catalog and health reads.
    pub consistency: Option<Consistency>,
}

impl Meta {
    /// Header names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let always = [
            (INDEX, self.index.max(1).to_string()),
            (KNOWN_LEADER, self.known_leader.to_string()),
            (LAST_CONTACT, self.last_contact.as_millis().to_string()),
        ];
        let mode = self.consistency.map(|mode| (EFFECTIVE_CONSISTENCY, mode.as_header().to_owned()));
        always.into_iter().chain(mode)
    }
}

impl Consistency {
    /// As `X-Consul-Effective-Consistency` names it.
    pub fn as_header(self) -> &'static str {
        match self {
            Self::Default => "leader",
            Self::Consistent => "consistent",
            Self::Stale => "stale",
        }
    }
}

/// The token of a request: `?token`, else `X-Consul-Token`, else a bearer in `Authorization`.
pub fn token<'a>(
    query: &'a Query,
    header: Option<&'a str>,
    authorization: Option<&'a str>,
) -> Option<&'a str> {
    let bearer = || {
        let (scheme, rest) = authorization?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
    };
    let given = |text: &&str| !text.is_empty();
    query.text("token").or(header.filter(given)).or_else(|| bearer().filter(given))
}

/// Refuses `X-Consul-Namespace` unless it names the only namespace there is.
pub fn refuse_namespace(header: Option<&str>) -> Result<(), ApiError> {
    match header {
        None | Some("" | "default") => Ok(()),
        Some(_) => Err(ApiError::bad_request(
            "Invalid header: \"X-Consul-Namespace\" - Namespaces are a Consul Enterprise feature",
        )),
    }
}

/// What a caller accepts from the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// Nothing older than this.
    pub max_age: Option<Duration>,
    /// Only what was just confirmed.
    pub must_revalidate: bool,
    /// How old an answer may be when no newer one can be had.
    pub stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads a `Cache-Control` request header. Directives that mean nothing here are passed over.
    pub fn parse(header: &str) -> Result<Self, ApiError> {
        let seconds = |text: &str| match text.trim().parse() {
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
            Err(_) => Err(ApiError::bad_request("Invalid Cache-Control header.")),
        };
        let mut control = Self::default();
        for directive in header.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "max-age" => control.max_age = seconds(value)?,
                "stale-if-error" => control.stale_if_error = seconds(value)?,
                "must-revalidate" => control.must_revalidate = true,
                _ => {}
            }
        }
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_never_zero() {
        let meta = Meta {
            index: 0,
            known_leader: true,
            last_contact: Duration::from_millis(7),
            consistency: Some(Consistency::Default),
        };
        let headers: Vec<String> = meta.headers().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                "x-consul-index: 1",
                "x-consul-knownleader: true",
                "x-consul-lastcontact: 7",
                "x-consul-effective-consistency: leader"
            ]
        );
    }

    #[test]
    fn tokens_have_an_order_of_precedence() {
        let query = Query::parse("token=q").unwrap();
        let none = Query::default();
        assert_eq!(token(&query, Some("h"), Some("Bearer b")), Some("q"));
        assert_eq!(token(&none, Some("h"), Some("Bearer b")), Some("h"));
        assert_eq!(token(&none, Some(""), Some("bearer  b ")), Some("b"));
        assert_eq!(token(&none, None, Some("Basic b")), None);
    }

    #[test]
    fn cache_control_takes_seconds() {
        let control = CacheControl::parse("max-age=30, must-revalidate,stale-if-error=5").unwrap();
        assert_eq!(control.max_age, Some(Duration::from_secs(30)));
        assert!(control.must_revalidate);
        assert_eq!(CacheControl::parse("max-age=x").unwrap_err().message, "Invalid Cache-Control header.");
        assert_eq!(CacheControl::parse("no-cache"), Ok(CacheControl::default()));
    }
}
