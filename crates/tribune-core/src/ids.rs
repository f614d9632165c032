//! Names and identifiers as validated newtypes: built once at the edge, trusted inside.
//!
//! Consul's users name things freely (dots, underscores, any letter case), so the rules here refuse only what
//! could not be sent back to them: empty names, names beyond [`NAME_BYTES_MAX`] and control characters.
//! Names keep the case they were written in and are looked up without it: maps are keyed by [`Folded`].

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest name of a node, service, instance or check, in bytes. A DNS name holds 255; twice that leaves room
/// for generated check ids (`service:<id>:<n>`) and still bounds what one entry can cost.
pub const NAME_BYTES_MAX: usize = 512;

/// Why a name was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is the empty string.
    #[error("a name must not be empty")]
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`] bytes.
    #[error("a name of {0} bytes is longer than {NAME_BYTES_MAX} bytes")]
    TooLong(usize),
    /// The name holds an ASCII control character.
    #[error("a name must not hold control characters")]
    ControlCharacter,
}

/// A name with its letter case folded away: the form under which things are stored and looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Folded(SmolStr);

impl Folded {
    /// Folds any text. Cheap for text that is lower case already and at most 23 bytes long.
    pub fn new(text: &str) -> Self {
        let lower = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
        if text.bytes().all(lower) {
            Self(SmolStr::new(text))
        } else {
            Self(SmolStr::from(text.to_lowercase()))
        }
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Folded {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! name_types {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// Validates a name.
            pub fn new(text: impl Into<SmolStr>) -> Result<Self, InvalidName> {
                let text = text.into();
                validate(&text)?;
                Ok(Self(text))
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name without letter case; shares memory with the name when it is lower case already.
            pub fn folded(&self) -> Folded {
                let lower = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
                if self.0.bytes().all(lower) { Folded(self.0.clone()) } else { Folded::new(&self.0) }
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = InvalidName;
            fn try_from(text: SmolStr) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

name_types! {
    /// The name of a node: unique in its datacenter, without regard to case.
    NodeName;
    /// The name that clients look a service up by.
    ServiceName;
    /// One instance of a service; unique on its node.
    InstanceId;
    /// One check; unique on its node, whether it belongs to the node or to one of its instances.
    CheckId;
    /// The name of a datacenter, always lower case.
    Datacenter;
}

fn validate(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(InvalidName::ControlCharacter);
    }
    Ok(())
}

/// A position in the datacenter's log; the value of `X-Consul-Index`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub u64);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_case_and_fold_for_lookup() {
        let name = ServiceName::new("Web-API").unwrap();
        assert_eq!(name.as_str(), "Web-API");
        assert_eq!(name.folded(), Folded::new("wEB-api"));
        assert_eq!(Folded::new("ÄPFEL").as_str(), "äpfel");
    }

    #[test]
    fn unusable_names_are_refused_with_a_reason() {
        assert_eq!(NodeName::new(""), Err(InvalidName::Empty));
        assert_eq!(NodeName::new("a\nb"), Err(InvalidName::ControlCharacter));
        assert_eq!(NodeName::new("x".repeat(513)), Err(InvalidName::TooLong(513)));
        assert!(NodeName::new("x".repeat(512)).is_ok());
    }
}
