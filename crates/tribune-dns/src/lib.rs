//! The DNS server: packets in, `tribune_core::dns` decides, packets out.
//!
//! UDP is served by one thread per socket, which reads, answers and sends in batches (one by one where the socket
//! listens on all addresses); TCP by a task per connection. All hand each packet to the same handler. Answers from
//! our own datacenter never wait: they are made from the newest state at hand and kept, ready to send, until that
//! state changes. Only names that are not ours (recursors), other datacenters and, where no catalog is held, servers
//! are waited for, off the threads that read.
//!
//! Reading odd packets and other servers' answers is left to hickory. Its server loop and its encoder are not
//! used: the loop bounds neither tasks nor connections, and the encoder cannot tell how much will fit.
//!
//! What is counted: `dns.queries` (by transport), `dns.domain_query` (milliseconds per question, of one batch in
//! 64), `dns.truncated` (answers that left records out), `dns.rate_limited`, `dns.refused`, `dns.recursion`,
//! `dns.recursion_failed`, `dns.overloaded`, `dns.tcp_refused`.

mod config;
mod source;

mod sockets;

mod convert;

mod handler;

mod cache;

mod rate;

mod recurse;

mod batch;
mod udp;
mod wildcard;

mod tcp;

use std::io;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use config::{Config, LiveConfig, RateLimit, RecursorStrategy};
pub use sockets::Sockets;
pub use source::{Found, NoOtherDatacenters, Own, RemoteError, RemoteLookup, Source, TopicLookup};

use handler::Handler;

/// Who knows the answers.
#[derive(Clone)]
pub struct Sources {
    /// Our own datacenter.
    pub own: Own,
    /// The other ones.
    pub remote: Arc<dyn RemoteLookup>,
}

/// Answers on `sockets` until `shutdown`; then every thread and connection has ended. Must be called on a
/// multi-threaded tokio runtime.
///
/// Fails when a socket cannot be set up.
pub async fn serve(
    sockets: Vec<Sockets>,
    sources: Sources,
    config: LiveConfig,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Threads cannot be aborted: should this future be dropped, the guard tells them to end.
    let shutdown = shutdown.child_token();
    let _ended = shutdown.clone().drop_guard();
    let own = sockets.iter().map(Sockets::local_addr).collect::<io::Result<Vec<_>>>()?;
    let settings = config.load();
    if recurse::usable(&settings, &own).count() < settings.recursors.len() {
        warn!("recursors holds our own dns address, which is left out: take it out of the list");
    }
    let handler = Arc::new(Handler::new(sources.own, sources.remote, config, own.clone()));
    let runtime = tokio::runtime::Handle::current();
    let mut tasks = JoinSet::new();
    for sockets in sockets {
        for socket in sockets.udp {
            let (handler, runtime, shutdown) = (handler.clone(), runtime.clone(), shutdown.clone());
            if socket.local_addr()?.ip().is_unspecified() {
                let worker = wildcard::Worker::new(socket, handler, runtime)?;
                tasks.spawn_blocking(move || worker.run(&shutdown));
            } else {
                let worker = udp::Worker::new(socket, handler, runtime)?;
                tasks.spawn_blocking(move || worker.run(&shutdown));
            }
        }
        sockets.tcp.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(sockets.tcp)?;
        tasks.spawn(tcp::serve(listener, handler.clone(), shutdown.clone()));
    }
    info!(addresses = ?own, "dns server listens");
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            shutdown.cancel();
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}
