//! JSON as Go writes it: `<`, `>`, `&` and the line separators U+2028 and U+2029 escaped, short numbers, compact
//! or indented by four blanks with a line feed at the end.
//!
//! Everything is written straight into one buffer; no tree is built on the way.

use std::fmt::Display;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};

use crate::error::ApiError;

/// How the text is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// No blanks, no line feed: what programs get.
    #[default]
    Compact,
    /// Indented by four blanks and ended by a line feed: `?pretty`, and always in development mode.
    Pretty,
}

/// One value as JSON text.
pub fn to_vec<T: Serialize + ?Sized>(value: &T, layout: Layout) -> Result<Vec<u8>, ApiError> {
    render(layout, Value(value))
}

/// The items as a JSON list, written one after the other; `[]` when there are none.
pub fn list<I>(items: I, layout: Layout) -> Result<Vec<u8>, ApiError>
where
    I: IntoIterator,
    I::Item: Serialize,
{
    render(layout, List(items))
}

/// The pairs as a JSON object in the order given; `{}` when there are none. Go writes maps in the order of their
/// keys, so callers pass them in that order.
pub fn object<I, K, V>(pairs: I, layout: Layout) -> Result<Vec<u8>, ApiError>
where
    I: IntoIterator<Item = (K, V)>,
    K: Serialize,
    V: Serialize,
{
    render(layout, Object(pairs))
}

/// Something that can be written once with either formatter.
trait Body {
    fn write<F: Formatter>(self, out: &mut serde_json::Serializer<&mut Vec<u8>, F>)
    -> serde_json::Result<()>;
}

struct Value<'a, T: ?Sized>(&'a T);
struct List<I>(I);
struct Object<I>(I);

impl<T: Serialize + ?Sized> Body for Value<'_, T> {
    fn write<F: Formatter>(
        self,
        out: &mut serde_json::Serializer<&mut Vec<u8>, F>,
    ) -> serde_json::Result<()> {
        self.0.serialize(out)
    }
}

impl<I: IntoIterator<Item: Serialize>> Body for List<I> {
    fn write<F: Formatter>(
        self,
        out: &mut serde_json::Serializer<&mut Vec<u8>, F>,
    ) -> serde_json::Result<()> {
        out.collect_seq(self.0)
    }
}

impl<K: Serialize, V: Serialize, I: IntoIterator<Item = (K, V)>> Body for Object<I> {
    fn write<F: Formatter>(
        self,
        out: &mut serde_json::Serializer<&mut Vec<u8>, F>,
    ) -> serde_json::Result<()> {
        out.collect_map(self.0)
    }
}

fn render(layout: Layout, body: impl Body) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::new();
    let written = match layout {
        Layout::Compact => {
            body.write(&mut serde_json::Serializer::with_formatter(&mut out, Go(CompactFormatter)))
        }
        Layout::Pretty => {
            let indented = Go(PrettyFormatter::with_indent(b"    "));
            body.write(&mut serde_json::Serializer::with_formatter(&mut out, indented))
        }
    };
    written
        .map_err(|error| ApiError::server("the answer could not be written as JSON").with_detail(error))?;
    if layout == Layout::Pretty {
        out.push(b'\n');
    }
    Ok(out)
}

/// Go's spelling on top of another formatter's layout.
struct Go<F>(F);

macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        }
    )*};
}

impl<F: Formatter> Formatter for Go<F> {
    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut start = 0;
        let mut at = 0;
        while let Some(offset) =
            bytes[at..].iter().position(|&byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2))
        {
            at += offset;
            let (escape, width): (&[u8], usize) = match &bytes[at..] {
                [b'<', ..] => (b"\\u003c", 1),
                [b'>', ..] => (b"\\u003e", 1),
                [b'&', ..] => (b"\\u0026", 1),
                [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
                [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
                _ => {
                    at += 1;
                    continue;
                }
            };
            writer.write_all(&bytes[start..at])?;
            writer.write_all(escape)?;
            at += width;
            start = at;
        }
        writer.write_all(&bytes[start..])
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            other => self.0.write_char_escape(writer, other),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let magnitude = value.abs();
        if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
            let text = format!("{value:e}");
            return writer.write_all(text.replace("e", if magnitude < 1.0 { "e" } else { "e+" }).as_bytes());
        }
        write!(writer, "{value}")
    }
}

/// A list that is written from an iterator made anew each time it is asked for.
pub(crate) struct Seq<F>(pub(crate) F);

impl<F, I> Serialize for Seq<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// An object that is written from an iterator made anew each time it is asked for.
pub(crate) struct Map<F>(pub(crate) F);

impl<F, I, K, V> Serialize for Map<F>
where
    F: Fn() -> I,
    I: Iterator<Item = (K, V)>,
    K: Serialize,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map((self.0)())
    }
}

/// Anything that prints itself, as a JSON string.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact<T: Serialize + ?Sized>(value: &T) -> String {
        String::from_utf8(to_vec(value, Layout::Compact).unwrap()).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(compact("<a&b>"), r#""\u003ca\u0026b\u003e""#);
        assert_eq!(compact("\u{2028}€\u{2029}é"), "\"\\u2028€\\u2029é\"");
        assert_eq!(compact("\u{8}\u{c}\n\t\"\\\u{1}\u{7f}"), "\"\\u0008\\u000c\\n\\t\\\"\\\\\\u0001\u{7f}\"");
    }

    #[test]
    fn numbers_are_as_short_as_gos() {
        assert_eq!(compact(&[0.0, 1.0, 1.5, 0.00001, -2.25]), "[0,1,1.5,0.00001,-2.25]");
        assert_eq!(
            compact(&[1e-7, 1e21, 1.797e308, -1e20]),
            "[1e-7,1e+21,1.797e+308,-100000000000000000000]"
        );
    }

    #[test]
    fn pretty_is_four_blanks_and_a_line_feed() {
        let text = list([vec![1, 2], vec![]], Layout::Pretty).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "[\n    [\n        1,\n        2\n    ],\n    []\n]\n");
        let text = object([("a", 1)], Layout::Pretty).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "{\n    \"a\": 1\n}\n");
    }
}
