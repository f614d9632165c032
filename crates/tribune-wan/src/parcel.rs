//! A request made fit to travel: what its kind allows, which of its headers go along, how its query is written.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request};
use http_body::Body;
use tribune_api::addresses::{ADDRESSES, WAN};
use tribune_api::params::{Escaped, WaitLimits, routed_path};
use tribune_api::{Query, headers};
use tribune_core::Datacenter;

use crate::body::{self, NotCollected};
use crate::failure::Failure;

/// The datacenters a request has come through, separated by commas, the first one first.
pub(crate) const VIA: HeaderName = HeaderName::from_static("x-tribune-via");
/// The datacenter whose gateway gave an answer.
pub(crate) const FROM: HeaderName = HeaderName::from_static("x-tribune-from");
/// Everything that only nodes say to one another begins with this.
const INTERNAL_PREFIX: &str = "x-tribune-";

/// Longest request body that is passed on, in bytes. What is too long for its purpose is refused where it arrives.
const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Within this time a request body must have arrived.
const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Whole states travel here, in both directions.
const SNAPSHOT_PATH: &str = "/v1/snapshot";
/// Longest state that is passed on, in bytes; the HTTP server takes no longer ones either.
const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// How long making, sending or restoring a state may take.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(600);
/// How long an answer may take from a node that is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// What a blocking query may take beyond its wait; servers add up to a sixteenth themselves.
const WAIT_GRACE: Duration = Duration::from_secs(10);
/// Most header fields of a request that is passed on.
pub(crate) const HEADER_FIELDS_MAX: usize = 100;

/// Questions whose answers show addresses.
const ADDRESSED: [&str; 4] = ["/v1/catalog/", "/v1/health/", "/v1/query/", "/v1/internal/query/"];

/// Headers that concern one connection only (RFC 9110, 7.6.1), or that are written anew for the next.
const OF_ONE_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// What may be done with a request when no answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing and is answered at once: asked again elsewhere, even before the first attempt has failed.
    Read,
    /// It changes nothing and is answered after this time at the latest.
    Wait(Duration),
    /// Like one that waits, and its sender relies on it to stand: when it is lost on its way he must learn of it, so
    /// that it is not sent again elsewhere.
    Stand(Duration),
    /// It may change something: never sent again once it may have been processed.
    Write,
}

/// A request that can be sent, and sent again.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Without the question mark.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) kind: Kind,
}

