//! What can go wrong, sorted by what the caller can do about it.

use std::time::Duration;

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The client was set up with something unusable. Correct the settings; trying again will not help.
    #[error("{0}")]
    Settings(String),
    /// A name or argument cannot be sent. Correct the call.
    #[error("{0}")]
    Argument(String),
    /// An agent answered, and refused. Nothing was done. Change the request, or the permissions behind it.
    #[error("unexpected response code: {status} ({message})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The agent's own words.
        message: String,
    },
    /// No agent could serve the request, and nothing was done. Try later, or look after the agents.
    #[error("failed after {attempts} attempts: {last}")]
    Unavailable {
        /// How often all agents that could be asked were asked.
        attempts: u32,
        /// What happened last.
        last: Failure,
    },
    /// A change was sent and no answer came: it may or may not have happened. Look before sending it again.
    #[error("the outcome of a change is unknown: {0}; look whether it happened before you repeat it")]
    Unknown(Failure),
    /// The answer is not what this client understands, or is larger than its limit. Is this a Tribune agent?
    #[error("the answer of {address} cannot be used: {reason}")]
    Malformed {
        /// Who answered.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Only a remembered answer is at hand, and a fresh one was demanded.
    #[error("no agent answers; the last known answer is {} s old", age.as_secs())]
    Outdated {
        /// Time since the answer was given.
        age: Duration,
    },
}

/// Why one try with one agent came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The connection could not be made: the request was never sent.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The agent.
        address: String,
        /// The system's or TLS's reason.
        reason: String,
    },
    /// No answer came in time.
    #[error("{address} gave no answer within {} ms", after.as_millis())]
    Timeout {
        /// The agent.
        address: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// The agent.
        address: String,
        /// The system's reason.
        reason: String,
    },
    /// The agent answered that it cannot serve.
    #[error("unexpected response code: {status} ({message})")]
    Answered {
        /// HTTP status.
        status: u16,
        /// The agent's own words.
        message: String,
    },
    /// Too many calls to all agents failed lately; none is bothered until one has had time to recover.
    #[error("all agents failed lately; the next is tried in {} s", retry_in.as_secs_f32().ceil())]
    Resting {
        /// Time until a request is let through again.
        retry_in: Duration,
    },
}
