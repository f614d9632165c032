//! The filter language: boolean expressions over the fields of listed things.
//!
//! An [`Expression`] is what was written; a [`Filter`] is an expression that was checked against the fields of one
//! kind of thing ([`Fields`]) and can be put to any number of them. A selector that leads through a list of
//! objects holds if it holds for any of them. A key that a map does not have equals nothing, is contained in
//! nothing and matches nothing.

mod parse;
mod token;

use std::fmt;

use regex::{Regex, RegexBuilder};
use smol_str::SmolStr;

use crate::model::Pairs;

pub use parse::{DEPTH_MAX, SyntaxError, TEXT_BYTES_MAX};

/// Most memory that one compiled regular expression may take, in bytes. Enough for long alternatives of words,
/// too little for repetitions that multiply.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// An expression as it was written, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Holds if any of these does; at least two.
    Any(Vec<Expression>),
    /// Holds if all of these do; at least two.
    All(Vec<Expression>),
    /// Holds if this does not.
    Not(Box<Expression>),
    /// A test of one field.
    Match(Match),
}

/// A test of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The field.
    pub selector: Selector,
    /// The test.
    pub test: Test,
    /// Whether it holds when the test fails.
    pub negated: bool,
}

/// The way to a field: names and keys, from the outermost on; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Box<[SmolStr]>);

/// What is asked of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is this value.
    Equals(String),
    /// It is a list with this element, a map with this key or a text with this part.
    Contains(String),
    /// It is a text that this regular expression finds something in.
    Matches(String),
    /// It has no elements.
    Empty,
}

