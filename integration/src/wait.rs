//! Waiting for conditions: never a sleep and a hope.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks; short beside any limit, long beside a look.
const BETWEEN: Duration = Duration::from_millis(20);

/// Looks until `condition` holds; fails when it has not within `limit`, or at once when looking itself fails.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    loop {
        if condition()? {
            return Ok(());
        }
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(BETWEEN);
    }
}

/// Says that it is over when it goes, also when it goes by a panic: threads that work until then would otherwise be
/// waited for for ever by the scope of a test that has failed.
pub struct Until<'a>(pub &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
