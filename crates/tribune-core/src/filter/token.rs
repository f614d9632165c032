//! Splitting a filter expression into words, numbers, strings and signs, each with its place in the text.

use std::ops::Range;

use winnow::Parser;
use winnow::ascii::digit1;
use winnow::combinator::{alt, delimited, not, opt, preceded, repeat};
use winnow::error::ContextError;
use winnow::token::{any, one_of, take_till, take_while};

/// A token and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) span: Range<usize>,
}

/// The smallest piece of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// An identifier or keyword.
    Word(String),
    /// A number, as written.
    Number(String),
    /// What a quoted string stands for.
    Quoted(String),
    /// One of `( ) [ ] . == !=`.
    Sign(&'static str),
}

/// All tokens of a text, or the place from which on there are none.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, usize> {
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(tokens);
        }
        let start = text.len() - rest.len();
        let token = token.parse_next(&mut rest).map_err(|_| start)?;
        tokens.push(Placed { token, span: start..text.len() - rest.len() });
    }
}

type Parsed<T> = Result<T, ContextError>;

fn token(input: &mut &str) -> Parsed<Token> {
    alt((
        word.map(Token::Word),
        number.map(Token::Number),
        double_quoted.map(Token::Quoted),
        raw.map(Token::Quoted),
        alt(("(", ")", "[", "]", ".", "==", "!=")).map(sign),
    ))
    .parse_next(input)
}

fn sign(text: &str) -> Token {
    Token::Sign(match text {
        "(" => "(",
        ")" => ")",
        "[" => "[",
        "]" => "]",
        "." => ".",
        "==" => "==",
        _ => "!=",
    })
}

/// Whether a text can stand without quotes as part of a selector.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(word_part)
}

fn word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '/')
}

fn word(input: &mut &str) -> Parsed<String> {
    (one_of(|c: char| c.is_ascii_alphabetic()), take_while(0.., word_part))
        .take()
        .map(str::to_owned)
        .parse_next(input)
}

fn number(input: &mut &str) -> Parsed<String> {
    let whole = digit1.verify(|digits: &str| digits == "0" || !digits.starts_with('0'));
    let digits = (opt('-'), whole, opt(('.', digit1))).take();
    let end = not(one_of(word_part));
    (digits, end).map(|(digits, ()): (&str, ())| digits.to_owned()).parse_next(input)
}

fn raw(input: &mut &str) -> Parsed<String> {
    delimited('`', take_till(0.., '`'), '`').map(str::to_owned).parse_next(input)
}

fn double_quoted(input: &mut &str) -> Parsed<String> {
    let plain = take_till(1.., ['"', '\\']).map(str::to_owned);
    let piece = alt((plain, preceded('\\', escape).map(String::from)));
    let text = repeat(0.., piece).fold(String::new, |mut text, piece: String| {
        text.push_str(&piece);
        text
    });
    delimited('"', text, '"').parse_next(input)
}

/// What follows a backslash, as in Go.
fn escape(input: &mut &str) -> Parsed<char> {
    any.flat_map(|kind: char| {
        move |input: &mut &str| match kind {
            'a' => Ok('\u{7}'),
            'b' => Ok('\u{8}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\u{b}'),
            '"' | '\\' => Ok(kind),
            'x' => hex(2, input),
            'u' => hex(4, input),
            'U' => hex(8, input),
            _ => Err(ContextError::new()),
        }
    })
    .parse_next(input)
}

fn hex(digits: usize, input: &mut &str) -> Parsed<char> {
    take_while(digits, |c: char| c.is_ascii_hexdigit())
        .verify_map(|text| u32::from_str_radix(text, 16).ok().and_then(char::from_u32))
        .parse_next(input)
}
