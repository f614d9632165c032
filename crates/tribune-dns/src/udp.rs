//! UDP on one address: one thread per socket reads a batch, answers it, sends the answers.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tribune_core::dns::Transport;

use crate::batch::{Inbox, Outbox, socket_addr};
use crate::cache::{Cache, WORKER_BYTES_MAX};
use crate::handler::{Errand, Handler, Next};

/// How often a thread without questions looks whether it should stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a thread rests after its socket failed, lest it spin.
pub(crate) const FAILURE_REST: Duration = Duration::from_millis(100);
/// One in this many batches is timed.
const TIMED_BATCH_INTERVAL: u32 = 64;

/// Answers what comes in by one socket.
pub(crate) struct Worker {
    socket: Arc<UdpSocket>,
    handler: Arc<Handler>,
    errands: Errands,
    batches: u32,
}

impl Worker {
    pub(crate) fn new(socket: UdpSocket, handler: Arc<Handler>, runtime: Handle) -> std::io::Result<Self> {
        prepare(&socket)?;
        let errands = Errands::new(handler.clone(), runtime);
        Ok(Self { socket: Arc::new(socket), handler, errands, batches: 0 })
    }

    /// Works until `shutdown`; must have a thread to itself. Errands that are under way then are given up.
    pub(crate) fn run(mut self, shutdown: &CancellationToken) {
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new());
        let mut cache = Cache::new(WORKER_BYTES_MAX);
        while !shutdown.is_cancelled() {
            if let Err(error) = inbox.receive(&self.socket) {
                warn!(%error, "dns socket cannot be read");
                std::thread::sleep(FAILURE_REST);
                continue;
            }
            self.answer_batch(&inbox, &mut outbox, &mut cache);
        }
    }

    fn answer_batch(&mut self, inbox: &Inbox, outbox: &mut Outbox, cache: &mut Cache) {
        let questions = inbox.packets().len();
        if questions == 0 {
            return;
        }
        self.batches = self.batches.wrapping_add(1);
        let started = self.batches.is_multiple_of(TIMED_BATCH_INTERVAL).then(Instant::now);
        let moment = self.handler.moment();
        for (packet, sender) in inbox.packets() {
            let Some((address, peer)) = sender.and_then(|address| Some((address, socket_addr(&address)?)))
            else {
                continue;
            };
            let from = (peer, Transport::Udp);
            match self.handler.answer(&moment, cache, packet, from, outbox.next()) {
                Next::Reply => outbox.commit(address),
                Next::Silence => {}
                Next::Errand(errand) => {
                    let socket = self.socket.clone();
                    self.errands.start(errand, move |answer| {
                        // A lost datagram is asked for again.
                        let _ = socket.send_to(answer, peer);
                    });
                }
            }
        }
        outbox.send(&self.socket);
        record(questions, started);
    }
}

/// Lets reads wait, but not for so long that a stop would go unnoticed.
pub(crate) fn prepare(socket: &UdpSocket) -> std::io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(STOP_CHECK_INTERVAL))
}

/// Counts questions and, if they were timed, what each took.
pub(crate) fn record(questions: usize, started: Option<Instant>) {
    metrics::counter!("dns.queries", "transport" => "udp").increment(questions as u64);
    if let Some(started) = started {
        let each = started.elapsed().as_secs_f64() * 1000.0 / questions as f64;
        metrics::histogram!("dns.domain_query").record(each);
    }
}

/// The errands of one worker, which end with it.
pub(crate) struct Errands {
    handler: Arc<Handler>,
    runtime: Handle,
    tasks: JoinSet<()>,
}

impl Errands {
    pub(crate) fn new(handler: Arc<Handler>, runtime: Handle) -> Self {
        Self { handler, runtime, tasks: JoinSet::new() }
    }

    /// Runs an errand beside the worker's loop and hands its answer to `reply`.
    pub(crate) fn start(&mut self, errand: Box<Errand>, reply: impl FnOnce(&[u8]) + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let handler = self.handler.clone();
        let task = async move {
            if let Some(answer) = handler.run(errand).await {
                reply(&answer);
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }
}
