//! The newest state, where every reader finds it without a lock.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use tribune_core::State;

/// The one place the state is published at; written by the state machine alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published(Arc<ArcSwap<State>>);

impl Published {
    pub(crate) fn load(&self) -> Arc<State> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, state: State) {
        self.0.store(Arc::new(state));
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader(Cache::new(self.0.clone()))
    }
}

/// Looks at the newest state of this server, however old that is, at the price of one atomic load. Each task
/// keeps its own clone.
#[derive(Clone)]
pub struct Reader(Cache<Arc<ArcSwap<State>>, Arc<State>>);

impl Reader {
    /// The newest state.
    pub fn state(&mut self) -> &Arc<State> {
        self.0.load()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}
