//! How a read is to be made: mode, blocking, and what may come from the cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tribune_api::params::{Consistency, ReadOptions};
use tribune_core::Index;

use crate::call::Call;
use crate::datacenter::DatacenterConfig;
use crate::error::Error;

/// A server adds up to this part of the wait at random, so that clients that came together do not return
/// together.
const JITTER_PART: u32 = 16;

/// A read with all that its request says about how to make it.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Mode of the answer.
    pub(crate) consistency: Consistency,
    /// How far behind the leader a stale answer may be before it is made anew by the leader.
    pub(crate) max_stale: Option<Duration>,
    /// Wait for something newer; 0 does not wait.
    pub(crate) index: Index,
    /// For at most this long.
    pub(crate) wait: Duration,
    /// Whether the client asked for the cache, and is told about it.
    pub(crate) cached: bool,
}

impl Reading {
    /// What a request says, within what the configuration allows.
    pub(crate) fn new(call: &Call, options: &ReadOptions, config: &DatacenterConfig) -> Result<Self, Error> {
        tribune_api::headers::refuse_namespace(call.header(tribune_api::headers::NAMESPACE))?;
        if let Some(header) = call.header("cache-control").filter(|_| options.cached) {
            tribune_api::headers::CacheControl::parse(header)?;
        }
        let (consistency, max_stale) = match (options.consistency, config.discovery_max_stale) {
            (Some(asked), _) => (asked, options.max_stale),
            (None, Some(bound)) => (Consistency::Stale, Some(bound)),
            (None, None) => (Consistency::Default, None),
        };
        Ok(Self {
            consistency,
            max_stale,
            index: Index(options.blocking.index),
            wait: options.blocking.wait,
            cached: options.cached && config.use_cache,
        })
    }
}

/// Random additions to waits: a sequence that a seed determines.
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// `wait` with its random addition.
    pub(crate) fn stretch(&self, wait: Duration) -> Duration {
        let fraction = f64::from((self.draw() >> 32) as u32) / f64::from(u32::MAX);
        wait + (wait / JITTER_PART).mul_f64(fraction)
    }

    /// The next number of the sequence.
    pub(crate) fn draw(&self) -> u64 {
        // SplitMix64: each step is one atomic addition, so that no reader waits for another.
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_stretched_by_up_to_a_sixteenth() {
        let wait = Duration::from_secs(160);
        let draw = |seed| {
            let jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.stretch(wait)).collect::<Vec<_>>()
        };
        let drawn = draw(7);
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
        assert!(drawn.iter().all(|drawn| *drawn >= wait && *drawn <= wait + Duration::from_secs(10)));
        assert!(drawn.iter().any(|drawn| *drawn > wait + Duration::from_secs(8)));
    }
}
