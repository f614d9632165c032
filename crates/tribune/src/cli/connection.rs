//! How a command reaches its agent: flags that all of them share, and the environment variables behind them.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tribune_client::{Address, Client, Config, Question, Tls, Token, retry};

/// Flags of every command that asks an agent.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP API Options")]
pub(super) struct Connection {
    /// Address and port of the agent: host:port, http://…, https://… or unix:///path/to/socket.
    #[arg(long, env = "CONSUL_HTTP_ADDR", value_name = "ADDRESS")]
    http_addr: Option<String>,
    /// Token to send with requests.
    #[arg(long, env = "CONSUL_HTTP_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the token.
    #[arg(long, env = "CONSUL_HTTP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the CA certificate that the agent's certificate is checked against.
    #[arg(long, env = "CONSUL_CACERT", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Directory of CA certificates that the agent's certificate is checked against.
    #[arg(long, env = "CONSUL_CAPATH", value_name = "DIRECTORY")]
    ca_path: Option<PathBuf>,
    /// File with the certificate shown to an agent that asks for one.
    #[arg(long, env = "CONSUL_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// File with the key of the client certificate.
    #[arg(long, env = "CONSUL_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Name expected in the agent's certificate.
    #[arg(long, env = "CONSUL_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,
}

/// Flags of every command that servers answer.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP API Options")]
pub(super) struct Scope {
    /// Datacenter to ask; without it, that of the agent.
    #[arg(long)]
    datacenter: Option<String>,
    /// Takes the answer of any server, also of one that does not lead.
    #[arg(long)]
    stale: bool,
}

impl Scope {
    /// Whether any server may answer.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The datacenter that is named, if one is.
    pub(super) fn datacenter(&self) -> Option<&str> {
        self.datacenter.as_deref().filter(|name| !name.is_empty())
    }

    /// Puts the scope into a question.
    pub(super) fn narrow<T>(&self, mut question: Question<T>) -> Question<T> {
        if let Some(name) = self.datacenter() {
            question = question.datacenter(name);
        }
        if self.stale { question.stale() } else { question }
    }
}

impl Connection {
    /// A client with these settings. It asks once: a person at a terminal decides whether to try again.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let config = Config {
            addresses: vec![self.address(flag("CONSUL_HTTP_SSL"))?],
            token: self.token()?,
            credentials: credentials(std::env::var("CONSUL_HTTP_AUTH").ok().as_deref()),
            tls: self.tls(std::env::var("CONSUL_HTTP_SSL_VERIFY").ok().as_deref())?,
            retry: retry::Policy::once(),
            request_timeout: REQUEST_TIMEOUT,
            answers_kept_max: 0,
            ..Config::default()
        };
        Ok(Client::new(config)?)
    }

    fn address(&self, tls: bool) -> anyhow::Result<Address> {
        let text = self.http_addr.as_deref().filter(|text| !text.is_empty()).unwrap_or("127.0.0.1:8500");
        let full = if tls && !text.contains("://") { format!("https://{text}") } else { text.to_owned() };
        Ok(full.parse::<Address>()?)
    }

    /// As in Consul's tools the file wins over the token itself.
    fn token(&self) -> anyhow::Result<Option<Token>> {
        let from_file = match given(self.token_file.as_ref()) {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("Error loading token file {}", file.display()))?;
                Some(text.trim().to_owned())
            }
            None => None,
        };
        let token = from_file.filter(|text| !text.is_empty()).or_else(|| self.token.clone());
        Ok(token.filter(|text| !text.is_empty()).map(Token::new))
    }

    fn tls(&self, verify: Option<&str>) -> anyhow::Result<Tls> {
        let mut authorities = Vec::new();
        if let Some(file) = given(self.ca_file.as_ref()) {
            authorities.push(read(file)?);
        } else if let Some(directory) = given(self.ca_path.as_ref()) {
            let entries = std::fs::read_dir(directory)
                .with_context(|| format!("cannot read the directory {}", directory.display()))?;
            for entry in entries {
                authorities.push(read(&entry?.path())?);
            }
        }
        Ok(Tls {
            authorities,
            certificate: given(self.client_cert.as_ref()).map(|file| read(file)).transpose()?,
            key: given(self.client_key.as_ref()).map(|file| read(file)).transpose()?,
            server_name: self.tls_server_name.clone().filter(|name| !name.is_empty()),
            skip_verify: verify.is_some_and(|text| truth(text) == Some(false)),
        })
    }
}

/// A server on a busy machine may take its time, and a person sees that the command is still running.
const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// Runs the asynchronous part of a command on this thread.
pub(super) fn wait_for<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// An empty environment variable is as good as none.
fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn flag(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|text| truth(&text) == Some(true))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `user:password`, or a user alone.
fn credentials(text: Option<&str>) -> Option<(String, Token)> {
    let text = text.filter(|text| !text.is_empty())?;
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Some((user.to_owned(), Token::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            http_addr: None,
            token: None,
            token_file: None,
            ca_file: None,
            ca_path: None,
            client_cert: None,
            client_key: None,
            tls_server_name: None,
        }
    }

    #[test]
    fn addresses_without_a_scheme_follow_the_environment() {
        let mut connection = connection();
        assert_eq!(connection.address(false).unwrap().to_string(), "http://127.0.0.1:8500");
        connection.http_addr = Some("h:1".into());
        assert_eq!(connection.address(true).unwrap().to_string(), "https://h:1");
        connection.http_addr = Some("http://h:1".into());
        assert_eq!(connection.address(true).unwrap().to_string(), "http://h:1");
    }

    #[test]
    fn the_token_file_wins_unless_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let mut connection = Connection { token: Some("direct".into()), ..connection() };
        assert_eq!(connection.token().unwrap(), Some(Token::new("direct")));
        connection.token_file = Some(file.clone());
        assert_eq!(connection.token().unwrap(), Some(Token::new("from-file")));
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(connection.token().unwrap(), Some(Token::new("direct")));
        std::fs::remove_file(&file).unwrap();
        assert!(connection.token().unwrap_err().to_string().contains("Error loading token file"));
    }

    #[test]
    fn verification_is_on_unless_it_is_switched_off() {
        let skips = |text| connection().tls(text).unwrap().skip_verify;
        assert_eq!(
            [None, Some("true"), Some("x"), Some("false"), Some("0")].map(skips),
            [false, false, false, true, true]
        );
    }
}
