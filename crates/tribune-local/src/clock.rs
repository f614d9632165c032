//! The agent's time: milliseconds that never go backwards, with their place on the wall clock remembered.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tribune_core::Timestamp;

/// Time since a fixed start. It starts at the wall clock's milliseconds, so that stored times survive a restart,
/// and then follows the steady clock, so that nobody who sets the wall clock makes a TTL run out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.start_ms).after(self.start.elapsed())
    }

    /// The first instant that [`Self::now`] shows as `at`.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.0.saturating_sub(self.start_ms))
    }
}
