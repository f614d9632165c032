//! Steps of the filter transcripts: `<expression>` names the things it holds for, `print <expression>` shows how it
//! was understood.

use smol_str::SmolStr;
use tribune_core::filter::{Expression, Field, Fields, Filter, Kind, Value};
use tribune_core::{Pairs, ServiceAddress};

use crate::transcript::Script;

/// Two instances of a service: `one` with everything, `two` with nothing.
#[derive(Default)]
pub(crate) struct Things;

struct Thing {
    name: &'static str,
    port: i64,
    native: bool,
    tags: Vec<SmolStr>,
    meta: Pairs,
    addresses: Pairs<ServiceAddress>,
    checks: Vec<(&'static str, Vec<SmolStr>)>,
}

const ADDRESS: &[Field] =
    &[Field { name: "Address", kind: Kind::Text }, Field { name: "Port", kind: Kind::Number }];
const CHECK: &[Field] =
    &[Field { name: "Status", kind: Kind::Text }, Field { name: "Tags", kind: Kind::List }];

impl Fields for Thing {
    const FIELDS: &'static [Field] = &[
        Field { name: "Name", kind: Kind::Text },
        Field { name: "Port", kind: Kind::Number },
        Field { name: "Native", kind: Kind::Bool },
        Field { name: "Tags", kind: Kind::List },
        Field { name: "Meta", kind: Kind::Map },
        Field { name: "Addresses", kind: Kind::Table(ADDRESS) },
        Field { name: "Checks", kind: Kind::Objects(CHECK) },
        Field { name: "Nested", kind: Kind::Object(CHECK) },
    ];

    fn any(&self, path: &[SmolStr], probe: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let path: Vec<&str> = path.iter().map(SmolStr::as_str).collect();
        match path[..] {
            ["Name"] => probe(Value::Text(self.name)),
            ["Port"] => probe(Value::Number(self.port)),
            ["Native"] => probe(Value::Bool(self.native)),
            ["Tags"] => probe(Value::List(&self.tags)),
            ["Meta"] => probe(Value::Keys(&self.meta)),
            ["Meta", key] => probe(self.meta.get(key).map_or(Value::Missing, |text| Value::Text(text))),
            ["Addresses"] => probe(Value::Keys(&self.addresses)),
            ["Addresses", key, field] => probe(match (self.addresses.get(key), field) {
                (Some(address), "Address") => Value::Text(&address.address),
                (Some(address), _) => Value::Number(address.port.into()),
                (None, _) => Value::Missing,
            }),
            ["Checks"] => probe(Value::Objects(self.checks.len())),
            ["Checks", "Status"] => self.checks.iter().any(|(status, _)| probe(Value::Text(status))),
            ["Checks", _] => self.checks.iter().any(|(_, tags)| probe(Value::List(tags))),
            _ => probe(Value::Missing),
        }
    }
}

impl Script for Things {
    fn step(&mut self, words: &str) -> String {
        if let Some(text) = words.strip_prefix("print ") {
            return match Expression::parse(text) {
                Ok(expression) => expression.to_string(),
                Err(error) => error.to_string(),
            };
        }
        let filter = match Filter::compile::<Thing>(words) {
            Ok(filter) => filter,
            Err(error) => return error.to_string(),
        };
        let things = things();
        let names: Vec<&str> =
            things.iter().filter(|thing| filter.matches(*thing)).map(|thing| thing.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    }
}

fn things() -> [Thing; 2] {
    let pair = |key: &str, value: &str| (SmolStr::from(key), SmolStr::from(value));
    let lan = ServiceAddress { address: "10.0.0.1".into(), port: 1 };
    let one = Thing {
        name: "one",
        port: 80,
        native: true,
        tags: vec!["a".into(), "b c".into()],
        meta: [pair("os", "linux"), pair("k e", "x"), pair("empty", "")].into_iter().collect(),
        addresses: [("lan".into(), lan)].into_iter().collect(),
        checks: vec![("passing", vec!["a".into()]), ("critical", vec![])],
    };
    let two = Thing {
        name: "two",
        port: 0,
        native: false,
        tags: Vec::new(),
        meta: Pairs::default(),
        addresses: Pairs::default(),
        checks: Vec::new(),
    };
    [one, two]
}
