//! One lock: a key that sessions acquire and release. No session ends, so nothing else frees it.

use super::Model;

/// A lock.
#[derive(Debug)]
pub enum Lock {}

/// A call on a lock; `done` is absent when nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockCall {
    /// Acquires it for a session.
    Acquire {
        /// Who.
        session: u32,
        /// Whether it holds the lock now.
        done: Option<bool>,
    },
    /// Releases it.
    Release {
        /// Who.
        session: u32,
        /// Whether it held the lock.
        done: Option<bool>,
    },
    /// Looks who holds it, and how often it has been acquired.
    Read {
        /// Who, if anybody.
        holder: Option<u32>,
        /// The LockIndex; 0 for a key that is not there.
        acquired: u64,
    },
}

/// Who holds a lock and how often it has been acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    holder: Option<u32>,
    acquired: u64,
}

impl Model for Lock {
    type State = Held;
    type Call = LockCall;

    fn initial() -> Held {
        Held { holder: None, acquired: 0 }
    }

    fn apply(held: &Held, call: &LockCall) -> Option<Held> {
        match *call {
            LockCall::Acquire { session, done: Some(false) } => {
                held.holder.is_some_and(|holder| holder != session).then_some(*held)
            }
            LockCall::Acquire { session, .. } => match held.holder {
                None => Some(Held { holder: Some(session), acquired: held.acquired + 1 }),
                Some(holder) => (holder == session).then_some(*held),
            },
            LockCall::Release { session, done: Some(false) } => {
                (held.holder != Some(session)).then_some(*held)
            }
            LockCall::Release { session, .. } => {
                (held.holder == Some(session)).then_some(Held { holder: None, ..*held })
            }
            LockCall::Read { holder, acquired } => (*held == Held { holder, acquired }).then_some(*held),
        }
    }
}
