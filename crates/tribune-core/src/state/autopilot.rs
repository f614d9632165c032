//! What operators decided about servers, as part of the state.

use super::State;
use super::catalog::Change;
use super::topic::Topic;
use crate::autopilot::Config;
use crate::command::Refusal;
use crate::ids::Index;
use crate::model::Stored;

impl Change<'_> {
    /// Puts the settings; with `expected` only when they last changed there.
    pub(super) fn set_autopilot(&mut self, config: &Config, expected: Option<Index>) -> Result<(), Refusal> {
        let old = self.state.autopilot.as_ref();
        if expected.is_some_and(|expected| old.is_none_or(|old| old.modified != expected)) {
            return Err(Refusal::AutopilotMoved);
        }
        if old.is_some_and(|old| old.value == *config) {
            return Ok(());
        }
        let created = old.map_or(self.index, |old| old.created);
        self.state.autopilot = Some(Stored { value: config.clone(), created, modified: self.index });
        self.touched.insert(Topic::Autopilot);
        Ok(())
    }
}

impl State {
    /// What operators decided about servers; `None` until the first leader has written its configuration.
    pub fn autopilot(&self) -> Option<&Stored<Config>> {
        self.autopilot.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Outcome};

    #[test]
    fn settings_change_when_they_are_where_they_were_read() {
        let mut state = State::default();
        let mut put = |at: u64, trailing: u64, expected: Option<u64>| {
            let config = Config { max_trailing_logs: trailing, ..Config::default() };
            let command = Command::SetAutopilot { config, expected: expected.map(Index) };
            let effect = state.apply(Index(at), &command);
            let stored = state.autopilot().map(|stored| (stored.created.0, stored.modified.0));
            (effect.outcome, stored, state.index_of(&Topic::Autopilot).0, state.index_of(&Topic::Catalog).0)
        };
        let moved = Outcome::Refused(Refusal::AutopilotMoved);
        assert_eq!(put(2, 1, Some(0)), (moved.clone(), None, 0, 0));
        assert_eq!(put(3, 1, None), (Outcome::Applied, Some((3, 3)), 3, 0));
        assert_eq!(put(4, 1, None), (Outcome::Unchanged, Some((3, 3)), 3, 0));
        assert_eq!(put(5, 2, Some(2)), (moved, Some((3, 3)), 3, 0));
        assert_eq!(put(6, 2, Some(3)), (Outcome::Applied, Some((3, 6)), 6, 0));
        let again = State::from_records(state.records()).unwrap();
        assert_eq!(again, state);
    }
}
