//! One key of the key/value store.

use super::Model;

/// A key that is read, written, compared and swapped, and deleted. Every write brings another value.
#[derive(Debug)]
pub enum Kv {}

/// A call on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvCall {
    /// The value and its ModifyIndex, if the key is there.
    Read(Option<(u32, u64)>),
    /// A plain write.
    Put(u32),
    /// A write if the ModifyIndex is `expected`, 0 for a key that is not there.
    Swap {
        /// The index that it must have.
        expected: u64,
        /// The new value.
        value: u32,
        /// Whether it was written; absent when nobody knows.
        done: Option<bool>,
    },
    /// A plain deletion.
    Delete,
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    value: Option<u32>,
    /// The ModifyIndex.
    index: u64,
    /// Whether the ModifyIndex has been seen; until then it is only known to be higher than `index`.
    exact: bool,
}

impl Model for Kv {
    type State = Key;
    type Call = KvCall;

    fn initial() -> Key {
        Key { value: None, index: 0, exact: false }
    }

    fn apply(key: &Key, call: &KvCall) -> Option<Key> {
        match *call {
            KvCall::Read(None) => key.value.is_none().then_some(*key),
            KvCall::Read(Some((value, index))) => {
                let fits = key.value == Some(value) && key.may_have(index);
                fits.then_some(Key { index, exact: true, ..*key })
            }
            KvCall::Put(value) => Some(Key { value: Some(value), exact: false, ..*key }),
            KvCall::Swap { expected, value, done } => key.swap(expected, value, done),
            KvCall::Delete => Some(Key { value: None, exact: false, ..*key }),
        }
    }
}

impl Key {
    fn may_have(&self, index: u64) -> bool {
        if self.exact { self.index == index } else { index > self.index }
    }

    fn swap(&self, expected: u64, value: u32, done: Option<bool>) -> Option<Self> {
        let may_fit = if expected == 0 {
            self.value.is_none()
        } else {
            self.value.is_some() && self.may_have(expected)
        };
        // An index that nobody has seen yet may always be another one.
        let must_fit = may_fit && (expected == 0 || self.exact);
        match done {
            Some(false) => (!must_fit).then_some(*self),
            Some(true) | None => {
                let index = self.index.max(expected);
                may_fit.then_some(Self { value: Some(value), index, exact: false })
            }
        }
    }
}
