//! Response rate limiting: how many answers a network gets over UDP, where anyone can write any sender.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::config::{RateLimit, contains};

/// How many counters there are. Networks share one by chance, which can only make the limit stricter; with this
/// many, one flood of forged senders touches one innocent network in 65 536.
const COUNTERS: usize = 1 << 16;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Send the advice to ask over TCP instead.
    Slip,
    Drop,
}

/// Counts answers per network and second, in memory of fixed size and without a lock.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The second in the upper half, the answers in it in the lower.
    counters: Box<[AtomicU64]>,
    hash: RandomState,
}

impl Default for Limiter {
    fn default() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { counters, hash: RandomState::default() }
    }
}

impl Limiter {
    /// Counts one answer to `client` in second `now`.
    pub(crate) fn judge(&self, limit: &RateLimit, client: IpAddr, now: u32) -> Verdict {
        if limit.answers_per_second == 0 || contains(&limit.exempt, client) {
            return Verdict::Send;
        }
        let network = network_bits(limit, client.to_canonical());
        let counter = &self.counters[self.hash.hash_one(network) as usize % COUNTERS];
        let count = |word: u64| if word >> 32 == u64::from(now) { word & 0xffff_ffff } else { 0 };
        let next = |word: u64| Some(u64::from(now) << 32 | (count(word) + 1).min(0xffff_ffff));
        let before =
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|same| same);
        let beyond = count(before).saturating_sub(u64::from(limit.answers_per_second) - 1);
        match beyond {
            0 => Verdict::Send,
            _ if limit.slip > 0 && beyond % u64::from(limit.slip) == 0 => Verdict::Slip,
            _ => Verdict::Drop,
        }
    }
}

fn network_bits(limit: &RateLimit, client: IpAddr) -> (bool, u128) {
    match client {
        IpAddr::V4(ip) => {
            let host_bits = 32 - u32::from(limit.ipv4_prefix.min(32));
            (false, u128::from(u64::from(ip.to_bits()) >> host_bits))
        }
        IpAddr::V6(ip) => {
            let host_bits = 128 - u32::from(limit.ipv6_prefix.min(128));
            (true, ip.to_bits().checked_shr(host_bits).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(limiter: &Limiter, client: &str, now: u32) -> Verdict {
        let limit = RateLimit { answers_per_second: 2, slip: 2, ..RateLimit::default() };
        limiter.judge(&limit, client.parse().unwrap(), now)
    }

    #[test]
    fn a_network_gets_its_share_of_each_second() {
        let limiter = Limiter::default();
        let verdicts: Vec<Verdict> =
            (1..=6).map(|host| judged(&limiter, &format!("8.8.8.{host}"), 7)).collect();
        use Verdict::{Drop, Send, Slip};
        assert_eq!(verdicts, [Send, Send, Drop, Slip, Drop, Slip]);
        assert_eq!(judged(&limiter, "8.8.8.1", 8), Send);
    }

    #[test]
    fn inside_there_is_no_limit() {
        let limiter = Limiter::default();
        for client in ["127.0.0.1", "10.1.1.1", "::1", "::ffff:10.0.0.1"] {
            assert!((0..10).all(|_| judged(&limiter, client, 7) == Verdict::Send));
        }
    }
}
