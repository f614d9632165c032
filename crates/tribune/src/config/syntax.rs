//! Reads HCL and JSON into a [`Node`] tree.
//!
//! Consul's files are written in the first version of HCL, which allows what the second refuses: several
//! attributes on one line, quoted keys in blocks, JSON inside `.hcl`. This reader takes both versions as far as
//! plain values go; expressions, functions and variables are refused with an explanation. `${…}` in a string is
//! text. JSON is the same grammar with `:` for `=`, after serde_json has found it to be strictly JSON.

use std::sync::Arc;

use super::tree::{Node, Place, Value};

/// How deep lists and blocks may be nested. Real configurations stay below ten; the bound keeps a hostile file
/// from exhausting the stack.
const DEPTH_MAX: usize = 64;

/// Why a text could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SyntaxError {
    /// Where reading stopped.
    pub place: Place,
    /// What is wrong there and what would be right.
    pub message: String,
}

/// How a text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// HCL, first or second version; a text that begins with `{` may be JSON.
    Hcl,
    /// Strict JSON.
    Json,
}

/// Reads a whole text; the result is always a [`Value::Map`]. `source` names it in errors.
pub fn parse(text: &str, source: &str, format: Format) -> Result<Node, SyntaxError> {
    let source: Arc<str> = source.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if format == Format::Json {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| not_json(&source, &error))?;
    }
    let mut reader = Reader { rest: text, source, line: 1, column: 1, format };
    reader.skip_blank()?;
    let place = reader.place();
    let entries = if reader.take('{') { reader.entries('}', 1)? } else { reader.file_body()? };
    reader.skip_blank()?;
    match reader.rest.chars().next() {
        None => Ok(Node { place, value: Value::Map(entries) }),
        Some(found) => Err(reader.error(format!("{found:?} after the end of the configuration"))),
    }
}

fn not_json(source: &Arc<str>, error: &serde_json::Error) -> SyntaxError {
    let (line, column) = (error.line() as u32, error.column() as u32);
    let whole = error.to_string();
    let message = whole.split(" at line ").next().unwrap_or(&whole);
    SyntaxError {
        place: Place { source: source.clone(), line, column },
        message: format!("this is not JSON: {message}"),
    }
}

struct Reader<'a> {
    rest: &'a str,
    source: Arc<str>,
    line: u32,
    column: u32,
    format: Format,
}

