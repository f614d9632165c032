//! Query parameters: `?dc`, `?index`, `?wait`, `?stale` and the rest, with Consul's answers to bad ones.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::duration::GoDuration;
use crate::error::ApiError;

/// How long blocking queries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitLimits {
    /// When they do not say.
    pub default: Duration,
    /// At most; asking for more gives this.
    pub max: Duration,
}

impl Default for WaitLimits {
    /// Five minutes, and ten: what clients set their time limits by.
    fn default() -> Self {
        Self { default: Duration::from_secs(5 * 60), max: Duration::from_secs(10 * 60) }
    }
}

/// More parameters than any client sends; a longer list is refused before it is looked through again and again.
pub const PARAMETERS_MAX: usize = 256;

/// The parameters of one request, decoded, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// How current an answer must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// As the leader knows it.
    #[default]
    Default,
    /// As a leader knows it that has just made sure it leads.
    Consistent,
    /// As any server knows it.
    Stale,
}

/// Where to wait for a newer answer, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// Answer only what is newer than this; zero answers at once.
    pub index: u64,
    /// Answer after this time at the latest. Servers add a little at random so that clients spread.
    pub wait: Duration,
}

/// What every read understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The datacenter asked for, if any.
    pub dc: Option<String>,
    /// The mode asked for; `None` when the request leaves it to the agent's settings.
    pub consistency: Option<Consistency>,
    /// How far behind the leader a stale answer may be.
    pub max_stale: Option<Duration>,
    /// Whether an answer from the agent's cache will do.
    pub cached: bool,
    /// Blocking.
    pub blocking: Blocking,
    /// The node whose neighbours come first; `_agent` is the node asked.
    pub near: Option<String>,
    /// Filter expression, not empty.
    pub filter: Option<String>,
    /// Pairs that the metadata of a node must hold.
    pub node_meta: Vec<(String, String)>,
}

impl Query {
    /// Reads the part of a URL after `?`.
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        let parts = raw.split('&').filter(|part| !part.is_empty());
        let mut pairs = Vec::new();
        for part in parts {
            if pairs.len() == PARAMETERS_MAX {
                return Err(ApiError::bad_request(format!(
                    "Invalid query string: more than {PARAMETERS_MAX} parameters"
                )));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value under a name: of duplicates, the first counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value under a name, unless it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether the name is there at all: `?stale`, `?stale=` and `?stale=false` are the same.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All values under a name, in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All names with their values, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All parameters as Go writes them: ordered by name, escaped.
    pub fn encoded(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let pairs = pairs.into_iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// A whole number, if the name is there; what is none is told in the words of Go's reader of numbers.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().map(Some).map_err(|_| {
            let why = if is_number { "value out of range" } else { "invalid syntax" };
            ApiError::server(format!("strconv.ParseUint: parsing {text:?}: {why}"))
        })
    }

    /// Whether the answer is to be indented.
    pub fn pretty(&self) -> bool {
        self.flag("pretty")
    }

    /// `?tag`, of which an instance must have every one; an empty one asks for the empty tag.
    pub fn tags(&self) -> Vec<&str> {
        self.all("tag").collect()
    }

    /// `?passing`: alone or true it asks for passing instances only.
    pub fn passing(&self) -> Result<bool, ApiError> {
        match self.get("passing") {
            None => Ok(false),
            Some("") => Ok(true),
            Some(text) => parse_bool(text).ok_or_else(|| ApiError::bad_request("Invalid value for ?passing")),
        }
    }

    /// `?enable`, which maintenance must be given.
    pub fn enable(&self) -> Result<bool, ApiError> {
        let text = self.get("enable").ok_or_else(|| ApiError::bad_request("Missing value for enable"))?;
        parse_bool(text).ok_or_else(|| ApiError::bad_request(format!("Invalid value for enable: {text:?}")))
    }

