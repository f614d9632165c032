//! The agent's own list on disk: `local.redb`, written by one thread.
//!
//! Everything that waits in the queue goes into one transaction, so 64 registrations at once cost a few flushes.
//! Each value carries a version and a checksum. A file that cannot be read in full stops the start of the agent:
//! starting empty would take its services out of the catalog.

mod file;

use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tribune_core::{CheckSpec, Folded, ServiceInstance, Status, Timestamp};

use crate::config::StoreAt;
use crate::error::Error;
use file::ListFile;

/// How many writes wait for the disk before those who bring more have to wait as well.
const QUEUE_MAX: usize = 1024;

/// How many of them go into one transaction.
const GROUP_MAX: usize = 1024;

/// The list as it was read at start.
#[derive(Debug, Default)]
pub(crate) struct SavedList {
    pub(crate) services: Vec<ServiceInstance>,
    pub(crate) checks: Vec<CheckSpec>,
    pub(crate) states: Vec<(Folded, SavedState)>,
}

/// What a TTL check was told last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedState {
    pub(crate) status: Status,
    pub(crate) output: String,
    /// On the wall clock.
    pub(crate) expires: Timestamp,
}

/// One change of the list.
#[derive(Debug)]
pub(crate) enum Op {
    PutService(ServiceInstance),
    RemoveService(Folded),
    PutCheck(Box<CheckSpec>),
    RemoveCheck(Folded),
    PutState(Folded, SavedState),
}

/// Where changes are handed in. Nothing is written when there is no queue.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    queue: Option<mpsc::Sender<Message>>,
}

/// A place in the queue, taken before a lock so that nothing waits while it is held.
pub(crate) struct Slot(Option<mpsc::OwnedPermit<Message>>);

/// Becomes ready when what was submitted is on disk.
#[must_use]
pub(crate) struct Saving(Option<oneshot::Receiver<Result<(), String>>>);

/// The thread that writes.
pub(crate) struct Writer {
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Write(Vec<Op>, oneshot::Sender<Result<(), String>>),
    Close,
}

impl Store {
    /// Opens the list, or begins a new one where there is none. Blocks on the disk.
    pub(crate) fn open(at: &StoreAt) -> Result<(Self, Writer, SavedList), Error> {
        let StoreAt::Directory(directory) = at else {
            return Ok((Self { queue: None }, Writer { thread: None }, SavedList::default()));
        };
        let (file, list) = ListFile::open(directory)?;
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("local-store".into()).spawn(|| write(file, messages));
        let thread = thread.map_err(|error| Error::Store(error.to_string()))?;
        Ok((Self { queue: Some(queue) }, Writer { thread: Some(thread) }, list))
    }

    pub(crate) async fn reserve(&self) -> Result<Slot, Error> {
        let Some(queue) = &self.queue else { return Ok(Slot(None)) };
        let permit = queue.clone().reserve_owned().await.map_err(|_| Error::Stopped)?;
        Ok(Slot(Some(permit)))
    }

    /// Writes what was handed in before, then ends the thread.
    pub(crate) async fn close(&self, mut writer: Writer) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Message::Close).await;
        }
        if let Some(thread) = writer.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Slot {
    /// Hands in changes; they are written in the order of these calls. An empty list waits for those before it.
    pub(crate) fn submit(self, ops: Vec<Op>) -> Saving {
        Saving(self.0.map(|permit| {
            let (done, saved) = oneshot::channel();
            permit.send(Message::Write(ops, done));
            saved
        }))
    }
}

impl Saving {
    pub(crate) async fn wait(self) -> Result<(), Error> {
        match self.0 {
            None => Ok(()),
            Some(saved) => saved.await.map_err(|_| Error::Stopped)?.map_err(Error::Store),
        }
    }
}

fn write(mut file: ListFile, mut messages: mpsc::Receiver<Message>) {
    let mut closing = false;
    while !closing {
        let Some(first) = messages.blocking_recv() else { return };
        let mut waiting = Vec::new();
        let mut ops = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Write(more, done) => {
                    ops.extend(more);
                    waiting.push(done);
                }
                Message::Close => {
                    closing = true;
                    break;
                }
            }
            next = if waiting.len() < GROUP_MAX { messages.try_recv().ok() } else { None };
        }
        let result = if ops.is_empty() { Ok(()) } else { file.write(&ops) };
        if let Err(error) = &result {
            tracing::error!(%error, "could not write the agent's own list");
        }
        for done in waiting {
            let _ = done.send(result.clone());
        }
    }
}
