//! What the services are made of: HTTP servers of a few lines, each at an address of its own, that can be stopped
//! and started again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections served at a time: checks and a person with curl need two.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take.
const CLIENT_WAIT: Duration = Duration::from_secs(2);
/// Longest request that is read, in bytes. Of all that it says only its end matters.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// An instance; dropping it stops it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    greeting: Arc<str>,
    /// Its one task, while it runs.
    running: JoinSet<()>,
}

impl Instance {
    /// An instance that greets with its name and its datacenter. It does not run yet.
    pub(super) fn new(id: &str, datacenter: &str, address: SocketAddr) -> Self {
        let greeting = format!("{id} of {datacenter} at {address}\n").into();
        Self { id: id.to_owned(), address, greeting, running: JoinSet::new() }
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Listens and answers from now on.
    pub(super) async fn start(&mut self) -> io::Result<()> {
        if !self.is_running() {
            let listener = TcpListener::bind(self.address).await?;
            self.running.spawn(serve(listener, self.greeting.clone()));
        }
        Ok(())
    }

    /// Stops as a process does that is killed: connections break, and nobody listens any more.
    pub(super) async fn stop(&mut self) {
        self.running.shutdown().await;
    }
}

async fn serve(listener: TcpListener, greeting: Arc<str>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    clients.spawn(timeout(CLIENT_WAIT, answer(stream, greeting.clone())));
                }
                // The system is short of something; it says so to everybody, and this is not the place.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Answers one request of whatever kind.
async fn answer(mut stream: TcpStream, greeting: Arc<str>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let length = greeting.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(greeting.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ask;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn it_answers_until_it_is_stopped_and_comes_back() {
        // No connection of another test takes a port at this address.
        let address = TcpListener::bind("127.0.0.77:0").await.unwrap().local_addr().unwrap();
        let mut instance = Instance::new("web-1", "dc1", address);
        for _ in 0..2 {
            instance.start().await.unwrap();
            let reply = ask::get(address, "/", &[], PATIENCE).await.unwrap();
            assert_eq!((reply.status, reply.body), (200, format!("web-1 of dc1 at {address}\n")));
            instance.stop().await;
            assert!(!instance.is_running());
            assert!(ask::get(address, "/", &[], PATIENCE).await.is_err());
        }
    }
}
