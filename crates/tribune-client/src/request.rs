//! One request as a value: path, parameters, body, and whether it may be sent twice.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use reqwest::Url;
use serde::Serialize;

use crate::error::Error;

/// A request to any agent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    segments: Vec<String>,
    parameters: Vec<(&'static str, String)>,
    pub(crate) body: Option<Bytes>,
    /// How much longer than usual the answer may take: the wait of a blocking query.
    pub(crate) patience: Duration,
    /// Whether "not found" is an answer: that there is nothing.
    pub(crate) may_find_nothing: bool,
    /// Whether the path may end in a slash.
    is_key: bool,
}

impl Request {
    /// A read of `/v1/` and the path `segments`.
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// A change at `/v1/` and the path `segments`.
    pub(crate) fn put(segments: &[&str]) -> Self {
        Self::new(Method::PUT, segments)
    }

    /// A request about a key, or a prefix of keys. Its slashes stand for themselves, so its parts are parts of
    /// the path.
    pub(crate) fn to_key(method: Method, key: &str) -> Self {
        let segments: Vec<&str> = std::iter::once("kv").chain(key.split('/')).collect();
        Self { is_key: true, ..Self::new(method, &segments) }
    }

    /// Any request to `/v1/` and the path `segments`.
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        Self {
            method,
            segments: segments.iter().map(|&segment| segment.to_owned()).collect(),
            parameters: Vec::new(),
            body: None,
            patience: Duration::ZERO,
            may_find_nothing: false,
            is_key: false,
        }
    }

    /// Takes "not found" for an empty list.
    pub(crate) fn or_empty(self) -> Self {
        Self { may_find_nothing: true, ..self }
    }

    /// Adds `?name=value`.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// Sends `body` as JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| Error::Argument(format!("the body cannot be written as JSON: {error}")))?;
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// Sends these bytes as they are.
    pub(crate) fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Waits for a change after `index`, for `wait` at most. The server may add a sixteenth.
    pub(crate) fn blocking(mut self, index: u64, wait: Duration) -> Self {
        if index > 0 {
            self.patience = wait + wait / 16;
            self = self.with("index", index.to_string()).with("wait", format!("{}ms", wait.as_millis()));
        }
        self
    }

    /// Reads may be repeated freely; a change only while it is certain that it was not made.
    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// The full URL at the agent whose base URL is `base`. A name that a URL cannot carry is refused.
    pub(crate) fn url(&self, base: &Url) -> Result<Url, Error> {
        let mut url = base.clone();
        let names = &self.segments[..self.segments.len() - usize::from(self.is_key && self.ends_in_slash())];
        if let Some(bad) = names.iter().find(|name| matches!(name.as_str(), "" | "." | "..")) {
            return Err(Error::Argument(format!("{bad:?} cannot be asked for: it is not a name")));
        }
        url.path_segments_mut()
            .map_err(|()| Error::Settings("the agent address cannot have a path".into()))?
            .clear()
            .push("v1")
            .extend(&self.segments);
        if !self.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.parameters);
        }
        Ok(url)
    }

    fn ends_in_slash(&self) -> bool {
        self.segments.last().is_some_and(String::is_empty)
    }

    /// What makes two requests the same question, whichever agent answers it.
    pub(crate) fn question(&self) -> String {
        let mut text = self.segments.join("/");
        for (name, value) in &self.parameters {
            text.push(if text.contains('\n') { '&' } else { '\n' });
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(request: &Request) -> Result<String, Error> {
        request.url(&Url::parse("http://h:1").unwrap()).map(String::from)
    }

    #[test]
    fn names_and_parameters_arrive_whole() {
        let request = Request::get(&["health", "service", "a/b %2f?x"]).with("filter", "Node == \"a&b\"");
        assert_eq!(
            url(&request).unwrap(),
            "http://h:1/v1/health/service/a%2Fb%20%252f%3Fx?filter=Node+%3D%3D+%22a%26b%22"
        );
    }

    #[test]
    fn keys_keep_their_slashes() {
        let key = |key| url(&Request::to_key(Method::GET, key));
        assert_eq!(key("a b/c?d/").unwrap(), "http://h:1/v1/kv/a%20b/c%3Fd/");
        assert_eq!(key("").unwrap(), "http://h:1/v1/kv/");
        for bad in ["/a", "a//b", "a/../b", "a/.", "//"] {
            assert!(matches!(key(bad), Err(Error::Argument(_))), "{bad}");
        }
    }

    #[test]
    fn names_that_would_change_the_path_are_refused() {
        for name in ["", ".", ".."] {
            assert!(matches!(url(&Request::get(&["catalog", "node", name])), Err(Error::Argument(_))));
        }
    }

    #[test]
    fn the_first_question_does_not_wait() {
        let wait = Duration::from_secs(16);
        assert_eq!(Request::get(&["a"]).blocking(0, wait).patience, Duration::ZERO);
        let later = Request::get(&["a"]).blocking(7, wait);
        assert_eq!(later.patience, Duration::from_secs(17));
        assert_eq!(url(&later).unwrap(), "http://h:1/v1/a?index=7&wait=16000ms");
    }
}
