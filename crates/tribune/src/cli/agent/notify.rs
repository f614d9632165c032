//! Tells systemd how far the agent is, when it was started by it (`Type=notify`).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// The agent serves.
pub(super) fn ready() {
    tell("READY=1");
}

/// The configuration is being read again.
pub(super) fn reloading() {
    tell("RELOADING=1");
}

/// The agent goes down.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(message: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").and_then(|name| name.into_string().ok()) else { return };
    if let Err(error) = send(&name, message) {
        warn!(%error, socket = name, "the service manager could not be told how far the agent is");
    }
}

/// A name that begins with `@` is not a path but a name in the system's own space.
fn send(name: &str, message: &str) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(rest) => SocketAddr::from_abstract_name(rest)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