impl Reader<'_> {
    fn file_body(&mut self) -> Result<Vec<(String, Node)>, SyntaxError> {
        if self.format == Format::Json {
            return Err(self.error("expected an object: a JSON configuration begins with '{'".to_owned()));
        }
        let mut entries = Vec::new();
        loop {
            self.skip_blank()?;
            if self.rest.is_empty() {
                return Ok(entries);
            }
            entries.push(self.entry(1)?);
            self.skip_blank()?;
            self.take(',');
        }
    }

    /// Entries up to and including `end`.
    fn entries(&mut self, end: char, depth: usize) -> Result<Vec<(String, Node)>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            self.skip_blank()?;
            if self.take(end) {
                return Ok(entries);
            }
            if self.rest.is_empty() {
                return Err(self.error("the file ends inside a block: a '}' is missing".to_owned()));
            }
            entries.push(self.entry(depth)?);
            self.skip_blank()?;
            self.take(',');
        }
    }

    /// `key = value`, `key: value`, `key { … }` or `key "label" { … }`, which means `key { label { … } }`.
    fn entry(&mut self, depth: usize) -> Result<(String, Node), SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("blocks are nested more than {DEPTH_MAX} deep")));
        }
        let place = self.place();
        let key = self.key()?;
        self.skip_blank()?;
        let value = if self.take('=') || self.take(':') {
            self.skip_blank()?;
            self.value(depth)?.value
        } else if self.take('{') {
            Value::Map(self.entries('}', depth + 1)?)
        } else if self.rest.starts_with('"') {
            Value::Map(vec![self.entry(depth + 1)?])
        } else {
            return Err(self.error(format!("expected '=' or '{{' after the key {key:?}")));
        };
        Ok((key, Node { place, value }))
    }

    fn key(&mut self) -> Result<String, SyntaxError> {
        if self.rest.starts_with('"') {
            return self.string();
        }
        let word = self.word();
        if word.is_empty() {
            let found = self.rest.chars().next().unwrap_or(' ');
            return Err(self.error(format!("expected a key, found {found:?}")));
        }
        Ok(word)
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("lists are nested more than {DEPTH_MAX} deep")));
        }
        let place = self.place();
        let value = match self.rest.chars().next() {
            Some('"') => Value::Text(self.string()?),
            Some('[') => Value::List(self.list(depth)?),
            Some('{') => {
                self.take('{');
                Value::Map(self.entries('}', depth + 1)?)
            }
            Some('<') if self.rest.starts_with("<<") => Value::Text(self.heredoc()?),
            Some(first) if first == '-' || first.is_ascii_digit() => Value::Number(self.number()?),
            Some(_) => self.bare_word()?,
            None => return Err(self.error("the file ends where a value is expected".to_owned())),
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        self.take('[');
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.take(']') {
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank()?;
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err(self.error("expected ',' or ']' in a list".to_owned()));
            }
        }
    }

    fn bare_word(&mut self) -> Result<Value, SyntaxError> {
        let start = self.place();
        let word = self.word();
        match word.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            "" => {
                let found = self.rest.chars().next().unwrap_or(' ');
                Err(self.error(format!("expected a value, found {found:?}")))
            }
            _ => Err(SyntaxError {
                place: start,
                message: format!(
                    "{word} is not a value: strings stand in quotes (\"{word}\"), and there are no variables or \
                     functions in a configuration"
                ),
            }),
        }
    }

    fn number(&mut self) -> Result<serde_json::Number, SyntaxError> {
        let start = self.place();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let text = &self.rest[..end.unwrap_or(self.rest.len())];
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => i64::from_str_radix(hex, 16).ok().map(|it| (sign * it).into()),
            None => text.parse().ok(),
        };
        let number = number.ok_or_else(|| SyntaxError {
            place: start,
            message: format!("{text} is not a number; a duration or an address stands in quotes"),
        })?;
        self.skip(text.len());
        Ok(number)
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.place();
        self.take('"');
        let mut text = String::new();
        let mut interpolations = 0_usize;
        loop {
            let Some(next) = self.next() else {
                return Err(SyntaxError { place: start, message: "this string has no end".to_owned() });
            };
            match next {
                '"' if interpolations == 0 => return Ok(text),
                '\n' if interpolations == 0 => {
                    let message = "this string has no end on its line; use <<EOF for several lines";
                    return Err(SyntaxError { place: start, message: message.to_owned() });
                }
                '\\' if interpolations == 0 => text.push(self.escape()?),
                '$' if self.format == Format::Hcl && self.rest.starts_with('{') => {
                    self.skip(1);
                    text.push_str("${");
                    interpolations += 1;
                }
                other => {
                    match other {
                        '{' if interpolations > 0 => interpolations += 1,
                        '}' => interpolations = interpolations.saturating_sub(1),
                        _ => {}
                    }
                    text.push(other);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let place = self.place();
        let code = match self.next() {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some('b') => return Ok('\u{8}'),
            Some('f') => return Ok('\u{c}'),
            Some('a') => return Ok('\u{7}'),
            Some('v') => return Ok('\u{b}'),
            Some(same @ ('"' | '\\' | '/')) => return Ok(same),
            Some('x') => self.hex(2),
            Some('u') => self.unicode(),
            Some('U') => self.hex(8),
            _ => None,
        };
        code.and_then(char::from_u32).ok_or_else(|| SyntaxError {
            place,
            message: "unknown escape; a backslash itself is written \\\\".to_owned(),
        })
    }

    /// Four hex digits, or two groups of them that form one character (as JSON writes those beyond U+FFFF).
    fn unicode(&mut self) -> Option<u32> {
        let high = self.hex(4)?;
        if !(0xD800..0xDC00).contains(&high) {
            return Some(high);
        }
        if !self.rest.starts_with("\\u") {
            return None;
        }
        self.skip(2);
        let low = self.hex(4)?;
        (0xDC00..0xE000).contains(&low).then(|| 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.rest.get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let code = u32::from_str_radix(text, 16).ok()?;
        self.skip(digits);
        Some(code)
    }

    /// `<<EOF` or `<<-EOF`, which takes the common indentation away.
    fn heredoc(&mut self) -> Result<String, SyntaxError> {
        let start = self.place();
        self.skip(2);
        let is_indented = self.take('-');
        let marker = self.word();
        let mut lines = Vec::new();
        self.take('\r');
        if marker.is_empty() || !self.take('\n') {
            let message = "expected a word and a line break after <<, as in <<EOF";
            return Err(SyntaxError { place: start, message: message.to_owned() });
        }
        loop {
            if self.rest.is_empty() {
                let message =
                    format!("the text begun by <<{marker} has no end; put {marker} on its own line");
                return Err(SyntaxError { place: start, message });
            }
            let line = self.rest.split('\n').next().unwrap_or_default();
            if line.trim() == marker {
                let length = line.len();
                self.skip(length);
                break;
            }
            let (length, line) = (line.len(), line.trim_end_matches('\r').to_owned());
            self.skip(length);
            self.take('\n');
            lines.push(line);
        }
        let indent = if is_indented { common_indent(&lines) } else { 0 };
        Ok(lines.iter().map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect())
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
        let word = self.rest[..end.unwrap_or(self.rest.len())].to_owned();
        self.skip(word.len());
        word
    }

    /// Skips white space and comments (`#`, `//`, `/* */`).
    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.skip(blank);
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.skip(end);
            } else if self.rest.starts_with("/*") {
                let Some(end) = self.rest.find("*/") else {
                    return Err(self.error("this comment has no end; put */ behind it".to_owned()));
                };
                self.skip(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            self.skip(expected.len_utf8());
        }
        found
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.skip(next.len_utf8());
        Some(next)
    }

    /// Moves on by so many bytes, keeping count of lines and columns.
    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        for char in skipped.chars() {
            if char == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
    }

    fn place(&self) -> Place {
        Place { source: self.source.clone(), line: self.line, column: self.column }
    }

    fn error(&self, message: String) -> SyntaxError {
        SyntaxError { place: self.place(), message }
    }
}

fn common_indent(lines: &[String]) -> usize {
    let indents = lines.iter().filter(|line| !line.trim().is_empty());
    indents.map(|line| line.len() - line.trim_start_matches([' ', '\t']).len()).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: serde_json::Value) {
        assert_eq!(parse(text, "x.hcl", Format::Hcl).unwrap().to_json(), expected, "{text}");
    }

    fn refuse(text: &str, format: Format, expected: &str) {
        let error = parse(text, "x", format).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }

    #[test]
    fn hcl_of_both_versions_is_read() {
        check("a = 1\nb = \"x\" # c\nc = true // d", json!({"a": 1, "b": "x", "c": true}));
        check("ports { http = 1 dns = -1 }", json!({"ports": {"http": 1, "dns": -1}}));
        check("ports = { http = 1, dns = 2 }", json!({"ports": {"http": 1, "dns": 2}}));
        check("h { \"X-Foo\" = [\"a\", \"b\",] }", json!({"h": {"X-Foo": ["a", "b"]}}));
        check("t \"lan\" { port = 0x10 }", json!({"t": {"lan": {"port": 16}}}));
        check("{\"a\": {\"b\": [1.5, null]}}", json!({"a": {"b": [1.5, null]}}));
        check("/* x\n */ a = \"${v(\"q\")}\\n\\u00e4\"", json!({"a": "${v(\"q\")}\nä"}));
        check("a = <<-EOF\n    x\n      y\n    EOF\nb = 1", json!({"a": "x\n  y\n", "b": 1}));
        check("", json!({}));
    }

    #[test]
    fn json_is_read_with_all_its_escapes() {
        let node = parse(r#"{"a": "\ud83d\ude00\/ ${x", "b": -1e3}"#, "x", Format::Json).unwrap();
        assert_eq!(node.to_json(), json!({"a": "😀/ ${x", "b": -1000.0}));
    }

    #[test]
    fn what_cannot_be_read_is_explained_with_its_place() {
        refuse("a = 1\nb = web", Format::Hcl, "x:2:5: web is not a value: strings stand in quotes");
        refuse("a = 10s", Format::Hcl, "x:1:5: 10s is not a number; a duration");
        refuse("a {\n b = 1", Format::Hcl, "x:2:7: the file ends inside a block");
        refuse("a = \"x\ny\"", Format::Hcl, "x:1:5: this string has no end on its line");
        refuse("a = \"\\q\"", Format::Hcl, "unknown escape");
        refuse("a", Format::Hcl, "expected '=' or '{' after the key \"a\"");
        refuse("a = [1 2]", Format::Hcl, "expected ',' or ']'");
        refuse("{\"a\": 1} b", Format::Hcl, "after the end");
        refuse("{\"a\": 1,}", Format::Json, "x:1:9: this is not JSON: key must be");
        refuse("[]", Format::Json, "begins with '{'");
        refuse("/* x", Format::Hcl, "comment has no end");
        refuse("a = <<EOF\nx", Format::Hcl, "has no end");
    }

    #[test]
    fn no_text_however_deep_exhausts_the_stack() {
        refuse(&format!("a = {}", "[".repeat(100_000)), Format::Hcl, "nested more than 64");
        refuse(&"a { ".repeat(100_000), Format::Hcl, "nested more than 64");
        refuse(&format!("a {}", "\"x\" ".repeat(100_000)), Format::Hcl, "nested more than 64");
    }
}
