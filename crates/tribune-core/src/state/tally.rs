//! How healthy services are, in numbers: what one datacenter tells others of itself.

use serde::{Deserialize, Serialize};

use super::State;
use crate::authority::Authority;
use crate::ids::{Folded, Index, ServiceName};
use crate::model::Status;

/// How many instances of a service are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// With all checks passing.
    pub passing: u32,
    /// Usable, with a warning.
    pub warning: u32,
    /// Not usable.
    pub critical: u32,
}

impl Tally {
    /// Counts instances by their status.
    pub fn of(statuses: impl Iterator<Item = Status>) -> Self {
        let mut tally = Self::default();
        for status in statuses {
            match status {
                Status::Passing => tally.passing += 1,
                Status::Warning => tally.warning += 1,
                Status::Critical => tally.critical += 1,
            }
        }
        tally
    }

    /// How many there are in all.
    pub fn total(&self) -> u32 {
        self.passing + self.warning + self.critical
    }
}

/// The tallies that changed between two positions of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TallyChanges {
    /// Services whose instances changed in any way, as they are now.
    pub changed: Vec<(ServiceName, Tally)>,
    /// Services without any instance left.
    pub gone: Vec<Folded>,
}

impl State {
    /// What has changed since `after`; everything for zero. `None` when that is not known any more, and everything
    /// has to be told.
    pub fn tallies_after(&self, after: Index, authority: &Authority) -> Option<TallyChanges> {
        if after > Index(0) && after < self.topics.gone_services.floor {
            return None;
        }
        let view = self.view(authority);
        let changed = self.services.iter().filter(|(_, service)| service.index > after);
        let changed = changed.filter_map(|(key, _)| {
            let name = view.service(key.as_str())?.name().clone();
            Some((name, Tally::of(view.instances(key.as_str()).map(|instance| instance.status()))))
        });
        let gone = self.topics.gone_services.gone.iter();
        let gone = gone.filter(|(_, index)| after > Index(0) && **index > after).map(|(key, _)| key.clone());
        Some(TallyChanges { changed: changed.collect(), gone: gone.collect() })
    }
}
