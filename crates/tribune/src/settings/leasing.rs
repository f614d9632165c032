//! Limits of keys, transactions and sessions.

use std::time::Duration;

use tribune_api::kv::VALUE_BYTES_MAX;
use tribune_api::session::{TTL_MAX, TTL_MIN};

use super::reading::Reading;

/// No limit may be set beyond this: a value travels through the log, to every server and into snapshots, as a whole.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How large keys and transactions may be, and how short sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leasing {
    /// Longest value of a key, in bytes.
    pub value_bytes_max: usize,
    /// Longest body of a transaction, in bytes.
    pub txn_bytes_max: usize,
    /// Shortest time to live of a session.
    pub session_ttl_min: Duration,
}

impl Reading<'_> {
    pub(super) fn leasing(&mut self) -> Leasing {
        let limits = &self.config.limits;
        let (value, txn) = (limits.kv_max_value_size, limits.txn_max_req_len);
        let value_bytes_max = self.bytes("limits.kv_max_value_size", value);
        let txn_bytes_max = self.bytes("limits.txn_max_req_len", txn).max(value_bytes_max);
        let session_ttl_min = self.config.session_ttl_min.map_or(TTL_MIN, |span| span.0);
        if session_ttl_min > TTL_MAX {
            self.refuse("session_ttl_min", "must not be longer than 24h, the longest time to live");
        }
        Leasing { value_bytes_max, txn_bytes_max, session_ttl_min }
    }

    fn bytes(&mut self, key: &str, written: Option<u64>) -> usize {
        let bytes = written.unwrap_or(VALUE_BYTES_MAX as u64);
        if bytes > BYTES_MAX {
            self.refuse(key, &format!("must be at most {BYTES_MAX}, not {bytes}"));
        }
        usize::try_from(bytes.min(BYTES_MAX)).unwrap_or(VALUE_BYTES_MAX)
    }
}
