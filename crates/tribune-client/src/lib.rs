//! The Rust client for applications and for the command line.
//!
//! A [`Client`] knows one or several agents. It asks one after the other, repeats what may be repeated (with
//! growing, random pauses), leaves agents alone that fail again and again, and remembers the last good answers
//! for the time when all agents are away. A [`Question`] is a value: [`Client::ask`] answers it once,
//! [`Client::watch`] follows it.
//!
//! ```no_run
//! use tribune_client::{Client, Config, catalog};
//!
//! # async fn run() -> Result<(), tribune_client::Error> {
//! let client = Client::new(Config::default())?;
//! let services = client.ask(&catalog::services()).await?;
//! println!("{:?} at index {}", services.value, services.index);
//! # Ok(())
//! # }
//! ```
//!
//! What is repeated: reads always; changes only while it is certain that nothing was done, because sending an old
//! change again could undo a newer one. A change whose answer is lost ends in [`Error::Unknown`].
//!
//! Read the modules in this order.

mod address;
mod config;
mod error;

pub mod breaker;
pub mod retry;

mod request;

mod question;

mod endpoint;

mod answer;

mod last_known;

mod client;

mod watch;

mod snapshot;

pub mod agent;
pub mod catalog;
pub mod coordinate;
pub mod event;
pub mod health;
pub mod kv;
pub mod lock;
pub mod operator;
pub mod session;
pub mod status;

pub use address::Address;
pub use answer::{Answer, Source};
pub use client::Client;
pub use config::{Config, Tls, Token};
pub use error::{Error, Failure};
pub use question::Question;
pub use watch::Watch;
