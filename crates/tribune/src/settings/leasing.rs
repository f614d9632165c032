//! Limits of keys, transactions and sessions.

use std::time::Duration;

use tribune_api::kv::VALUE_BYTES_MAX;
use tribune_api::session::{TTL_MAX, TTL_MIN};

use super::reading::Reading;

/// No limit may be set beyond this: a value is sent to every server as a whole, in one call, with what else belongs
/// to the change.
const BYTES_MAX: u64 = tribune_raft::BODY_BYTES_MAX as u64 / 2;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Sources};
    use crate::settings::Settings;

    #[test]
    fn a_limit_that_one_call_could_not_carry_is_refused() {
        let resolve = |text: String| {
            let files = vec![Source::Fragment(text)];
            let (config, _) = Sources { files, is_dev: true, ..Sources::default() }.read().unwrap();
            Settings::resolve(&config).map(|(settings, _)| settings.leasing)
        };
        for key in ["kv_max_value_size", "txn_max_req_len"] {
            let set = |bytes: u64| resolve(format!("node_name = \"one\" limits {{ {key} = {bytes} }}"));
            assert_eq!(set(BYTES_MAX).unwrap().txn_bytes_max as u64, BYTES_MAX);
            let refused = set(BYTES_MAX + 1).unwrap_err().to_string();
            assert!(refused.contains(&format!("limits.{key} must be at most 8388608")), "{refused}");
        }
    }
}
