//! How nodes speak: listeners that keep limits, mutual TLS, and one pooled HTTP/2 client.
//!
//! An [`Acceptor`] takes connections from a bound socket, counts them by client, watches over slow and idle ones
//! and hands their requests to a service. Whoever is beyond a limit is told so in HTTP. With [`Tls`] it performs the
//! handshake first and every request says who asks ([`PeerIdentity`]). A [`Dialer`] is the other end: it holds one
//! connection per [`Endpoint`] and tells a request that was certainly not processed from one that may have been.
//! Only this crate knows what a certificate is; [`authority`] makes them.

mod certificates;
mod identity;
mod trust;

mod admission;
mod handshake;
mod pulse;
mod refusal;
mod socket;
mod told;

mod body;
mod crew;
mod failure;
mod line;

mod acceptor;
pub mod authority;
mod dialer;
mod reverse;

pub use acceptor::{Acceptor, ClientAddress, Limits};
pub use body::PeerBody;
pub use certificates::{Tls, TlsError, TlsFiles, TlsVersion};
pub use dialer::{Dialer, Endpoint, Pace};
pub use failure::DialError;
pub use identity::{PeerIdentity, PeerRole};
pub use reverse::{ReverseConnection, ReverseRegistry, ReverseRoad};
pub use trust::ClientAuth;
