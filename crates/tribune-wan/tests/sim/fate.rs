//! The end of something that several wait for. They are woken in the order in which they came, which a watch channel
//! does not promise.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Ends once.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    is_over: AtomicBool,
    told: Notify,
}

impl Fate {
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.told.notify_waiters();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Waits for the end.
    pub(crate) async fn over(&self) {
        loop {
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable();
            if self.is_over() {
                return;
            }
            told.await;
        }
    }
}