    /// What every read understands, or why the request contradicts itself.
    pub fn read_options(&self, waits: WaitLimits) -> Result<ReadOptions, ApiError> {
        self.refuse_foreign()?;
        let blocking = Blocking { index: self.index()?, wait: self.wait(waits)? };
        let max_stale = self.max_stale()?;
        let stale = self.flag("stale") || max_stale.is_some();
        let consistency = match (stale, self.flag("consistent")) {
            (true, true) => {
                let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
                return Err(ApiError::bad_request(text));
            }
            (true, false) => Some(Consistency::Stale),
            (false, true) => Some(Consistency::Consistent),
            (false, false) => self.flag("leader").then_some(Consistency::Default),
        };
        let cached = self.flag("cached");
        if cached && consistency == Some(Consistency::Consistent) {
            let text = "Cannot specify ?cached with ?consistent, conflicting semantics.";
            return Err(ApiError::bad_request(text));
        }
        Ok(ReadOptions {
            dc: self.text("dc").map(str::to_owned),
            consistency,
            max_stale,
            cached,
            blocking,
            near: self.text("near").map(str::to_owned),
            filter: self.text("filter").map(str::to_owned),
            node_meta: self.all("node-meta").map(split_meta).collect(),
        })
    }

    fn index(&self) -> Result<u64, ApiError> {
        let Some(text) = self.text("index") else { return Ok(0) };
        text.parse().map_err(|_| ApiError::bad_request("Invalid index"))
    }

    /// `?wait` within its limits.
    pub fn wait(&self, limits: WaitLimits) -> Result<Duration, ApiError> {
        let Some(text) = self.text("wait") else { return Ok(limits.default) };
        let span: GoDuration = text.parse().map_err(|_| ApiError::bad_request("Invalid wait time"))?;
        Ok(span.positive().unwrap_or(limits.default).min(limits.max))
    }

    fn max_stale(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.text("max_stale") else { return Ok(None) };
        let span: Result<GoDuration, _> = text.parse();
        span.map(GoDuration::positive)
            .map_err(|_| ApiError::bad_request(format!("Invalid max_stale value {text:?}")))
    }

    /// Refuses parameters for parts of Consul that are not here, unless they ask for what is so anyway.
    pub fn refuse_foreign(&self) -> Result<(), ApiError> {
        for (name, feature) in [("ns", "Namespaces"), ("partition", "Partitions")] {
            if self.text(name).is_some_and(|value| value != "default") {
                return Err(ApiError::bad_request(format!(
                    "Invalid query parameter: \"{name}\" - {feature} are a Consul Enterprise feature"
                )));
            }
        }
        if self.text("peer").is_some() {
            return Err(ApiError::bad_request(
                "Invalid query parameter: \"peer\" - cluster peering is not part of Tribune; use ?dc to ask \
                 another datacenter",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Query {
    /// The parameters as they stand in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            let mark = if number == 0 { "" } else { "&" };
            write!(f, "{mark}{}={}", Escaped(name), Escaped(value))?;
        }
        Ok(())
    }
}

/// A text with all that could mean something in a URL escaped.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    write!(f, "{}", char::from(byte))?;
                }
                other => write!(f, "%{other:02X}")?,
            }
        }
        Ok(())
    }
}

/// A text as Go writes it in a query, where a blank becomes `+`.
fn escape(text: &str) -> String {
    Escaped(text).to_string().replace("%20", "+")
}

/// `key:value`; without a colon the value is empty.
fn split_meta(text: &str) -> (String, String) {
    let (key, value) = text.split_once(':').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// The spellings of a truth value that Go accepts.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Undoes percent escapes in a segment of a path; `+` stands for itself there.
pub fn decode_path(segment: &str) -> Result<String, ApiError> {
    unescape(segment, false).ok_or_else(|| {
        ApiError::bad_request(format!("Invalid URL path: bad percent escape or not UTF-8 in {segment:?}"))
    })
}

/// A path as a router reads it. What cannot be decoded reaches no route and is left as it is.
pub fn routed_path(path: &str) -> Cow<'_, str> {
    match path.contains('%').then(|| unescape(path, false)).flatten() {
        Some(decoded) => Cow::Owned(decoded),
        None => Cow::Borrowed(path),
    }
}

