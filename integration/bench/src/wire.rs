//! A lean HTTP/1.1 client connection, kept open between requests.
//!
//! A general client would spend more processor time per request than the servers measured here, and on a
//! machine of two cores the load generator would then be what is measured. It reads bodies with a length and
//! chunked bodies, and nothing else that the two servers do not send.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger answers than any figure asks for; a server that sends more is broken.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// One answer; `body` is whole and de-chunked.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// `X-Consul-Index`, where the answer carries it.
    pub(crate) index: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// An open connection to one server.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

struct Head {
    length: usize,
    status: u16,
    index: Option<u64>,
    content_length: Option<usize>,
    chunked: bool,
}

/// The bytes of a request; made once and sent many times.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Bytes {
    let length = body.len();
    Bytes::from(format!("{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n{body}"))
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Response> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let body = if head.chunked { self.chunks(head.length).await? } else { self.sized(&head).await? };
        Ok(Response { status: head.status, index: head.index, body })
    }

    async fn head(&mut self) -> Result<Head> {
        loop {
            if let Some(length) = find(&self.buffer, b"\r\n\r\n") {
                return parse_head(&self.buffer[..length], length + 4);
            }
            self.more().await?;
        }
    }

    async fn sized(&mut self, head: &Head) -> Result<Vec<u8>> {
        let end = head.length + head.content_length.unwrap_or(0);
        while self.buffer.len() < end {
            self.more().await?;
        }
        let body = self.buffer[head.length..end].to_vec();
        self.buffer.drain(..end);
        Ok(body)
    }

    async fn chunks(&mut self, start: usize) -> Result<Vec<u8>> {
        let (mut body, mut at) = (Vec::new(), start);
        loop {
            let Some(line) = find(&self.buffer[at..], b"\r\n") else {
                self.more().await?;
                continue;
            };
            let size = std::str::from_utf8(&self.buffer[at..at + line])?;
            let size = usize::from_str_radix(size.trim(), 16).context("unreadable chunk size")?;
            let (from, end) = (at + line + 2, at + line + 2 + size + 2);
            while self.buffer.len() < end {
                self.more().await?;
            }
            body.extend_from_slice(&self.buffer[from..from + size]);
            at = end;
            if size == 0 {
                self.buffer.drain(..at);
                return Ok(body);
            }
        }
    }

    async fn more(&mut self) -> Result<()> {
        if self.buffer.len() > RESPONSE_BYTES_MAX {
            bail!("answer larger than {RESPONSE_BYTES_MAX} bytes");
        }
        self.buffer.reserve(4096);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

fn parse_head(head: &[u8], length: usize) -> Result<Head> {
    let text = std::str::from_utf8(head).context("head is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?.parse()?;
    let mut parsed = Head { length, status, index: None, content_length: None, chunked: false };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.content_length = Some(value.parse()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            parsed.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("x-consul-index") {
            parsed.index = value.parse().ok();
        }
    }
    Ok(parsed)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
