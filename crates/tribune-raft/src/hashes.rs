//! Whether all servers have come to the same state: hashes of it at the same indexes, compared now and then.
//!
//! Servers that apply one log must agree; where they do not, a fault of ours or of a machine's memory has gone
//! unnoticed, and the answers differ from server to server. A hash is computed beside the work, of a clone that
//! costs nothing; while one is computed the next is left out.

use std::collections::{BTreeMap, VecDeque};
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

    /// Waits for the last computation.
    pub(crate) async fn end(&self) {
        let computing = self.computing.lock().take();
        if let Some(computing) = computing {
            // It only computes; if it panicked there is no hash.
            let _ = computing.await;
        }
    }
}

/// Servers whose states differ at the same index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Divergence {
    pub(crate) index: u64,
    /// By their places: those that stand against a majority; all that are known at the index when none has one.
    pub(crate) odd: Vec<usize>,
    /// Whether a majority of those that are known at the index agree, so that it can be told who is wrong.
    pub(crate) decided: bool,
}

/// Compares what servers say of their states. Which server leads does not matter: its own state may be the wrong one.
/// Of several indexes the one counts at which most is known.
pub(crate) fn compare(servers: &[Vec<(u64, String)>]) -> Option<Divergence> {
    let mut indexes: BTreeMap<u64, Vec<(usize, &str)>> = BTreeMap::new();
    for (place, known) in servers.iter().enumerate() {
        for (index, hash) in known {
            indexes.entry(*index).or_default().push((place, hash));
        }
    }
    let voices = |index| indexes.get(&index).map_or(0, Vec::len);
    let differing = indexes.iter().filter_map(|(index, hashes)| differ(*index, hashes));
    differing.max_by_key(|divergence| (divergence.decided, voices(divergence.index)))
}

fn differ(index: u64, hashes: &[(usize, &str)]) -> Option<Divergence> {
    let count = |hash: &str| hashes.iter().filter(|(_, other)| *other == hash).count();
    let usual = hashes.iter().map(|(_, hash)| *hash).max_by_key(|hash| count(hash))?;
    let decided = count(usual) * 2 > hashes.len();
    let odd: Vec<usize> =
        hashes.iter().filter(|(_, hash)| !decided || *hash != usual).map(|(place, _)| *place).collect();
    (!odd.is_empty()).then_some(Divergence { index, odd, decided })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each server as `index:hash index:hash`.
    fn check(servers: &[&str], expected: Option<(u64, &[usize], bool)>) {
        let read = |text: &&str| {
            text.split_whitespace()
                .map(|one| one.split_once(':').unwrap())
                .map(|(index, hash)| (index.parse().unwrap(), hash.to_owned()))
                .collect()
        };
        let servers: Vec<Vec<(u64, String)>> = servers.iter().map(read).collect();
        let expected = expected.map(|(index, odd, decided)| Divergence { index, odd: odd.to_vec(), decided });
        assert_eq!(compare(&servers), expected, "{servers:?}");
    }

    #[test]
    fn equal_states_and_those_that_cannot_be_compared_raise_nothing() {
        check(&[], None);
        check(&["4:a 8:b"], None);
        check(&["4:a 8:b", "8:b", "4:a 12:c", ""], None);
        check(&["4:a", "8:b", "12:c"], None);
    }

    #[test]
    fn who_stands_against_the_majority_is_the_odd_one_even_if_it_leads() {
        check(&["4:a 8:b", "4:a 8:b", "4:a 8:x"], Some((8, &[2], true)));
        check(&["4:a 8:x", "4:a 8:b", "4:a 8:b"], Some((8, &[0], true)));
        check(&["4:a", "4:x", "4:a", "4:y", "4:a"], Some((4, &[1, 3], true)));
    }

    #[test]
    fn without_a_majority_all_are_named() {
        check(&["4:a", "4:x"], Some((4, &[0, 1], false)));
        check(&["4:a", "4:x", "4:y"], Some((4, &[0, 1, 2], false)));
        check(&["4:a", "4:a", "4:x", "4:x"], Some((4, &[0, 1, 2, 3], false)));
    }

    #[test]
    fn the_index_at_which_most_is_known_tells() {
        check(&["4:a 8:b 12:c", "4:x 8:y 12:z", "8:b"], Some((8, &[1], true)));
        check(&["4:a 8:b", "4:x 8:b"], Some((4, &[0, 1], false)));
    }
}
