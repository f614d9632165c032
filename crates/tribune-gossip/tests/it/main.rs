//! Pools together: on loopback sockets, and on a simulated network with paused time.

mod fabric;
mod loopback;
mod simulated;
mod support;
mod traffic;
