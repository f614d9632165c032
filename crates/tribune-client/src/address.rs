//! Where an agent is reached: plain HTTP, HTTPS, or a Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use crate::error::Error;

/// The address of one agent's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://host:port` or `https://host:port`; without a port, that of the scheme (80 or 443).
    Tcp(Url),
    /// `unix:///path/to/socket`.
    Unix(PathBuf),
}

impl Address {
    /// The address at which an agent listens unless it was told otherwise.
    pub fn local() -> Self {
        Self::from_str("http://127.0.0.1:8500").unwrap_or_else(|_| Self::Unix(PathBuf::new()))
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `host:port`, `http://host:port`, `https://host:port` or `unix:///path`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| {
            Error::Settings(format!(
                "the agent address {text:?} {reason}; write host:port, http://host:port, https://host:port or unix:///path"
            ))
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => Err(refuse("names no socket")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&full).map_err(|error| refuse(&format!("cannot be read ({error})")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse(&format!("has the unknown scheme {:?}", url.scheme())));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("has something behind the port"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds a user name or password, which would end up in logs"));
        }
        Ok(Self::Tcp(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(input.parse::<Address>().unwrap().to_string(), expected);
    }

    #[test]
    fn every_form_that_users_write_is_read() {
        check("127.0.0.1:8500", "http://127.0.0.1:8500");
        check("agent.example:8500", "http://agent.example:8500");
        check("[::1]:8500", "http://[::1]:8500");
        check("https://agent.example", "https://agent.example");
        check("http://localhost:8500/", "http://localhost:8500");
        check("unix:///run/tribune.sock", "unix:///run/tribune.sock");
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_that_work() {
        for bad in ["", "unix://", "ftp://h:1", "http://h:99999", "http://h:1/v1", "http://u:p@h:1"] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("write host:port"), "{bad:?}: {error}");
        }
    }
}
