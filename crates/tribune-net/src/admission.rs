//! Who may connect: counts of open connections, in total and by client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The client has as many connections as one client may have.
    Client,
    /// The server has as many connections as it can hold.
    Total,
}

/// The counts. Consulted once per connection, never per request.
#[derive(Debug)]
pub(crate) struct Admission {
    total_max: usize,
    per_client_max: Option<usize>,
    loopback_limited: bool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The right to one open connection; given back when dropped, however the connection ends.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    pub(crate) fn new(total_max: usize, per_client_max: Option<usize>, loopback_limited: bool) -> Self {
        Self { total_max, per_client_max, loopback_limited, open: Mutex::default() }
    }

    /// Counts one more connection of `client`, or says which limit it would break.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Ticket, Excess> {
        let client = client.to_canonical();
        let limit = self.per_client_max.filter(|_| self.loopback_limited || !client.is_loopback());
        let mut open = self.open.lock();
        if open.total >= self.total_max {
            return Err(Excess::Total);
        }
        let count = open.by_client.get(&client).copied().unwrap_or(0);
        if limit.is_some_and(|limit| count >= limit) {
            return Err(Excess::Client);
        }
        open.by_client.insert(client, count + 1);
        open.total += 1;
        Ok(Ticket { admission: Arc::clone(self), client })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock();
        open.total -= 1;
        if let Some(count) = open.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_client_has_a_share_and_gets_it_back() {
        let admission = Arc::new(Admission::new(10, Some(2), false));
        let first = admission.admit(ALICE).unwrap();
        let _second = admission.admit(ALICE).unwrap();
        assert_eq!(admission.admit(ALICE).unwrap_err(), Excess::Client);
        assert_eq!(admission.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap_err(), Excess::Client);
        let _other = admission.admit(BOB).unwrap();
        drop(first);
        assert!(admission.admit(ALICE).is_ok());
    }

    #[test]
    fn loopback_is_exempt_from_the_share_but_not_from_the_total() {
        let admission = Arc::new(Admission::new(3, Some(1), false));
        let tickets: Vec<_> = (0..3).map(|_| admission.admit(LOOPBACK).unwrap()).collect();
        assert_eq!(admission.admit(LOOPBACK).unwrap_err(), Excess::Total);
        drop(tickets);
        assert!(admission.open.lock().by_client.is_empty());
        let strict = Arc::new(Admission::new(3, Some(1), true));
        let _one = strict.admit(LOOPBACK).unwrap();
        assert_eq!(strict.admit(LOOPBACK).unwrap_err(), Excess::Client);
    }
}