impl Parcel {
    /// The parcel of a request whose body has been collected.
    pub(crate) fn new(head: request::Parts, body: Bytes) -> Result<Self, Failure> {
        if head.headers.len() > HEADER_FIELDS_MAX {
            let text = format!("a request with more than {HEADER_FIELDS_MAX} header fields is not passed on");
            return Err(Failure::refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        let raw = head.uri.query().unwrap_or_default();
        let kind = kind_of(&head, &Query::parse(raw)?)?;
        let (path, query) = (head.uri.path().to_owned(), raw.to_owned());
        Ok(Self { method: head.method, path, query, headers: for_the_next_hop(head.headers), body, kind })
    }

    /// A request of our own to another node.
    pub(crate) fn internal(path: &str, body: Bytes, kind: Kind) -> Self {
        let (path, query) = (path.to_owned(), String::new());
        Self { method: Method::POST, path, query, headers: HeaderMap::new(), body, kind }
    }

    /// How long its answer may take from a node that is there.
    pub(crate) fn answer_time(&self) -> Duration {
        match self.kind {
            Kind::Wait(wait) | Kind::Stand(wait) => wait + wait / 16 + WAIT_GRACE,
            Kind::Write if self.path == SNAPSHOT_PATH => SNAPSHOT_TIME_MAX,
            Kind::Read | Kind::Write => ANSWER_TIME_MAX,
        }
    }

    /// Notes that the parcel has come through `datacenter`.
    #[must_use]
    pub(crate) fn via(mut self, datacenter: &Datacenter) -> Self {
        let before = self.headers.get(VIA).and_then(|value| value.to_str().ok());
        let all = match before {
            Some(before) => format!("{before},{datacenter}"),
            None => datacenter.to_string(),
        };
        if let Ok(value) = HeaderValue::from_str(&all) {
            self.headers.insert(VIA, value);
        }
        self
    }

    /// Notes again what the parcel has come through, which was taken off with the headers of nodes.
    #[must_use]
    pub(crate) fn come_via(mut self, via: &[String]) -> Self {
        if let Ok(value) = HeaderValue::from_str(&via.join(",")) {
            self.headers.insert(VIA, value);
        }
        self
    }

    /// Addresses the parcel to `datacenter` in its query, unless it is already.
    #[must_use]
    pub(crate) fn addressed_to(mut self, datacenter: &Datacenter) -> Self {
        if named_datacenter(&self.query).is_none() {
            self.query = with_pair(&self.query, "dc", datacenter.as_str());
        }
        self
    }

    /// Writes out who `near=_agent` means, which only the asker's own agent knows; nobody, where it is not known there.
    #[must_use]
    pub(crate) fn near(mut self, agent: Option<&str>) -> Self {
        let is_agent = Query::parse(&self.query).is_ok_and(|query| query.text("near") == Some("_agent"));
        if is_agent {
            self.query = without(&self.query, &["near"]);
            if let Some(name) = agent {
                self.query = with_pair(&self.query, "near", name);
            }
        }
        self
    }

    /// Asks for the addresses that are meant for readers in other datacenters, where the answer has any.
    #[must_use]
    pub(crate) fn for_wan_addresses(mut self) -> Self {
        let path = routed_path(&self.path);
        let has_addresses = ADDRESSED.iter().any(|prefix| path.starts_with(prefix));
        if self.method == Method::GET && has_addresses {
            self.query = with_pair(&without(&self.query, &[ADDRESSES]), ADDRESSES, WAN);
        }
        self
    }

    /// The request to send, with a path as its URI.
    pub(crate) fn to_request(&self) -> Result<Request<Bytes>, Failure> {
        let target = match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        };
        let unusable = || Failure::refused(StatusCode::BAD_REQUEST, "the request has no usable path");
        let uri: Uri = target.parse().map_err(|_| unusable())?;
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

/// The parcel of a request, whose body is collected within limits.
pub(crate) async fn collect<B>(request: Request<B>) -> Result<Parcel, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    let (head, body) = request.into_parts();
    let (bytes_max, time_max) = match head.uri.path() {
        SNAPSHOT_PATH => (SNAPSHOT_BYTES_MAX, SNAPSHOT_TIME_MAX),
        _ => (REQUEST_BYTES_MAX, REQUEST_BODY_TIMEOUT),
    };
    let body = body::collect(body, bytes_max, time_max).await;
    let body = body.map_err(|error| match error {
        NotCollected::TooLong => {
            let text = format!("Request body too large, max size: {bytes_max} bytes");
            Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        NotCollected::Broken(reason) => Failure::refused(StatusCode::BAD_REQUEST, reason),
    })?;
    Parcel::new(head, body)
}

fn kind_of(head: &request::Parts, query: &Query) -> Result<Kind, Failure> {
    if ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method) {
        return Ok(Kind::Write);
    }
    if head.uri.path() == SNAPSHOT_PATH {
        // Made for whoever asks, so nobody else is asked as well while it takes its time.
        return Ok(Kind::Wait(SNAPSHOT_TIME_MAX));
    }
    let waits = query.text("index").is_some_and(|index| index != "0") || query.text("hash").is_some();
    if !waits {
        return Ok(Kind::Read);
    }
    // How long it waits that does not say so is known to the other side only.
    let limits = WaitLimits::default();
    Ok(Kind::Wait(query.wait(WaitLimits { default: limits.max, ..limits })?))
}

/// Leaves out what concerns only the connection the request came by, and what clients have no business to say.
pub(crate) fn for_the_next_hop(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_HOP) {
        headers.remove(name);
    }
    let internal: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
    headers
}

/// The datacenters a request has come through.
pub(crate) fn came_via(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// The token of a request.
pub(crate) fn token<'a>(query: &'a Query, headers: &'a HeaderMap) -> Option<&'a str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    headers::token(query, text(headers::TOKEN), text("authorization"))
}

/// The datacenter that a query names.
pub(crate) fn named_datacenter(raw: &str) -> Option<String> {
    Query::parse(raw).ok()?.text("dc").map(str::to_owned)
}

/// The query without the parameters of these names, however they are escaped; the others stay as they are.
pub(crate) fn without(raw: &str, names: &[&str]) -> String {
    let kept = raw.split('&').filter(|part| {
        let decoded = Query::parse(part).unwrap_or_default();
        !decoded.pairs().any(|(name, _)| names.contains(&name))
    });
    kept.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&")
}

/// The query with one parameter more, whose name needs no escapes.
pub(crate) fn with_pair(raw: &str, name: &str, value: &str) -> String {
    let mark = if raw.is_empty() { "" } else { "&" };
    format!("{raw}{mark}{name}={}", Escaped(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(request: Request<()>) -> Result<Parcel, Failure> {
        Parcel::new(request.into_parts().0, Bytes::new())
    }

    #[test]
    fn what_may_be_repeated_follows_from_the_request() {
        let kind = |method: &str, uri: &str| {
            parcel(Request::builder().method(method).uri(uri).body(()).unwrap()).map(|parcel| parcel.kind)
        };
        assert_eq!(kind("GET", "/v1/kv/a"), Ok(Kind::Read));
        assert_eq!(kind("GET", "/v1/kv/a?index=0"), Ok(Kind::Read));
        assert_eq!(kind("GET", "/v1/kv/a?index=7&wait=10s"), Ok(Kind::Wait(Duration::from_secs(10))));
        // How long the other side waits then is its own affair: at most ten minutes.
        assert_eq!(kind("GET", "/v1/event/list?index=7"), Ok(Kind::Wait(Duration::from_secs(600))));
        assert_eq!(kind("PUT", "/v1/kv/a?index=7"), Ok(Kind::Write));
        assert_eq!(kind("DELETE", "/v1/kv/a"), Ok(Kind::Write));
        assert_eq!(kind("GET", "/v1/snapshot?stale"), Ok(Kind::Wait(SNAPSHOT_TIME_MAX)));
        let refused = kind("GET", "/v1/kv/a?index=7&wait=x").unwrap_err();
        assert_eq!(refused, Failure::refused(StatusCode::BAD_REQUEST, "Invalid wait time"));
    }

    #[test]
    fn headers_of_one_hop_and_of_nodes_stay_behind() {
        let request = Request::get("/v1/kv/a")
            .header("host", "h")
            .header("connection", "close, x-mine")
            .header("x-mine", "1")
            .header("x-tribune-via", "dc9")
            .header("x-tribune-failure", "unknown")
            .header("x-consul-token", "secret")
            .header("accept-encoding", "gzip")
            .body(())
            .unwrap();
        let parcel = parcel(request).unwrap();
        let mut names: Vec<&str> = parcel.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "x-consul-token"]);
    }

    #[test]
    fn the_way_is_written_down() {
        let dc = |name: &str| Datacenter::new(name).unwrap();
        let parcel = parcel(Request::get("/v1/kv/a").body(()).unwrap()).unwrap();
        let parcel = parcel.via(&dc("dc1")).via(&dc("dc2"));
        assert_eq!(came_via(&parcel.headers), ["dc1", "dc2"]);
    }

    #[test]
    fn queries_are_changed_where_they_must_be_only() {
        assert_eq!(without("a=%20b&%64c=x&dc=y&&index", &["dc", "index"]), "a=%20b");
        assert_eq!(with_pair("a", "dc", "d c&2"), "a&dc=d%20c%262");
        let to = Datacenter::new("dc2").unwrap();
        let addressed = |uri: &str| {
            let parcel = parcel(Request::get(uri).body(()).unwrap()).unwrap();
            parcel.addressed_to(&to).to_request().unwrap().uri().to_string()
        };
        assert_eq!(addressed("/v1/kv/a%2fb?x"), "/v1/kv/a%2fb?x&dc=dc2");
        assert_eq!(addressed("/v1/kv/a?dc=DC2"), "/v1/kv/a?dc=DC2");
        assert_eq!(addressed("/v1/kv/a"), "/v1/kv/a?dc=dc2");
        let near = |uri: &str, agent: Option<&str>| {
            parcel(Request::get(uri).body(()).unwrap()).unwrap().near(agent).query
        };
        assert_eq!(near("/v1/catalog/nodes?near=_agent&stale", Some("n 1")), "stale&near=n%201");
        assert_eq!(near("/v1/catalog/nodes?near=_agent&stale", None), "stale");
        assert_eq!(near("/v1/catalog/nodes?near=n2", Some("n1")), "near=n2");
    }

    #[test]
    fn addresses_for_others_are_asked_for_where_there_are_any() {
        let asked = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            parcel(request).unwrap().for_wan_addresses().query
        };
        assert_eq!(asked(Method::GET, "/v1/catalog/nodes?dc=dc2"), "dc=dc2&addresses=wan");
        assert_eq!(asked(Method::GET, "/v1/health/service/web?addresses=x&a"), "a&addresses=wan");
        assert_eq!(asked(Method::GET, "/v1/kv/a?dc=dc2"), "dc=dc2");
        assert_eq!(asked(Method::PUT, "/v1/catalog/register?dc=dc2"), "dc=dc2");
    }

    #[test]
    fn too_many_headers_are_refused() {
        let mut request = Request::get("/v1/kv/a");
        for at in 0..=HEADER_FIELDS_MAX {
            request = request.header(format!("x-{at}"), "v");
        }
        let refused = parcel(request.body(()).unwrap()).unwrap_err();
        assert!(matches!(refused, Failure::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, _)));
    }
}
