//! Whether all servers have come to the same state: hashes of it at the same indexes, compared now and then.
//!
//! Servers that apply one log must agree; where they do not, a fault of ours or of a machine's memory has gone
//! unnoticed, and the answers differ from server to server. A hash is computed beside the work, of a clone that
//! costs nothing; while one is computed the next is left out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tribune_core::State;

use crate::codec;
use crate::offload::Offload;

/// Hashes that are kept; enough for servers that lag a little.
const KEPT: usize = 64;

/// Hashes are only compared between servers of the same form: another version may write records another way.
pub(crate) const FORM: &str = env!("CARGO_PKG_VERSION");

/// The hashes of this server's states.
#[derive(Debug)]
pub(crate) struct StateHashes {
    interval: u64,
    offload: Offload,
    known: Arc<Mutex<VecDeque<(u64, String)>>>,
    busy: Arc<AtomicBool>,
    /// The last computation.
    computing: Mutex<Option<JoinHandle<()>>>,
}

impl StateHashes {
    pub(crate) fn new(interval: u64, offload: Offload) -> Self {
        Self {
            interval: interval.max(1),
            offload,
            known: Arc::default(),
            busy: Arc::default(),
            computing: Mutex::default(),
        }
    }

    /// Hashes the state at this index, if it is one of those that are compared.
    pub(crate) fn reached(&self, index: u64, state: &State) {
        if !index.is_multiple_of(self.interval) || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (known, busy, state) = (self.known.clone(), self.busy.clone(), state.clone());
        let work = move || {
            let hash = hash(&state);
            let mut known = known.lock();
            if known.len() == KEPT {
                known.pop_front();
            }
            known.push_back((index, hash));
            busy.store(false, Ordering::Release);
        };
        match self.offload {
            Offload::Inline => work(),
            Offload::Threads => *self.computing.lock() = Some(tokio::task::spawn_blocking(work)),
        }
    }

    /// Index and hash, oldest first.
    pub(crate) fn known(&self) -> Vec<(u64, String)> {
        self.known.lock().iter().cloned().collect()
    }

    /// The first index at which another server had another state.
    pub(crate) fn differs(&self, others: &[(u64, String)]) -> Option<u64> {
        let known = self.known.lock();
        let other = |index| others.iter().find(|(at, _)| *at == index).map(|(_, hash)| hash);
        known
            .iter()
            .find(|(index, hash)| other(*index).is_some_and(|other| other != hash))
            .map(|(index, _)| *index)
    }

    /// Waits for the last computation.
    pub(crate) async fn end(&self) {
        let computing = self.computing.lock().take();
        if let Some(computing) = computing {
            // It only computes; if it panicked there is no hash.
            let _ = computing.await;
        }
    }
}

/// The same for equal states.
pub(crate) fn hash(state: &State) -> String {
    let mut hasher = Sha256::new();
    for record in state.records() {
        match codec::encode(&record) {
            Ok(bytes) => hasher.update(&bytes),
            Err(error) => hasher.update(error.to_string().as_bytes()),
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
