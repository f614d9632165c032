//! Definitions of services and checks in a configuration: the same fields as in the HTTP API, written in
//! snake_case. Here they are brought into the API's spelling, so that one decoder serves both.

use super::keys::Definition;
use super::merge::{Remark, nearest};
use super::tree::{Node, Value};

impl Definition {
    /// The key under which all definitions of this kind are collected.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Check => "checks",
        }
    }

    fn fields(self) -> &'static [Field] {
        match self {
            Self::Service => SERVICE,
            Self::Check => CHECK,
        }
    }
}

/// A field of a definition: its name in the API, other names it goes by, and what is inside.
struct Field {
    wire: &'static str,
    aliases: &'static [&'static str],
    inside: Inside,
}

enum Inside {
    /// Handed on as it is; names inside are the user's own.
    Opaque,
    /// A block of these fields.
    Block(&'static [Field]),
    /// Named blocks of these fields.
    Named(&'static [Field]),
    /// One check.
    Check,
    /// A list of checks.
    Checks,
}

const fn plain(wire: &'static str) -> Field {
    Field { wire, aliases: &[], inside: Inside::Opaque }
}

const fn also(wire: &'static str, aliases: &'static [&'static str]) -> Field {
    Field { wire, aliases, inside: Inside::Opaque }
}

const fn holding(wire: &'static str, inside: Inside) -> Field {
    Field { wire, aliases: &[], inside }
}

const SERVICE: &[Field] = &[
    plain("Name"),
    plain("ID"),
    plain("Kind"),
    plain("Tags"),
    plain("Address"),
    holding("TaggedAddresses", Inside::Named(&[plain("Address"), plain("Port")])),
    plain("Meta"),
    plain("Port"),
    plain("SocketPath"),
    holding("Weights", Inside::Block(&[plain("Passing"), plain("Warning")])),
    plain("Token"),
    plain("EnableTagOverride"),
    holding("Check", Inside::Check),
    holding("Checks", Inside::Checks),
    plain("Proxy"),
    plain("Connect"),
    plain("Locality"),
];

const CHECK: &[Field] = &[
    also("ID", &["check_id"]),
    plain("Name"),
    plain("Notes"),
    plain("ServiceID"),
    plain("Token"),
    plain("Status"),
    also("ScriptArgs", &["args"]),
    plain("HTTP"),
    plain("Header"),
    plain("Method"),
    plain("Body"),
    plain("DisableRedirects"),
    plain("TCP"),
    plain("TCPUseTLS"),
    plain("UDP"),
    plain("GRPC"),
    plain("GRPCUseTLS"),
    plain("H2PING"),
    plain("H2PingUseTLS"),
    plain("OSService"),
    plain("TTL"),
    plain("DockerContainerID"),
    plain("Shell"),
    plain("AliasNode"),
    plain("AliasService"),
    plain("TLSServerName"),
    plain("TLSSkipVerify"),
    plain("Interval"),
    plain("Timeout"),
    plain("SuccessBeforePassing"),
    plain("FailuresBeforeWarning"),
    plain("FailuresBeforeCritical"),
    plain("DeregisterCriticalServiceAfter"),
    plain("OutputMaxSize"),
    plain("SlowWarning"),
    plain("SlowCritical"),
    holding(
        "Host",
        Inside::Block(&[plain("Resource"), plain("Path"), plain("WarningPercent"), plain("CriticalPercent")]),
    ),
];

/// One definition or a list of them, fields in the API's spelling. What cannot be understood goes to `errors`.
pub(super) fn collect(what: Definition, node: Node, errors: &mut Vec<Remark>) -> Vec<Node> {
    match node.value {
        Value::Map(_) => vec![renamed(node, what.fields(), errors)],
        Value::List(items) => items.into_iter().flat_map(|item| collect(what, item, errors)).collect(),
        Value::Null => Vec::new(),
        other => {
            let text = format!("a {} is defined by a block {{ … }}, not by {}", word(what), other.kind());
            errors.push(Remark { place: node.place, text });
            Vec::new()
        }
    }
}

fn word(what: Definition) -> &'static str {
    match what {
        Definition::Service => "service",
        Definition::Check => "check",
    }
}

fn renamed(node: Node, fields: &'static [Field], errors: &mut Vec<Remark>) -> Node {
    let Value::Map(entries) = node.value else { return node };
    let mut wire = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        match fields.iter().find(|field| field.is_called(&name)) {
            Some(field) => field.put(value, &mut wire, errors),
            None => errors.push(Remark { place: value.place, text: unknown(&name, fields) }),
        }
    }
    Node { place: node.place, value: Value::Map(wire) }
}

impl Inside {
    fn renamed(&self, node: Node, errors: &mut Vec<Remark>) -> Node {
        match self {
            Self::Opaque => node,
            Self::Block(fields) => renamed(single(node), fields, errors),
            Self::Named(fields) => {
                let node = single(node);
                let Value::Map(entries) = node.value else { return node };
                let inner =
                    entries.into_iter().map(|(name, it)| (name, renamed(it, fields, errors))).collect();
                Node { place: node.place, value: Value::Map(inner) }
            }
            Self::Check => renamed(single(node), CHECK, errors),
            Self::Checks => {
                let place = node.place.clone();
                Node { place, value: Value::List(collect(Definition::Check, node, errors)) }
            }
        }
    }
}

/// A list of one block means that block, which is what JSON made from HCL looks like.
fn single(node: Node) -> Node {
    match node.value {
        Value::List(mut items) if items.len() == 1 => items.remove(0),
        value => Node { place: node.place, value },
    }
}

impl Field {
    /// Adds the field. Checks written as several blocks add up.
    fn put(&self, value: Node, wire: &mut Vec<(String, Node)>, errors: &mut Vec<Remark>) {
        let added = self.inside.renamed(value, errors);
        let adds_up = matches!(self.inside, Inside::Check | Inside::Checks);
        match wire.iter_mut().find(|(name, _)| adds_up && name == self.wire) {
            Some((_, present)) => {
                let listed = |node: Node| match node.value {
                    Value::List(items) => items,
                    _ => vec![node],
                };
                let place = present.place.clone();
                let mut all = listed(std::mem::replace(present, Node { place, value: Value::Null }));
                all.extend(listed(added));
                present.value = Value::List(all);
            }
            None => wire.push((self.wire.to_owned(), added)),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let plain = squeezed(name);
        plain == squeezed(self.wire) || self.aliases.iter().any(|alias| plain == squeezed(alias))
    }
}

/// `deregister_critical_service_after` and `DeregisterCriticalServiceAfter` come to the same.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

fn unknown(name: &str, fields: &[Field]) -> String {
    let names: Vec<String> = fields.iter().map(|field| snake_case(field.wire)).collect();
    match (name, nearest(name, names.iter().map(String::as_str))) {
        ("script", _) => {
            "unknown key \"script\"; write args = [\"program\", \"argument\"] instead".to_owned()
        }
        (_, Some(other)) => format!("unknown key {name:?}; did you mean {other:?}?"),
        (_, None) => format!("unknown key {name:?}; known here are {}", names.join(", ")),
    }
}

/// `DeregisterCriticalServiceAfter` as configurations write it. Runs of capitals are one word (`TLSSkipVerify`).
fn snake_case(wire: &str) -> String {
    let letters: Vec<char> = wire.chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let starts_word = letter.is_ascii_uppercase()
            && at > 0
            && (letters[at - 1].is_ascii_lowercase()
                || letters.get(at + 1).is_some_and(char::is_ascii_lowercase));
        if starts_word {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::syntax::{Format, parse};
    use super::*;

    fn check(text: &str, expected: serde_json::Value) {
        let mut errors = Vec::new();
        let node = parse(text, "x.hcl", Format::Hcl).unwrap();
        let found = collect(Definition::Service, node, &mut errors);
        assert_eq!(errors, []);
        assert_eq!(found[0].to_json(), expected);
    }

    fn refuse(text: &str, expected: &str) {
        let mut errors = Vec::new();
        collect(Definition::Service, parse(text, "x.hcl", Format::Hcl).unwrap(), &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains(expected)), "{texts:?}");
    }

    #[test]
    fn both_spellings_reach_the_api() {
        check(
            "name = \"web\" enable_tag_override = true enableTagOverride = false",
            json!({"Name": "web", "EnableTagOverride": false}),
        );
        check(
            "name = \"web\" meta { My_Key = \"v\" } check { args = [\"a\"] tls_skip_verify = true }",
            json!({"Name": "web", "Meta": {"My_Key": "v"}, "Check": {"ScriptArgs": ["a"], "TLSSkipVerify": true}}),
        );
        check(
            "checks = [{ ttl = \"1s\" }] tagged_addresses { lan { address = \"a\" port = 1 } }",
            json!({"Checks": [{"TTL": "1s"}], "TaggedAddresses": {"lan": {"Address": "a", "Port": 1}}}),
        );
    }

    #[test]
    fn unknown_fields_are_refused_with_the_nearest_one() {
        refuse("nmae = \"web\"", "x.hcl:1:1: unknown key \"nmae\"; did you mean \"name\"?");
        refuse("check { intervall = \"1s\" }", "did you mean \"interval\"?");
        refuse("check { script = \"x\" }", "write args");
        refuse(
            "check { deregister_critical_after = \"1m\" }",
            "did you mean \"deregister_critical_service_after\"?",
        );
        refuse("wobble = 1", "known here are name, id, kind");
    }

    #[test]
    fn wire_names_are_shown_in_snake_case() {
        assert_eq!(snake_case("DeregisterCriticalServiceAfter"), "deregister_critical_service_after");
        assert_eq!(snake_case("TLSSkipVerify"), "tls_skip_verify");
        assert_eq!(snake_case("ServiceID"), "service_id");
    }
}
