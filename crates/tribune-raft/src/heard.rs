//! When this server last had word from its leader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Never, or a moment.
#[derive(Debug)]
pub(crate) struct Heard {
    since: Instant,
    /// Microseconds after `since`, plus one; zero means never.
    micros: AtomicU64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), micros: AtomicU64::new(0) }
    }

    /// Word came from the leader.
    pub(crate) fn note(&self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.micros.fetch_max(micros + 1, Ordering::Relaxed);
    }

    /// How long ago that was; `None` when it never came.
    pub(crate) fn ago(&self) -> Option<Duration> {
        let micros = self.micros.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.since.elapsed().saturating_sub(Duration::from_micros(micros)))
    }
}
