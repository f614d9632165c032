//! What a caller is told when something is wrong: a status code and Consul's plain text, with what only the log
//! may know kept apart.

use tribune_core::Refusal;

/// An error on its way to a client. Its body is [`ApiError::message`] and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub status: u16,
    /// The body: Consul's text where Consul has one, since clients match it.
    pub message: String,
    /// What the log should hold beside it. Never sent.
    pub detail: Option<String>,
}

/// Text of an answer when the datacenter has no leader; clients look for it.
pub const NO_CLUSTER_LEADER: &str = "No cluster leader";
/// Text of an answer when no way leads to the datacenter that was asked for.
pub const NO_PATH_TO_DATACENTER: &str = "No path to datacenter";
/// Text of a client agent's answer when it knows no server to ask.
pub const NO_KNOWN_SERVERS: &str = "No known Consul servers";
/// Text of an answer when the datacenter is known but nobody there answers.
pub const REMOTE_DC_UNREACHABLE: &str = "Remote DC has no server currently reachable";
/// Text of an answer when a new leader cannot vouch for consistent reads yet.
pub const NOT_READY: &str = "Not ready to serve consistent reads";

impl ApiError {
    /// An error with any status.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), detail: None }
    }

    /// The request is malformed (400).
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is no such thing (404).
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// The server could not do it (500). Consul also answers so to requests that its servers, not its agents,
    /// find wrong.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    /// The method is not one of this path's (405).
    pub fn method_not_allowed(method: &str) -> Self {
        Self::new(405, format!("method {method} not allowed"))
    }

    /// Adds what the log should know.
    #[must_use]
    pub fn with_detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }
}

impl From<Refusal> for ApiError {
    /// A command that the state refused. Consul raises these on its servers, hence 500.
    fn from(refusal: Refusal) -> Self {
        Self::server(match refusal {
            Refusal::Kv { key, why } => crate::txn::refused_key(key.as_str(), &why),
            Refusal::Session(refusal) => crate::convert::refused_session(&refusal),
            Refusal::Transaction(errors) => return crate::txn::refused(&errors),
            Refusal::NodeNameTaken { name, holder, holder_address, id } => format!(
                "failed inserting node: Error while renaming Node ID: \"{id}\": Node name {name} is reserved by \
                 node {holder} with name {name} ({holder_address})"
            ),
            Refusal::Query(refusal) => refusal.to_string(),
            Refusal::AutopilotMoved => "the autopilot configuration has changed since it was read".to_owned(),
            Refusal::MissingInstance { node, instance } => format!(
                "failed inserting check: Missing service registration on node \"{node}\": it has no service \
                 instance \"{instance}\""
            ),
        })
    }
}
