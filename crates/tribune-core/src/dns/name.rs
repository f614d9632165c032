//! Domain names in wire form: length-prefixed labels and a closing zero, compared without letter case.

use std::fmt;

/// Longest name in wire form, the closing zero included (RFC 1035, 2.3.4).
pub const NAME_WIRE_BYTES_MAX: usize = 255;
/// Longest label (RFC 1035, 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A fully qualified domain name; keeps the letter case it was written in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The name made of these labels; `None` when one is empty or longer than 63 bytes, or all are too long
    /// together.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        (wire.len() <= NAME_WIRE_BYTES_MAX).then(|| Self(wire.into_boxed_slice()))
    }

    /// Reads `a.b.c` with or without a closing dot; a lone dot is the root.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Self::from_labels([]);
        }
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// Takes a name in wire form; `None` unless it is exactly one well-formed name without compression.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut at = 0;
        while let Some(length) = wire.get(at).copied().map(usize::from) {
            if length == 0 {
                let whole = at + 1 == wire.len() && wire.len() <= NAME_WIRE_BYTES_MAX;
                return whole.then(|| Self(wire.into()));
            }
            if length > LABEL_BYTES_MAX {
                return None;
            }
            at += 1 + length;
        }
        None
    }

    /// The name in wire form.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let length = usize::from(*rest.first()?);
            if length == 0 {
                return None;
            }
            let label = rest.get(1..=length)?;
            rest = &rest[length + 1..];
            Some(label)
        })
    }

    /// The name in lower case.
    pub fn folded(&self) -> Self {
        // Length bytes are at most 63 and so are never taken for letters.
        Self(self.0.to_ascii_lowercase().into_boxed_slice())
    }

    /// Whether both are the same name.
    pub fn same_as(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// The labels to the left of `zone` when this name is inside it or is it.
    pub fn labels_within(&self, zone: &Name) -> Option<Vec<&[u8]>> {
        let labels: Vec<&[u8]> = self.labels().collect();
        let suffix: Vec<&[u8]> = zone.labels().collect();
        let cut = labels.len().checked_sub(suffix.len())?;
        let inside = labels[cut..].iter().zip(&suffix).all(|(a, b)| a.eq_ignore_ascii_case(b));
        inside.then(|| labels[..cut].to_vec())
    }

    /// `labels` put in front of this name.
    pub fn under<'a>(&'a self, labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        Self::from_labels(labels.into_iter().chain(self.labels()))
    }
}

impl fmt::Display for Name {
    /// Presentation form with a closing dot; what could be mistaken is escaped as in zone files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        let name = Name::parse("Web.service.consul").unwrap();
        assert_eq!(name.to_string(), "Web.service.consul.");
        assert_eq!(Name::from_wire(name.as_wire()), Some(name.clone()));
        assert!(name.same_as(&Name::parse("wEB.SERVICE.consul.").unwrap()));
        assert_eq!(Name::parse(".").unwrap().to_string(), ".");
    }

    #[test]
    fn malformed_names_are_none() {
        assert_eq!(Name::parse("a..b"), None);
        assert_eq!(Name::parse(&"x".repeat(64)), None);
        assert_eq!(Name::parse(&vec!["x".repeat(60); 5].join(".")), None);
        for wire in [&b""[..], b"\x03ab", b"\x01a", b"\x00\x00", b"\xc0\x0c"] {
            assert_eq!(Name::from_wire(wire), None);
        }
    }

    #[test]
    fn labels_within_a_zone() {
        let zone = Name::parse("consul").unwrap();
        let name = Name::parse("web.service.CONSUL").unwrap();
        assert_eq!(name.labels_within(&zone), Some(vec![&b"web"[..], b"service"]));
        assert_eq!(zone.labels_within(&zone), Some(vec![]));
        assert_eq!(Name::parse("notconsul").unwrap().labels_within(&zone), None);
    }
}
