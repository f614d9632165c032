//! Applying logs again, whatever they hold.

use proptest::prelude::*;
use tribune_core::state::Record;
use tribune_core::{Command, Index, State};

/// Applies these commands, the first of them at `from`.
pub(crate) fn commands(state: &mut State, from: u64, commands: &[Command]) {
    for (at, command) in commands.iter().enumerate() {
        state.apply(Index(from + at as u64), command);
    }
}

/// A record as it comes out of a file.
pub(crate) fn through_bytes(record: &Record) -> Record {
    let bytes = rmp_serde::to_vec_named(record).expect("a record that can be written");
    rmp_serde::from_slice(&bytes).expect("a record that can be read")
}

/// A snapshot taken at `cut`, and what comes after it, equal the whole log.
pub(crate) fn snapshot_and_rest(log: &[Command], cut: usize) -> Result<(), TestCaseError> {
    let (before, after) = log.split_at(cut.min(log.len()));
    let mut whole = State::default();
    commands(&mut whole, 1, before);
    let records = whole.records().map(|record| through_bytes(&record));
    let mut restored = State::from_records(records).expect("records that make a state");
    prop_assert_eq!(&restored, &whole);
    commands(&mut whole, before.len() as u64 + 1, after);
    commands(&mut restored, before.len() as u64 + 1, after);
    prop_assert_eq!(restored, whole);
    Ok(())
}
