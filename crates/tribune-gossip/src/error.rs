//! Why a pool cannot be started.

use crate::keyring::KeyringFileError;

/// Why a pool cannot be started. The texts say what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error("gossip configuration: {0}")]
    Config(String),
    /// A socket cannot be used.
    #[error("gossip socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The keyring's file cannot be used.
    #[error(transparent)]
    KeyringFile(#[from] KeyringFileError),
}
