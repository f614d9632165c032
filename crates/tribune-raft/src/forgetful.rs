//! Servers that have lost entries which they had confirmed: they came back under their id with an empty disk.
//!
//! The agreement rests on what was confirmed, so such a server is sent nothing and counts for nothing until it was put
//! out and taken in anew. One that comes back without data also gives no vote, since it may have confirmed what the
//! candidate lacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Those that this leader has found. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forgetful(Arc<Mutex<BTreeSet<u64>>>);

impl Forgetful {
    /// Notes one; whether it was not known to be one.
    pub(crate) fn note(&self, id: u64) -> bool {
        self.0.lock().insert(id)
    }

    /// A server begins anew.
    pub(crate) fn pardon(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.0.lock().contains(&id)
    }
}
