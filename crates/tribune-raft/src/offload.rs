//! Where work goes that would hold up the tasks of the runtime.

use std::io;

/// How long-lasting work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// On a thread that may block.
    Threads,
    /// At once, where it is asked for: in a simulation, whose order of events must not depend on threads.
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only simulations are made with it"))]
    Inline,
}

impl Offload {
    /// Does `work` and gives what it gave; an error only when it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, io::Error> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
            Self::Inline => Ok(work()),
        }
    }
}
