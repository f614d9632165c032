//! Carries packets away from the loop, which must not wait for a network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::carrier::{Address, Carrier};

/// Packets on their way at a time; the rest waits in the queue or is dropped before it.
const IN_FLIGHT_MAX: usize = 256;

/// A packet that takes longer is of no use any more.
const PACKET_TIME: Duration = Duration::from_secs(5);

/// Runs until the loop has ended, and then for a moment longer.
pub(crate) async fn courier(
    carrier: Arc<dyn Carrier>,
    mut packets: mpsc::Receiver<(Address, Bytes)>,
    flush_time: Duration,
) {
    let mut flying = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = flying.join_next(), if !flying.is_empty() => {}
            packet = packets.recv(), if flying.len() < IN_FLIGHT_MAX => {
                let Some((to, bytes)) = packet else { break };
                let carrier = carrier.clone();
                flying.spawn(async move {
                    let _ = timeout(PACKET_TIME, carrier.packet(&to, bytes)).await;
                });
            }
        }
    }
    let _ = timeout(flush_time, async { while flying.join_next().await.is_some() {} }).await;
}
