//! A log line that is written at most once per interval, however often its cause occurs.

use std::time::Duration;

use tokio::time::Instant;

/// How long a line that was written is not written again.
const INTERVAL: Duration = Duration::from_secs(60);

/// Counts what is not written.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    written: Option<Instant>,
    held_back: u64,
}

impl Quiet {
    /// Whether the line is written now; if so, how often it was not since the last time.
    pub(crate) fn speak(&mut self, now: Instant) -> Option<u64> {
        if self.written.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.written = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_per_interval() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!(quiet.speak(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(quiet.speak(start + Duration::from_secs(1)), None);
        }
        assert_eq!(quiet.speak(start + INTERVAL), Some(1000));
    }
}
