//! How nodes speak: listeners that keep limits.
//!
//! An [`Acceptor`] takes connections from a bound socket, counts them by client, watches over slow and idle ones
//! and hands their requests to a service. Whoever is beyond a limit is told so in HTTP. What a connection is made
//! of (today a TCP stream) is known to `acceptor.rs` only; everything behind it takes any byte stream.

mod admission;
mod pulse;
mod refusal;

mod acceptor;

pub use acceptor::{Acceptor, ClientAddress, Limits};
