//! Faults that tests plant to see whether they would be found. Outside of tests there are none.

/// A mistake one could make in this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "public for tests only"))]
pub enum Fault {
    /// The log is written, but not synced.
    SyncLeftOut = 1,
    /// A write is acknowledged as soon as it is in the leader's log.
    AcknowledgedEarly,
    /// A default read is answered from whatever state there is.
    StaleServedAsDefault,
    /// A vote is kept in memory only.
    VoteNotSaved,
    /// Entries of one batch are applied in another order.
    AppliedOutOfOrder,
    /// A write whose answer was lost is sent again.
    ResentBlindly,
    /// The lease counts although leading is being handed over.
    LeaseKeptInHandover,
    /// A snapshot says it reaches further than its state.
    SnapshotAheadOfItself,
    /// A restored state keeps the indexes it was saved with.
    RestoredUnchanged,
}

#[cfg(feature = "testing")]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Fault;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    impl Fault {
        /// All of them.
        pub const ALL: [Self; 9] = [
            Self::SyncLeftOut,
            Self::AcknowledgedEarly,
            Self::StaleServedAsDefault,
            Self::VoteNotSaved,
            Self::AppliedOutOfOrder,
            Self::ResentBlindly,
            Self::LeaseKeptInHandover,
            Self::SnapshotAheadOfItself,
            Self::RestoredUnchanged,
        ];

        /// Plants the fault in this process.
        pub fn plant(self) {
            PLANTED.store(self as u8, Ordering::SeqCst);
        }

        /// The fault with this name, as `Debug` writes it.
        pub fn named(name: &str) -> Option<Self> {
            Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
        }

        pub(crate) fn is_planted(self) -> bool {
            PLANTED.load(Ordering::Relaxed) == self as u8
        }
    }
}

#[cfg(not(feature = "testing"))]
impl Fault {
    /// Never.
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}
