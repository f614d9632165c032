//! The thread that writes the log, so that no task ever waits for a terminal or a disk.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::file::Rotating;

/// Lines waiting to be written; the line beyond is dropped and counted, as a log that nobody reads must not
/// stop the agent.
const LINES_WAITING_MAX: usize = 16_384;

/// How long the end of the program waits for the log to be written. A reader that has stopped reading would
/// hold it for ever.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

enum Order {
    Line(String),
    /// Prints text to standard output past the gate, then opens it.
    Open(String),
    Close,
}

/// Hands lines to the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    orders: SyncSender<Order>,
    dropped: std::sync::Arc<AtomicU64>,
}

/// The writing thread; its owner ends it with [`Thread::close`].
#[derive(Debug)]
pub struct Thread {
    orders: SyncSender<Order>,
    done: Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

/// Starts the thread. Lines are held back until the gate is opened.
pub(super) fn start(file: Option<Rotating>) -> io::Result<(Writer, Thread)> {
    let (orders, incoming) = sync_channel(LINES_WAITING_MAX);
    let (finished, done) = sync_channel(1);
    let dropped = std::sync::Arc::new(AtomicU64::new(0));
    let mut sink = Sink { file, held: Some(Vec::new()), dropped: dropped.clone() };
    let run = move || {
        sink.run(&incoming);
        let _ = finished.send(());
    };
    let handle = std::thread::Builder::new().name("log".to_owned()).spawn(run)?;
    Ok((Writer { orders: orders.clone(), dropped }, Thread { orders, done, handle: Some(handle) }))
}

impl Writer {
    pub(super) fn write(&self, line: String) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Thread {
    /// Prints the banner and lets the lines held back, and all later ones, follow it.
    pub fn open(&self, banner: &str) {
        let _ = self.orders.send(Order::Open(banner.to_owned()));
    }

    /// Writes what is waiting and ends the thread.
    pub fn close(&mut self) {
        // A full queue to a reader that has stopped would hold this send as well.
        let _ = self.orders.try_send(Order::Close);
        let is_stuck = self.done.recv_timeout(CLOSE_WAIT) == Err(RecvTimeoutError::Timeout);
        if let Some(handle) = self.handle.take()
            && !is_stuck
        {
            let _ = handle.join();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.close();
        }
    }
}

struct Sink {
    file: Option<Rotating>,
    /// Lines held back until the gate opens; `None` once it is open.
    held: Option<Vec<String>>,
    dropped: std::sync::Arc<AtomicU64>,
}

impl Sink {
    fn run(&mut self, incoming: &Receiver<Order>) {
        let mut stdout = io::stdout();
        while let Ok(order) = incoming.recv() {
            match order {
                Order::Line(line) => self.line(&mut stdout, line),
                Order::Open(banner) => self.open(&mut stdout, &banner),
                Order::Close => break,
            }
            self.confess(&mut stdout);
        }
        self.open(&mut stdout, "");
    }

    /// A line goes to the file at once, and to standard output behind the gate.
    fn line(&mut self, stdout: &mut impl Write, line: String) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write(line.as_bytes())
        {
            eprintln!("the log file cannot be written any more: {error}");
            self.file = None;
        }
        match &mut self.held {
            Some(held) if held.len() < LINES_WAITING_MAX => held.push(line),
            Some(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            None => write_all(stdout, &line),
        }
    }

    fn open(&mut self, stdout: &mut impl Write, banner: &str) {
        write_all(stdout, banner);
        for line in self.held.take().unwrap_or_default() {
            write_all(stdout, &line);
        }
    }

    fn confess(&self, stdout: &mut impl Write) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 && self.held.is_none() {
            write_all(
                stdout,
                &format!("... {dropped} log lines were dropped: they came faster than they are read\n"),
            );
        }
    }
}

/// Standard output that is closed is no reason to stop.
fn write_all(stdout: &mut impl Write, text: &str) {
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
