//! The tasks behind one HTTP/2 connection: the HTTP library wants to spawn them, and somebody has to own them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The tasks that the HTTP library needs for one connection; they end with it.
#[derive(Default)]
pub(crate) struct Crew(Arc<Mutex<JoinSet<()>>>);

impl Crew {
    pub(crate) fn executor(&self) -> Executor {
        Executor(Arc::clone(&self.0))
    }

    /// Resolves when all tasks have ended.
    pub(crate) async fn dismissed(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock());
        while tasks.join_next().await.is_some() {}
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.lock().abort_all();
    }
}

/// Spawns for one crew.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let mut crew = self.0.lock();
        while crew.try_join_next().is_some() {}
        crew.spawn(async move {
            task.await;
        });
    }
}
