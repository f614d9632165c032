//! Small real HTTP servers that can be killed and come back on the same port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

/// A client that says nothing for this long is dropped.
const CLIENT_LIMIT: Duration = Duration::from_secs(2);

/// Answers every request with its own name; `/metrics` in a form that Prometheus reads.
pub struct Backend {
    name: String,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Backend {
    /// Starts a server on a loopback address and a port of the system's choice.
    pub fn start(name: &str, host: Ipv4Addr) -> Result<Self> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?;
        let running = Some(Running::on(listener, name.to_owned()));
        Ok(Self { name: name.to_owned(), address, running })
    }

    /// The name that it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, or listened.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listening socket: connections are refused from now on.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
            // A connection wakes the thread out of its wait; when that fails it has ended already.
            let _ = TcpStream::connect(self.address);
            let _ = running.thread.join();
        }
    }

    /// Listens again on the same port.
    pub fn revive(&mut self) -> Result<()> {
        self.kill();
        self.running = Some(Running::on(TcpListener::bind(self.address)?, self.name.clone()));
        Ok(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    fn on(listener: TcpListener, name: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A client that goes away is its own business.
                    let _ = answer(stream, &name);
                }
            }
        });
        Self { stop, thread }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> Result<()> {
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    let metrics = request[..length].starts_with(b"GET /metrics");
    let body = if metrics { "backend_up 1\n".to_owned() } else { name.to_owned() };
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
    stream.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
    Ok(())
}
