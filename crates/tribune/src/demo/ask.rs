//! One HTTP question to an agent, as `curl -i` asks it: status, headers and body, and how long it took.
//!
//! The version is HTTP/1.0, with which an answer ends where its connection ends.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read, in bytes: the demo's own are a hundredth of that.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) took: Duration,
}

impl Reply {
    /// A header by its name in any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// How many things the list in the body holds.
    pub(super) fn count(&self) -> usize {
        self.json().as_array().map_or(0, Vec::len)
    }
}

/// Asks for `target` (`/v1/…?…`), and waits so long for the whole answer.
pub(super) async fn get(
    agent: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Reply> {
    let began = Instant::now();
    let mut request = format!("GET {target} HTTP/1.0\r\nHost: {agent}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(agent).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
        io::Result::Ok(bytes)
    };
    let bytes = timeout(patience, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let text = String::from_utf8_lossy(&bytes);
    read(&text, began.elapsed())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn read(text: &str, took: Duration) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Some(Reply { status, headers, body: body.to_owned(), took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let text = "HTTP/1.0 200 OK\r\nX-Consul-Index: 7\r\nage:  3\r\n\r\n[1,2]";
        let reply = read(text, Duration::ZERO).unwrap();
        assert_eq!((reply.status, reply.header("x-consul-index"), reply.count()), (200, Some("7"), 2));
        assert_eq!(reply.header("Age"), Some("3"));
        assert_eq!(reply.header("X-Cache"), None);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n"] {
            assert_eq!(read(text, Duration::ZERO), None, "{text:?}");
        }
    }
}
