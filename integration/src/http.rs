//! One HTTP/1.1 exchange over a socket, byte for byte as written.
//!
//! A client library would tidy up what the tests send on purpose: paths with `//` and `..`, odd methods,
//! bodies that are not UTF-8, half a request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longer than any wait a test asks for: an exchange that takes more is stuck.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(60);
/// Read at once.
const READ_BYTES: usize = 16 << 10;

/// A request as it goes onto the wire; `Host`, `Connection` and `Content-Length` are added.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Any token, also wrong ones.
    pub method: String,
    /// Path and query, sent as they are.
    pub target: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Any bytes.
    pub body: Vec<u8>,
}

/// What came back; the body is whole and de-chunked.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers in the order received, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), ..Self::default() }
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub fn send(&self, address: SocketAddr) -> Result<Answer> {
        self.send_within(address, EXCHANGE_LIMIT)
    }

    /// The same, given up after `limit`; then nobody knows whether the server did it.
    pub fn send_within(&self, address: SocketAddr, limit: Duration) -> Result<Answer> {
        let deadline = Instant::now() + limit;
        let mut stream = TcpStream::connect_timeout(&address, limit)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_write_timeout(Some(limit))?;
        // A server may answer and close before it has read a body that it does not want.
        let written = stream.write_all(&self.bytes());
        let mut received = Vec::new();
        let read = read_to_end(&mut stream, &mut received, deadline);
        if received.is_empty() {
            written.context("the server closed before it read the request")?;
            read.context("the server did not answer")?;
            bail!("the server closed without an answer");
        }
        let answer = Answer::parse(&received)?;
        let promised = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        // The answer to a HEAD tells the length of a body that does not come.
        if self.method != "HEAD" && promised.is_some_and(|promised| answer.body.len() < promised) {
            bail!("an answer cut after {} bytes of its body", answer.body.len());
        }
        Ok(answer)
    }

    /// Sends a write: whether the server said within `limit` that it is done. If not, it may be done all the same.
    pub fn acknowledged(&self, to: SocketAddr, limit: Duration) -> bool {
        self.send_within(to, limit).is_ok_and(|answer| answer.status == 200 && answer.text() == "true")
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, target, headers, body } = self;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method != "GET" {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

impl Answer {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {} {}", self.status, self.text()))
    }

    /// Reads the bytes of a whole answer.
    pub fn parse(received: &[u8]) -> Result<Self> {
        let end = received
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .context("an answer without end of head")?;
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not a status line: {first}"))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = Self { status, headers, body: Vec::new() };
        let rest = &received[end + 4..];
        let chunked =
            answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        answer.body = if chunked { dechunk(rest)? } else { rest.to_vec() };
        Ok(answer)
    }
}

/// Reads until the server closes; an error is a connection that broke or took too long.
fn read_to_end(stream: &mut TcpStream, received: &mut Vec<u8>, deadline: Instant) -> Result<()> {
    let mut part = vec![0; READ_BYTES];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no whole answer in time");
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(()),
            length => received.extend_from_slice(&part[..length]),
        }
    }
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line =
            rest.windows(2).position(|window| window == b"\r\n").context("an answer cut inside a chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?.trim(), 16)?;
        let (from, to) = (line + 2, line + 2 + size);
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(from..to).context("an answer cut inside a chunk")?);
        rest = rest.get(to + 2..).context("an answer cut after a chunk")?;
    }
}
