//! What a client beyond a limit hears: a whole HTTP answer, never a connection that just ends.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::admission::Excess;

/// How many refusals are being spoken at a time. Beyond it no more connections are accepted until one is done;
/// those that wait are held by the kernel.
pub(crate) const REFUSALS_MAX: usize = 64;

/// How long a client has to send something, and then to take its refusal.
const PATIENCE: Duration = Duration::from_secs(1);

/// After how many seconds a client beyond a limit may try again.
const RETRY_AFTER_SECS: u32 = 1;

/// Tells the client why it is not served, and closes.
pub(crate) async fn speak<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T, excess: Excess, text: &str) {
    let text = match excess {
        Excess::Client => text,
        Excess::Total => {
            "this server has as many connections as it may hold; try again shortly or another server"
        }
    };
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Retry-After: {RETRY_AFTER_SECS}\r\nConnection: close\r\n\r\n{text}",
        text.len(),
    );
    let mut scratch = [0; 1024];
    // Answering before anything was asked would look like an answer to nothing.
    let _asked = timeout(PATIENCE, stream.read(&mut scratch)).await;
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and could take the answer with it.
        while stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _told = timeout(PATIENCE, told).await;
}
