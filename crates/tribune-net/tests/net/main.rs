//! Traffic between nodes over real loopback sockets: who is let in, what a dialer makes of a bad peer, and
//! connections that carry requests back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod node;
mod pki;

mod certificates;
mod dialer;
mod reload;
mod reverse;
mod strangers;
