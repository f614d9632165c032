//! Everything that can go wrong on the way to an answer, and the one place where it becomes a response.

use tribune_api::ApiError;
use tribune_api::decode::DecodeError;
use tribune_api::error::NO_CLUSTER_LEADER;

use crate::host::HostError;
use crate::reply::Reply;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Decided already, in Consul's words.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The body could not be read.
    #[error("{}", .0.path)]
    Decode(DecodeError),
    /// The datacenter did not answer.
    #[error(transparent)]
    Replica(#[from] tribune_raft::Error),
    /// The agreement refused.
    #[error(transparent)]
    Admin(#[from] tribune_raft::AdminError),
    /// The agent refused.
    #[error(transparent)]
    Agent(#[from] tribune_local::Error),
    /// The process refused.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(error) => error,
            Error::Decode(error) => error.into(),
            Error::Replica(error) => from_replica(error),
            Error::Admin(tribune_raft::AdminError::NoLeader(_)) => Self::server(NO_CLUSTER_LEADER),
            Error::Admin(error) => Self::server(error.to_string()),
            Error::Agent(error) => from_agent(error),
            Error::Host(HostError::BadRequest(text)) => Self::bad_request(text),
            Error::Host(HostError::NotFound(text)) => Self::not_found(text),
            Error::Host(HostError::Failed(text)) => Self::server(text),
        }
    }
}

/// A write that may have happened is told apart from one that did not: nothing is resent blindly.
fn from_replica(error: tribune_raft::Error) -> ApiError {
    use tribune_raft::Error::{Busy, Denied, DiskFull, NoLeader, Stopped, TooLong, Unknown};
    match error {
        NoLeader(_) => ApiError::server(NO_CLUSTER_LEADER).with_detail(error),
        Denied => ApiError::new(403, "Permission denied"),
        TooLong(_) => ApiError::new(413, error.to_string()),
        Busy => ApiError::new(429, error.to_string()),
        Unknown(_) | DiskFull { .. } | Stopped(_) => ApiError::server(error.to_string()),
    }
}

fn from_agent(error: tribune_local::Error) -> ApiError {
    use tribune_local::Error as Local;
    match error {
        Local::UnknownService(id) => ApiError::not_found(format!(
            "Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."
        )),
        Local::UnknownCheck(id) => ApiError::not_found(format!(
            "Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name."
        )),
        Local::NotTtl(id) => ApiError::server(format!("CheckID \"{id}\" does not have associated TTL")),
        Local::RemoteScriptsDisabled => ApiError::bad_request(
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
        ),
        Local::ScriptsDisabled => ApiError::bad_request(
            "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or \
             'enable_local_script_checks' to true",
        ),
        Local::InvalidCheck { reason, .. } => {
            ApiError::bad_request(format!("Invalid check: {}", tribune_api::convert::invalid_check(&reason)))
        }
        Local::DockerUnsupported(_) => ApiError::bad_request(format!("Invalid check: {error}")),
        other => ApiError::server(other.to_string()),
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        ApiError::from(error).into()
    }
}
