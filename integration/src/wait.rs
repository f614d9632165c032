//! Waiting for conditions: never a sleep and a hope.

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
