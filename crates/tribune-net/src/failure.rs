//! What can become of a request to another node.

use std::error::Error;
use std::io;

/// Why there is no answer. The variants tell what may be done next: after [`DialError::Unreachable`] and
/// [`DialError::Refused`] the request was certainly not processed, after the others it may have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No connection came about; certainly not processed. Another node, or the same one later, may answer.
    #[error("{0}")]
    Unreachable(String),
    /// The connection ended under the request, or its answer was of no use; it may have been processed.
    #[error("{0}")]
    Lost(String),
    /// The answer did not come, or did not end, in time; it may have been processed.
    #[error("the answer did not come in time")]
    TimedOut,
    /// One side will not talk to the other (a certificate, a limit); certainly not processed, and asking the same
    /// node again is of no use until somebody changes something.
    #[error("{0}")]
    Refused(String),
}

impl DialError {
    /// Whether the other side has certainly not acted on the request.
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused(_))
    }

    /// The same failure with the name of the other side in front of its text.
    pub(crate) fn of(self, whom: impl std::fmt::Display) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unreachable(format!("{whom}: {why}")),
            Self::Lost(why) => Self::Lost(format!("{whom}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{whom}: {why}")),
            Self::TimedOut => Self::TimedOut,
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The error of TLS that an error of a stream stands for.
pub(crate) fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What a failed handshake means: a judgement on a certificate is a refusal, everything else may pass.
pub(crate) fn of_handshake(error: &io::Error) -> DialError {
    match of_tls(error) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            DialError::Refused(format!("its certificate is not accepted: {}", judged(why)))
        }
        Some(rustls::Error::AlertReceived(alert)) => DialError::Refused(format!(
            "it refused the connection ({alert:?}): it must know the CA of our certificate, and our certificate must be \
             valid now and of the role it asks for"
        )),
        Some(rustls::Error::InvalidMessage(_)) => DialError::Refused(
            "it does not speak TLS there: set up its certificates, or another port".to_owned(),
        ),
        Some(other) => DialError::Refused(other.to_string()),
        None => DialError::Unreachable(format!("the TLS handshake ended early: {error}")),
    }
}

/// What is wrong with a certificate, in words.
pub(crate) fn judged(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, Other, UnknownIssuer,
    };
    match error {
        // A bad signature is that of another CA which has the name of one of ours.
        UnknownIssuer | BadSignature => {
            "no CA that we know issued it; ca_file must hold the CA of both sides".to_owned()
        }
        Expired | ExpiredContext { .. } => {
            format!("{error}; renew it with `tribune tls cert create` and reload")
        }
        NotValidYet | NotValidYetContext { .. } => format!("{error}; look at the clocks of both sides"),
        Other(other) => other.to_string(),
        _ => error.to_string(),
    }
}
