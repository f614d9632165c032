//! Filling a template in: texts with `${…}` become texts.

use regex::Regex;

use super::{Query, ServiceQuery, TemplateSpec};
use crate::model::Pairs;

/// Memory that the expression of a template may cost when it is compiled.
const EXPRESSION_MEMORY_MAX: usize = 256 * 1024;

/// A template that can be filled in. Filling in cannot fail.
#[derive(Debug, Clone)]
pub struct Template {
    regexp: Option<Regex>,
    prefix: String,
    remove_empty_tags: bool,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Full,
    Prefix,
    Suffix,
    Group(usize),
    /// Segments do not exist here: always empty.
    Segment,
}

impl Template {
    pub(super) fn new(query: &Query, spec: &TemplateSpec) -> Result<Self, String> {
        let regexp = match spec.regexp.as_str() {
            "" => None,
            text => {
                let compiled = regex::RegexBuilder::new(text).size_limit(EXPRESSION_MEMORY_MAX).build();
                Some(compiled.map_err(|error| format!("Bad Regexp: error parsing regexp: {error}"))?)
            }
        };
        for (place, text) in texts(&query.service) {
            parts(text).map_err(|trouble| trouble.told(text, &place))?;
        }
        let prefix = query.name.to_string();
        Ok(Self { regexp, prefix, remove_empty_tags: spec.remove_empty_tags })
    }

    /// What is asked for when `name` was used.
    pub fn fill(&self, service: &ServiceQuery, name: &str) -> ServiceQuery {
        let groups = self.regexp.as_ref().and_then(|regexp| regexp.captures(name));
        let group = |number: usize| {
            let found = groups.as_ref().and_then(|groups| groups.get(number));
            found.map_or("", |found| found.as_str())
        };
        let fill = |text: &String| -> String {
            // All texts were looked at when the template was made.
            let parts = parts(text).unwrap_or_default();
            let part = |part: &Part<'_>| match part {
                Part::Text(text) => (*text).to_owned(),
                Part::Full => name.to_owned(),
                Part::Prefix => self.prefix.clone(),
                Part::Suffix => name.strip_prefix(&self.prefix).unwrap_or(name).to_owned(),
                Part::Group(number) => group(*number).to_owned(),
                Part::Segment => String::new(),
            };
            parts.iter().map(part).collect()
        };
        let pairs = |pairs: &Pairs| -> Pairs {
            pairs.iter().map(|(key, value)| (key.clone(), fill(&value.to_string()).into())).collect()
        };
        let list = |texts: &[String]| texts.iter().map(fill).collect::<Vec<String>>();
        let mut tags = list(&service.tags);
        if self.remove_empty_tags {
            tags.retain(|tag| !tag.is_empty());
        }
        ServiceQuery {
            service: fill(&service.service),
            datacenters: list(&service.datacenters),
            ignore_check_ids: list(&service.ignore_check_ids),
            near: fill(&service.near),
            tags,
            node_meta: pairs(&service.node_meta),
            service_meta: pairs(&service.service_meta),
            ..*service
        }
    }
}

/// All texts that may be filled in, with where they stand.
fn texts(service: &ServiceQuery) -> Vec<(String, &str)> {
    let mut texts = vec![("Service.Service".to_owned(), service.service.as_str())];
    let lists = [
        ("Failover.Datacenters", &service.datacenters),
        ("IgnoreCheckIDs", &service.ignore_check_ids),
        ("Tags", &service.tags),
    ];
    for (name, list) in lists {
        let list = list.iter().enumerate();
        texts.extend(list.map(|(at, text)| (format!("Service.{name}[{at}]"), text.as_str())));
    }
    texts.push(("Service.Near".to_owned(), &service.near));
    for (name, pairs) in [("NodeMeta", &service.node_meta), ("ServiceMeta", &service.service_meta)] {
        texts.extend(pairs.iter().map(|(key, text)| (format!("Service.{name}[{key}]"), text.as_str())));
    }
    texts
}

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    Syntax,
    Variable(String),
}

impl Trouble {
    fn told(&self, text: &str, place: &str) -> String {
        match self {
            Self::Syntax => format!("Bad format '{text}' in {place}: parse error: syntax error"),
            Self::Variable(name) => {
                format!("Bad evaluation for '{text}' in {place}: 1:3: unknown variable accessed: {name}")
            }
        }
    }
}

