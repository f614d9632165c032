//! Ports for the agents: the usual ones where they are free, others where they are not. Demos that run at the same
//! time have addresses and favourite ports of their own, so that they need not race for them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// How many ports are drawn before giving up. On a machine with any port left the first few will do.
const DRAWS_MAX: usize = 64;

/// A demo holds this port at its first address for as long as it runs.
const CLAIM_PORT: u16 = 8299;
/// Demos that can run at a time.
const CLAIMS_MAX: u8 = 10;

/// Which of the demos on this machine this is. The number is nobody else's until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) number: u8,
    _listener: TcpListener,
}

impl Claim {
    /// Takes the first number that is free.
    pub(super) fn take() -> io::Result<Self> {
        for number in 0..CLAIMS_MAX {
            match TcpListener::bind((Ipv4Addr::new(127, number, 0, 1), CLAIM_PORT)) {
                Ok(listener) => return Ok(Self { number, _listener: listener }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        let why = format!(
            "{CLAIMS_MAX} demos run on this machine already, or something else has port {CLAIM_PORT}"
        );
        Err(io::Error::new(io::ErrorKind::AddrInUse, why))
    }
}

/// Chooses ports, none twice at the same address.
#[derive(Debug, Default)]
pub(super) struct Ports {
    chosen: BTreeSet<(Ipv4Addr, u16)>,
}

impl Ports {
    /// A port that is free at all `addresses`, over TCP and UDP: `favourite` if it can be had. Whoever listens
    /// there later may still find that somebody else was faster, and says so.
    pub(super) fn choose(&mut self, favourite: u16, addresses: &[Ipv4Addr]) -> io::Result<u16> {
        let mut candidate = favourite;
        for _ in 0..DRAWS_MAX {
            let usable = |&address: &Ipv4Addr| {
                !self.chosen.contains(&(address, candidate)) && is_free(address, candidate)
            };
            if addresses.iter().all(usable) {
                self.chosen.extend(addresses.iter().map(|&address| (address, candidate)));
                return Ok(candidate);
            }
            candidate = drawn(addresses)?;
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free at all addresses that the demo uses"))
    }
}

fn is_free(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok()
}

/// A port that the system gives.
fn drawn(addresses: &[Ipv4Addr]) -> io::Result<u16> {
    let address = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST);
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_left_alone_and_no_port_is_given_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        let mut ports = Ports::default();
        let first = ports.choose(taken, &[Ipv4Addr::LOCALHOST]).unwrap();
        let second = ports.choose(first, &[Ipv4Addr::LOCALHOST]).unwrap();
        assert!(first != taken && second != first);
    }

    #[test]
    fn no_two_demos_have_one_number() {
        let (first, second) = (Claim::take().unwrap(), Claim::take().unwrap());
        assert_ne!(first.number, second.number);
    }

    #[test]
    fn a_port_is_free_at_all_addresses() {
        let other = Ipv4Addr::new(127, 0, 0, 2);
        let socket = UdpSocket::bind((other, 0)).unwrap();
        let taken = socket.local_addr().unwrap().port();
        let port = Ports::default().choose(taken, &[Ipv4Addr::LOCALHOST, other]).unwrap();
        assert_ne!(port, taken);
    }
}
