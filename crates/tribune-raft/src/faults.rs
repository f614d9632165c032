//! Faults that tests plant to see whether they would be found. Outside of tests there are none.
//!
//! | Fault | Found by |
//! |---|---|
//! | `SyncLeftOut`, `AcknowledgedEarly`, `StaleServedAsDefault`, `ReadBeforeApplied`, `ConfirmationLeftOut`, `AppliedOutOfOrder`, `SnapshotAheadOfItself` | the simulation, `tests/sim.rs` |
//! | `VoteNotSaved`, `ResentBlindly`, `LeaseKeptInHandover`, `LeaseWithoutEnd`, `RestoredUnchanged`, `StepNotWeighed` | a scene each, `tests/faults.rs` |
//! | `SessionTimesKept` | a scene of the leader's duties, `tribune/src/leader/sessions/` |
//!
//! `Fault::found_by` says the same to the tests, which go by it: none is left out.

/// A mistake one could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// The log is written, but not synced.
    SyncLeftOut = 1,
    /// A write is acknowledged as soon as it is in the leader's log.
    AcknowledgedEarly,
    /// A default read is answered from whatever state there is.
    StaleServedAsDefault,
    /// A server that has asked how new its state must be answers before it is.
    ReadBeforeApplied,
    /// A leader answers a consistent read without asking a majority whether it still leads.
    ConfirmationLeftOut,
    /// A leader answers by its lease however long no majority has answered it.
    LeaseWithoutEnd,
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
    /// A change of the voters is carried out without asking whether those there would be can agree.
    StepNotWeighed,
    /// A server that leads again goes on with the times of sessions that it measured when it led before.
    SessionTimesKept,
}

/// A lapse of one server alone, as a fault of its memory would be: it passes a command over that the others apply.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lapse {
    #[cfg(feature = "testing")]
    comes: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(feature = "testing")]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{Fault, Lapse};

    impl Lapse {
        /// The next command is passed over.
        pub(crate) fn prepare(&self) {
            self.comes.store(true, Ordering::SeqCst);
        }

        /// Whether this command is; no more than one.
        pub(crate) fn happens(&self) -> bool {
            self.comes.swap(false, Ordering::SeqCst)
        }
    }

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Which test finds a fault.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Finder {
        /// The simulation, within a bounded number of seeds.
        Simulation,
        /// The scene of this name, in the tests of this crate.
        Scene(&'static str),
        /// The scene of this name, in the tests of the leader's duties.
        Duties(&'static str),
    }

    impl Fault {
        /// All of them.
        pub const ALL: [Self; 14] = [
            Self::SyncLeftOut,
            Self::AcknowledgedEarly,
            Self::StaleServedAsDefault,
            Self::ReadBeforeApplied,
            Self::ConfirmationLeftOut,
            Self::LeaseWithoutEnd,
            Self::VoteNotSaved,
            Self::AppliedOutOfOrder,
            Self::ResentBlindly,
            Self::LeaseKeptInHandover,
            Self::SnapshotAheadOfItself,
            Self::RestoredUnchanged,
            Self::StepNotWeighed,
            Self::SessionTimesKept,
        ];

        /// The test that finds it.
        pub fn found_by(self) -> Finder {
            match self {
                Self::SyncLeftOut
                | Self::AcknowledgedEarly
                | Self::StaleServedAsDefault
                | Self::ReadBeforeApplied
                | Self::ConfirmationLeftOut
                | Self::AppliedOutOfOrder
                | Self::SnapshotAheadOfItself => Finder::Simulation,
                Self::VoteNotSaved => Finder::Scene("scene_of_a_forgotten_vote"),
                Self::ResentBlindly => Finder::Scene("scene_of_a_lost_answer"),
                Self::LeaseKeptInHandover => Finder::Scene("scene_of_a_handover"),
                Self::LeaseWithoutEnd => Finder::Scene("scene_of_a_leader_cut_off"),
                Self::RestoredUnchanged => Finder::Scene("scene_of_a_restore"),
                Self::StepNotWeighed => Finder::Scene("scene_of_a_vote_too_many"),
                Self::SessionTimesKept => Finder::Duties("scene_of_a_leader_that_leads_again"),
            }
        }

        /// Plants the fault in this process.
        pub fn plant(self) {
            PLANTED.store(self as u8, Ordering::SeqCst);
        }

        /// The fault with this name, as `Debug` writes it.
        pub fn named(name: &str) -> Option<Self> {
            Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
        }

        /// Whether it is planted.
        pub fn is_planted(self) -> bool {
            PLANTED.load(Ordering::Relaxed) == self as u8
        }
    }
}

#[cfg(feature = "testing")]
pub use planted::Finder;

#[cfg(not(feature = "testing"))]
impl Lapse {
    /// Never.
    pub(crate) const fn happens(&self) -> bool {
        false
    }
}

#[cfg(not(feature = "testing"))]
impl Fault {
    /// Never.
    pub const fn is_planted(self) -> bool {
        false
    }
}
