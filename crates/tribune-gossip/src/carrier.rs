//! What carries packets and exchanges to other members. The pool of a datacenter brings its own (`lan.rs`); the
//! pool of all servers is given one that goes through HTTP/2 inside mutual TLS; tests bring one that loses,
//! delays and cuts.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use tribune_core::Datacenter;

/// Largest packet that is handed to a carrier. Fits the smallest path of IPv6 (1280 bytes) with its headers.
pub const PACKET_BYTES_MAX: usize = 1232;

/// Largest request or answer of an exchange. The full state of ten thousand members with their tags fits.
pub const EXCHANGE_BYTES_MAX: usize = 8 << 20;

/// Where a member is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The socket it listens on.
    pub socket: SocketAddr,
    /// The datacenter it said it belongs to; `None` before the first exchange with it.
    pub datacenter: Option<Datacenter>,
}

/// Carries packets and exchanges.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Sends a packet. It may get lost; nothing is reported.
    async fn packet(&self, to: &Address, bytes: Bytes);

    /// Sends a request and returns the answer. The caller bounds the time; dropping the future must end the
    /// attempt.
    async fn exchange(&self, to: &Address, bytes: Bytes) -> Result<Bytes, CarrierError>;
}

/// Why an exchange gave no answer; a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CarrierError(pub String);
