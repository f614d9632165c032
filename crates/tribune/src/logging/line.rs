//! One log event as a line, for people or for machines, in the forms that tools for Consul's logs know.

use std::fmt::{self, Write as _};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `2021-03-01T10:00:00.123Z [INFO]  agent.server: message: key=value`
    Text,
    /// One JSON object.
    Json,
}

/// What is said in an event, apart from when and where.
#[derive(Debug, Default)]
pub(super) struct Words {
    message: String,
    fields: Vec<(&'static str, Word)>,
}

#[derive(Debug)]
enum Word {
    Text(String),
    Bare(serde_json::Value),
}

impl Words {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut words = Self::default();
        event.record(&mut words);
        words
    }

    fn put(&mut self, field: &Field, word: Word) {
        match (field.name(), word) {
            ("message", Word::Text(text)) => self.message = text,
            ("message", Word::Bare(value)) => self.message = value.to_string(),
            (name, word) => self.fields.push((name, word)),
        }
    }

    /// The line, with its line break.
    pub(super) fn line(&self, form: Form, now: &Zoned, level: Level, target: &str) -> String {
        match form {
            Form::Text => self.text(now, level, target),
            Form::Json => self.json(now, level, target),
        }
    }

    fn text(&self, now: &Zoned, level: Level, target: &str) -> String {
        let level = format!("[{}]", word_of(level));
        let mut line = format!("{} {level:<7} {}: {}", stamp(now), module(target), one_line(&self.message));
        for (at, (name, word)) in self.fields.iter().enumerate() {
            line.push_str(if at == 0 { ": " } else { " " });
            let shown = match word {
                Word::Text(text) => quoted_if_needed(text),
                Word::Bare(value) => value.to_string(),
            };
            let _ = write!(line, "{name}={shown}");
        }
        line.push('\n');
        line
    }

    fn json(&self, now: &Zoned, level: Level, target: &str) -> String {
        let mut object = serde_json::Map::new();
        object.insert("@level".into(), word_of(level).to_lowercase().into());
        object.insert("@message".into(), self.message.clone().into());
        object.insert("@module".into(), module(target).into());
        object.insert("@timestamp".into(), now.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string().into());
        for (name, word) in &self.fields {
            let value = match word {
                Word::Text(text) => text.clone().into(),
                Word::Bare(value) => value.clone(),
            };
            object.insert((*name).into(), value);
        }
        format!("{}\n", serde_json::Value::Object(object))
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Word::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Word::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Word::Bare(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Word::Bare(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Word::Bare(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Word::Bare(value.into()));
    }
}

/// The name that operators of Consul look for, from the Rust module that speaks.
pub(super) fn module(target: &str) -> &str {
    const NAMES: &[(&str, &str)] = &[
        ("tribune_http", "agent.http"),
        ("tribune_dns", "agent.dns"),
        ("tribune_raft", "agent.server.raft"),
        ("openraft", "agent.server.raft"),
        ("tribune_local::sync", "agent.anti_entropy"),
        ("tribune_local", "agent"),
        ("tribune_wan", "agent.server.wan"),
        ("tribune_gossip", "agent.gossip"),
        ("tribune_net", "agent.net"),
        ("tribune::leader", "agent.leader"),
        ("tribune", "agent"),
    ];
    let is_inside =
        |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    NAMES.iter().find(|(prefix, _)| is_inside(prefix)).map_or(target, |(_, name)| name)
}

fn word_of(level: Level) -> &'static str {
    match level {
        Level::TRACE => "TRACE",
        Level::DEBUG => "DEBUG",
        Level::INFO => "INFO",
        Level::WARN => "WARN",
        Level::ERROR => "ERROR",
    }
}

fn stamp(now: &Zoned) -> String {
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f");
    if now.offset().is_zero() { format!("{time}Z") } else { format!("{time}{}", now.strftime("%z")) }
}

/// What a client sent must not be able to forge a line of its own.
fn one_line(text: &str) -> String {
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

fn quoted_if_needed(text: &str) -> String {
    let is_plain = !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "=\"".contains(c));
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            message: "member\njoined".to_owned(),
            fields: vec![
                ("node", Word::Text("a b".to_owned())),
                ("dc", Word::Text("dc1".to_owned())),
                ("count", Word::Bare(3.into())),
            ],
        }
    }

    fn noon() -> Zoned {
        "2021-03-01T12:00:00.123+00:00[UTC]".parse().unwrap()
    }

    #[test]
    fn text_lines_have_the_form_of_hclog() {
        assert_eq!(
            words().line(Form::Text, &noon(), Level::INFO, "tribune_dns::handler"),
            "2021-03-01T12:00:00.123Z [INFO]  agent.dns: member\\njoined: node=\"a b\" dc=dc1 count=3\n"
        );
        let abroad: Zoned = "2021-03-01T12:00:00.123+02:00[+02:00]".parse().unwrap();
        assert!(
            words().text(&abroad, Level::ERROR, "x").starts_with("2021-03-01T12:00:00.123+0200 [ERROR] x: ")
        );
    }

    #[test]
    fn json_lines_have_the_keys_of_hclog() {
        let line = words().line(Form::Json, &noon(), Level::WARN, "tribune::leader");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["@level"], "warn");
        assert_eq!(object["@module"], "agent.leader");
        assert_eq!(object["@message"], "member\njoined");
        assert_eq!(object["count"], 3);
        assert_eq!(object["@timestamp"], "2021-03-01T12:00:00.123000+00:00");
    }
}