/// Takes a text apart. `$${` stands for `${` itself.
fn parts(text: &str) -> Result<Vec<Part<'_>>, Trouble> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            parts.extend([Part::Text(before), Part::Text("${")]);
            rest = &after[2..];
            continue;
        }
        parts.push(Part::Text(before));
        let (inside, behind) = after[2..].split_once('}').ok_or(Trouble::Syntax)?;
        parts.push(expression(inside.trim())?);
        rest = behind;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn expression(text: &str) -> Result<Part<'static>, Trouble> {
    Ok(match text {
        "name.full" => Part::Full,
        "name.prefix" => Part::Prefix,
        "name.suffix" => Part::Suffix,
        "agent.segment" => Part::Segment,
        other => match other.strip_prefix("match(").and_then(|rest| rest.strip_suffix(')')) {
            Some(number) => Part::Group(number.trim().parse().map_err(|_| Trouble::Syntax)?),
            None => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let is_name = !other.is_empty() && other.chars().all(plain);
                return Err(if is_name { Trouble::Variable(other.to_owned()) } else { Trouble::Syntax });
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, regexp: &str, service: ServiceQuery) -> Result<(Template, ServiceQuery), String> {
        let spec = TemplateSpec { regexp: regexp.into(), remove_empty_tags: true };
        let query = Query { name: name.into(), service: service.clone(), ..Query::default() };
        Template::new(&query, &spec).map(|template| (template, service))
    }

    fn filled(text: &str, name: &str) -> String {
        let service = ServiceQuery { service: text.into(), ..ServiceQuery::default() };
        let (template, service) = template("geo-db-", "^geo-db-(.*?)-([^-]+?)$", service).unwrap();
        template.fill(&service, name).service
    }

    #[test]
    fn texts_are_filled_in_from_the_name() {
        let name = "geo-db-customer-primary";
        for (text, expected) in [
            ("${name.full}", name),
            ("${ name.prefix }", "geo-db-"),
            ("${name.suffix}", "customer-primary"),
            ("a-${match(1)}-${match(2)}-z", "a-customer-primary-z"),
            ("${match(0)}", name),
            ("${match(3)}x", "x"),
            ("$${match(1)} $5 {}", "${match(1)} $5 {}"),
            ("${agent.segment}", ""),
            ("", ""),
        ] {
            assert_eq!(filled(text, name), expected, "{text}");
        }
        assert_eq!(filled("${match(1)}", "geo-db-x"), "");
    }

    #[test]
    fn every_text_of_the_question_is_filled_in() {
        let service = ServiceQuery {
            service: "${match(1)}".into(),
            datacenters: vec!["dc-${match(2)}".into()],
            near: "${match(1)}".into(),
            tags: vec!["${match(2)}".into(), "${match(9)}".into()],
            node_meta: [("k".into(), "${match(1)}".into())].into_iter().collect(),
            only_passing: true,
            nearest_n: 3,
            ..ServiceQuery::default()
        };
        let (template, service) = template("", "^(.)(.)$", service).unwrap();
        let filled = template.fill(&service, "ab");
        assert_eq!((filled.service.as_str(), filled.near.as_str()), ("a", "a"));
        assert_eq!((filled.datacenters, filled.tags), (vec!["dc-b".to_owned()], vec!["b".to_owned()]));
        assert_eq!(filled.node_meta.get("k").unwrap(), "a");
        assert!(filled.only_passing && filled.nearest_n == 3);
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused_in_known_words() {
        let refused = |text: &str| {
            let service = ServiceQuery { tags: vec![text.into()], ..ServiceQuery::default() };
            template("", "", service).unwrap_err()
        };
        assert_eq!(
            refused("${match(x"),
            "Bad format '${match(x' in Service.Tags[0]: parse error: syntax error"
        );
        assert_eq!(
            refused("${foo.bar}"),
            "Bad evaluation for '${foo.bar}' in Service.Tags[0]: 1:3: unknown variable accessed: foo.bar"
        );
        assert!(refused("${}").contains("syntax error") && refused("${match(-1)}").contains("syntax error"));
        let bad = template("", "(", ServiceQuery::default()).unwrap_err();
        assert!(bad.starts_with("Bad Regexp: error parsing regexp:"), "{bad}");
        assert!(template("", &"a{1000}".repeat(50), ServiceQuery::default()).is_err());
    }
}
