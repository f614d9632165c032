//! Lines of the log about clients that are refused: one per client and interval, however often it comes back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long nothing is said of a client that something was said of. One whose certificate is wrong comes back several
/// times a second.
const INTERVAL: Duration = Duration::from_secs(30);
/// Most clients that are remembered; beyond it all are forgotten, which costs a line each.
const CLIENTS_MAX: usize = 256;

/// What was told of whom.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<IpAddr, Last>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    /// How often nothing was said since.
    held_back: u64,
}

impl Told {
    /// Whether the log is to be told of this client now; if so, how often it was not since the last time.
    pub(crate) fn speak(&self, client: IpAddr, now: Instant) -> Option<u64> {
        let mut clients = self.0.lock();
        if let Some(last) = clients.get_mut(&client) {
            if now.saturating_duration_since(last.at) < INTERVAL {
                last.held_back += 1;
                return None;
            }
            last.at = now;
            return Some(std::mem::take(&mut last.held_back));
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(client, Last { at: now, held_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_of_once_per_interval() {
        let (told, begun) = (Told::default(), Instant::now());
        let client = |last| IpAddr::from([127, 0, 0, last]);
        assert_eq!(told.speak(client(1), begun), Some(0));
        assert_eq!(told.speak(client(1), begun + INTERVAL / 2), None);
        assert_eq!(told.speak(client(2), begun + INTERVAL / 2), Some(0));
        assert_eq!(told.speak(client(1), begun + INTERVAL), Some(1));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let (told, now) = (Told::default(), Instant::now());
        for client in 0..1000_u32 {
            assert_eq!(told.speak(IpAddr::from(client.to_be_bytes()), now), Some(0));
            assert!(told.0.lock().len() <= CLIENTS_MAX);
        }
    }
}