/// A field by name and kind.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, exactly.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A truth value.
    Bool,
    /// A list of texts.
    List,
    /// A map from texts to texts.
    Map,
    /// An object with these fields.
    Object(&'static [Field]),
    /// A list of objects with these fields.
    Objects(&'static [Field]),
    /// A map from texts to objects with these fields.
    Table(&'static [Field]),
}

/// What a selector leads to in one thing.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Bool(bool),
    /// A list of texts.
    List(&'a [SmolStr]),
    /// A map, of which only the keys are asked for.
    Keys(&'a dyn Keys),
    /// A list of objects, of which only the number is asked for.
    Objects(usize),
    /// A map does not have the key.
    Missing,
}

/// The keys of a map.
pub trait Keys {
    /// Whether there are none.
    fn is_empty(&self) -> bool;
    /// Whether this is one of them.
    fn has(&self, key: &str) -> bool;
}

impl<V> Keys for Pairs<V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

/// Something that filters can be put to.
pub trait Fields {
    /// Its fields.
    const FIELDS: &'static [Field];

    /// Shows the probe every value that the path leads to, in order, until it says yes to one; gives whether it
    /// did. Filters pass only paths that [`Fields::FIELDS`] allows.
    fn any(&self, path: &[SmolStr], probe: &mut dyn FnMut(Value<'_>) -> bool) -> bool;
}

/// Why a text is no filter for a kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It has not the form of an expression.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// There is no such field.
    #[error("Selector \"{0}\" is not valid")]
    UnknownSelector(String),
    /// The field cannot be tested in this way.
    #[error("Invalid match operator \"{operator}\" for selector \"{selector}\"")]
    WrongOperator {
        /// The test.
        operator: &'static str,
        /// The field.
        selector: String,
    },
    /// The value is not of the field's kind.
    #[error("Failed to coerce value \"{value}\" for selector \"{selector}\": it must be {wanted}")]
    WrongValue {
        /// The value.
        value: String,
        /// The field.
        selector: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The regular expression is malformed or too large.
    #[error("Failed to compile regular expression \"{pattern}\": {reason}")]
    Regex {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An expression ready to be put to one kind of thing.
#[derive(Debug, Clone)]
pub struct Filter(Checked);

#[derive(Debug, Clone)]
enum Checked {
    Any(Vec<Checked>),
    All(Vec<Checked>),
    Not(Box<Checked>),
    Match { path: Box<[SmolStr]>, question: Question, negated: bool },
}

#[derive(Debug, Clone)]
enum Question {
    Text(String),
    Number(i64),
    Bool(bool),
    Contains(String),
    Matches(Regex),
    Empty,
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parse::parse(text)
    }
}

impl Selector {
    /// The names and keys.
    pub fn path(&self) -> &[SmolStr] {
        &self.0
    }

    /// The kind of the field, if there is one. A key of a map is a text.
    fn resolve(&self, fields: &'static [Field]) -> Option<Kind> {
        let mut kind = Kind::Object(fields);
        for name in &self.0 {
            kind = match kind {
                Kind::Object(fields) | Kind::Objects(fields) => {
                    fields.iter().find(|field| field.name == name)?.kind
                }
                Kind::Map => Kind::Text,
                Kind::Table(fields) => Kind::Object(fields),
                Kind::Text | Kind::Number | Kind::Bool | Kind::List => return None,
            };
        }
        Some(kind)
    }
}

impl Test {
    fn name(&self, negated: bool) -> &'static str {
        match (self, negated) {
            (Self::Equals(_), false) => "Equal",
            (Self::Equals(_), true) => "Not Equal",
            (Self::Contains(_), false) => "In",
            (Self::Contains(_), true) => "Not In",
            (Self::Matches(_), false) => "Matches",
            (Self::Matches(_), true) => "Not Matches",
            (Self::Empty, false) => "Is Empty",
            (Self::Empty, true) => "Is Not Empty",
        }
    }
}

impl Filter {
    /// Reads an expression and checks it against the fields of `T`.
    pub fn compile<T: Fields>(text: &str) -> Result<Self, FilterError> {
        check(&Expression::parse(text)?, T::FIELDS).map(Self)
    }

    /// Whether the expression holds for a thing of the kind it was compiled for.
    pub fn matches<T: Fields>(&self, thing: &T) -> bool {
        self.0.holds(thing)
    }
}

fn check(expression: &Expression, fields: &'static [Field]) -> Result<Checked, FilterError> {
    let all =
        |terms: &[Expression]| terms.iter().map(|term| check(term, fields)).collect::<Result<Vec<_>, _>>();
    Ok(match expression {
        Expression::Any(terms) => Checked::Any(all(terms)?),
        Expression::All(terms) => Checked::All(all(terms)?),
        Expression::Not(term) => Checked::Not(Box::new(check(term, fields)?)),
        Expression::Match(found) => {
            let question = question(found, fields)?;
            Checked::Match { path: found.selector.0.clone(), question, negated: found.negated }
        }
    })
}

fn question(found: &Match, fields: &'static [Field]) -> Result<Question, FilterError> {
    let selector = || found.selector.to_string();
    let kind = found.selector.resolve(fields).ok_or_else(|| FilterError::UnknownSelector(selector()))?;
    let wrong_value = |value: &String, wanted| FilterError::WrongValue {
        value: value.clone(),
        selector: selector(),
        wanted,
    };
    match (&found.test, kind) {
        (Test::Equals(value), Kind::Text) => Ok(Question::Text(value.clone())),
        (Test::Equals(value), Kind::Number) => {
            value.parse().map(Question::Number).map_err(|_| wrong_value(value, "a whole number"))
        }
        (Test::Equals(value), Kind::Bool) => {
            truth(value).map(Question::Bool).ok_or_else(|| wrong_value(value, "true or false"))
        }
        (Test::Contains(value), Kind::Text | Kind::List | Kind::Map | Kind::Table(_)) => {
            Ok(Question::Contains(value.clone()))
        }
        (Test::Matches(pattern), Kind::Text) => regex(pattern).map(Question::Matches),
        (Test::Empty, Kind::Text | Kind::List | Kind::Map | Kind::Table(_) | Kind::Objects(_)) => {
            Ok(Question::Empty)
        }
        (test, _) => {
            Err(FilterError::WrongOperator { operator: test.name(found.negated), selector: selector() })
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn regex(pattern: &str) -> Result<Regex, FilterError> {
    let built =
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| {
        let reason = match error {
            regex::Error::CompiledTooBig(_) => format!("it needs more than {REGEX_BYTES_MAX} bytes"),
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        };
        FilterError::Regex { pattern: pattern.to_owned(), reason }
    })
}

impl Checked {
    fn holds<T: Fields>(&self, thing: &T) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.holds(thing)),
            Self::All(terms) => terms.iter().all(|term| term.holds(thing)),
            Self::Not(term) => !term.holds(thing),
            Self::Match { path, question, negated } => {
                thing.any(path, &mut |value| question.yes(value) != *negated)
            }
        }
    }
}

impl Question {
    fn yes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(wanted), Value::Text(text)) => text == wanted,
            (Self::Number(wanted), Value::Number(number)) => number == *wanted,
            (Self::Bool(wanted), Value::Bool(flag)) => flag == *wanted,
            (Self::Contains(part), Value::Text(text)) => text.contains(part.as_str()),
            (Self::Contains(element), Value::List(list)) => list.iter().any(|one| one == element),
            (Self::Contains(key), Value::Keys(keys)) => keys.has(key),
            (Self::Matches(regex), Value::Text(text)) => regex.is_match(text),
            (Self::Empty, Value::Text(text)) => text.is_empty(),
            (Self::Empty, Value::List(list)) => list.is_empty(),
            (Self::Empty, Value::Keys(keys)) => keys.is_empty(),
            (Self::Empty, Value::Objects(count)) => count == 0,
            (Self::Empty, Value::Missing) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(terms) => join(f, terms, " or ", |term| matches!(term, Self::Any(_))),
            Self::All(terms) => join(f, terms, " and ", |term| matches!(term, Self::Any(_) | Self::All(_))),
            Self::Not(term) => match **term {
                Self::Any(_) | Self::All(_) => write!(f, "not ({term})"),
                Self::Not(_) | Self::Match(_) => write!(f, "not {term}"),
            },
            Self::Match(found) => found.fmt(f),
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    terms: &[Expression],
    word: &str,
    binds_weaker: fn(&Expression) -> bool,
) -> fmt::Result {
    for (at, term) in terms.iter().enumerate() {
        if at > 0 {
            f.write_str(word)?;
        }
        if binds_weaker(term) {
            write!(f, "({term})")?;
        } else {
            write!(f, "{term}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { selector, test, negated } = self;
        let not = if *negated { "not " } else { "" };
        match test {
            Test::Equals(value) => {
                write!(f, "{selector} {} {}", if *negated { "!=" } else { "==" }, Quoted(value))
            }
            Test::Contains(value) => write!(f, "{} {not}in {selector}", Quoted(value)),
            Test::Matches(pattern) => write!(f, "{selector} {not}matches {}", Quoted(pattern)),
            Test::Empty => write!(f, "{selector} is {not}empty"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            match at {
                0 => f.write_str(part)?,
                _ if token::is_word(part) => write!(f, ".{part}")?,
                _ => write!(f, "[{}]", Quoted(part))?,
            }
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