fn decode(text: &str) -> Result<String, ApiError> {
    unescape(text, true).ok_or_else(|| {
        ApiError::bad_request(format!("Invalid query string: bad percent escape or not UTF-8 in {text:?}"))
    })
}

fn unescape(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(raw: &str) -> Result<ReadOptions, String> {
        Query::parse(raw)
            .and_then(|query| query.read_options(WaitLimits::default()))
            .map_err(|error| error.message)
    }

    #[test]
    fn modes_are_flags_by_presence() {
        let mode = |raw| options(raw).unwrap().consistency;
        assert_eq!(mode(""), None);
        assert_eq!(mode("leader"), Some(Consistency::Default));
        assert_eq!(mode("stale=false"), Some(Consistency::Stale));
        assert_eq!(mode("consistent="), Some(Consistency::Consistent));
        assert_eq!(mode("max_stale=5s"), Some(Consistency::Stale));
        assert_eq!(mode("max_stale=0s"), None);
    }

    #[test]
    fn waits_are_bounded() {
        let wait = |raw| options(raw).unwrap().blocking.wait;
        let limits = WaitLimits::default();
        assert_eq!(wait("index=5"), limits.default);
        assert_eq!(wait("wait=-3s"), limits.default);
        assert_eq!(wait("wait=1m30s"), Duration::from_secs(90));
        assert_eq!(wait("wait=1h"), limits.max);
    }

    #[test]
    fn bad_and_conflicting_parameters_are_refused_in_consuls_words() {
        for (raw, message) in [
            ("index=x", "Invalid index"),
            ("index=-1", "Invalid index"),
            ("index=18446744073709551616", "Invalid index"),
            ("wait=10", "Invalid wait time"),
            ("max_stale=x", "Invalid max_stale value \"x\""),
            ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
            ("max_stale=1s&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
            ("cached&consistent", "Cannot specify ?cached with ?consistent, conflicting semantics."),
            ("ns=foo", "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature"),
            (
                "partition=p",
                "Invalid query parameter: \"partition\" - Partitions are a Consul Enterprise feature",
            ),
            ("a=%zz", "Invalid query string: bad percent escape or not UTF-8 in \"%zz\""),
            ("a=%f", "Invalid query string: bad percent escape or not UTF-8 in \"%f\""),
            ("a=%ff", "Invalid query string: bad percent escape or not UTF-8 in \"%ff\""),
        ] {
            assert_eq!(options(raw).unwrap_err(), message, "{raw}");
        }
        assert!(options("ns=default&partition=&ns=foo").is_ok());
        assert!(options(&"a&".repeat(300)).unwrap_err().contains("more than 256"));
    }

    #[test]
    fn the_first_of_duplicates_counts_and_tags_repeat() {
        let query = Query::parse("dc=a&dc=b&tag=x&tag=&tag=y%20z+w&node-meta=k:v:w&node-meta=k").unwrap();
        let options = query.read_options(WaitLimits::default()).unwrap();
        assert_eq!(options.dc.as_deref(), Some("a"));
        assert_eq!(query.tags(), ["x", "", "y z w"]);
        let pairs = [("k".to_owned(), "v:w".to_owned()), ("k".to_owned(), String::new())];
        assert_eq!(options.node_meta, pairs);
    }

    #[test]
    fn truth_values_have_gos_spellings() {
        let passing = |raw: &str| Query::parse(raw).unwrap().passing();
        assert_eq!(passing(""), Ok(false));
        assert_eq!(passing("passing"), Ok(true));
        assert_eq!(passing("passing=0"), Ok(false));
        assert_eq!(passing("passing=x").unwrap_err().message, "Invalid value for ?passing");
        let enable = |raw: &str| Query::parse(raw).unwrap().enable().map_err(|error| error.message);
        assert_eq!(enable("enable=true"), Ok(true));
        assert_eq!(enable(""), Err("Missing value for enable".to_owned()));
        assert_eq!(enable("enable=x"), Err("Invalid value for enable: \"x\"".to_owned()));
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in ".*|([a-z%+=&0-9]{0,60})") {
            if let Ok(query) = Query::parse(&raw) {
                let _ = query.read_options(WaitLimits::default());
            }
        }
    }
}
