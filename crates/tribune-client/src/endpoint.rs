//! One agent: its connection pool, its circuit breaker, and the judgement over what came of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use reqwest::{Identity, Url};
use tribune_api::error::{
    NO_CLUSTER_LEADER, NO_KNOWN_SERVERS, NO_PATH_TO_DATACENTER, NOT_READY, REMOTE_DC_UNREACHABLE,
};

use crate::address::Address;
use crate::breaker::{Breaker, Ticket};
use crate::config::{Config, Tls};
use crate::error::{Error, Failure};
use crate::request::Request;

/// Longest text of a refusal that is kept: enough for any sentence, too little to fill a log.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Texts of status 500 that mean the agent cannot reach those who decide. Nothing was done.
const CANNOT_SERVE: [&str; 5] =
    [NO_CLUSTER_LEADER, NO_KNOWN_SERVERS, NOT_READY, REMOTE_DC_UNREACHABLE, NO_PATH_TO_DATACENTER];

/// One agent.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    base: Url,
    http: reqwest::Client,
    breaker: Mutex<Breaker>,
    request_timeout: Duration,
    answer_bytes_max: usize,
}

/// A complete answer with a status below 400.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The agent that gave it.
    pub(crate) address: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came of one try, sorted by what may follow.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Not this way: asking anybody again would give the same.
    Final(Error),
    /// Certainly nothing was done.
    NotDone(Failure),
    /// Something may have been done.
    Unsure(Failure),
}

impl Endpoint {
    pub(crate) fn new(address: Address, config: &Config) -> Result<Self, Error> {
        let (base, builder) = connector(&address, &config.tls)?;
        let http = builder
            .default_headers(headers(config)?)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_keepalive(Duration::from_secs(15))
            .build()
            .map_err(|error| Error::Settings(format!("TLS cannot be set up: {}", root_cause(&error))))?;
        Ok(Self {
            address,
            base,
            http,
            breaker: Mutex::new(Breaker::new(config.breaker.clone())),
            request_timeout: config.request_timeout,
            answer_bytes_max: config.answer_bytes_max,
        })
    }

    /// Leave to ask this agent, or the time for which it is to be left alone.
    pub(crate) fn admit(&self) -> Result<Admission<'_>, Duration> {
        let ticket = self.breaker.lock().admit(now())?;
        Ok(Admission { endpoint: self, ticket: Some(ticket) })
    }

    /// Sends `request` and returns once the head of the answer is there.
    async fn open(&self, request: &Request) -> Result<reqwest::Response, Trouble> {
        let url = request.url(&self.base).map_err(Trouble::Final)?;
        let mut builder = self.http.request(request.method.clone(), url);
        if let Some(body) = &request.body {
            builder = builder.header(http::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        builder.send().await.map_err(|error| {
            let (address, reason) = (self.address.to_string(), root_cause(&error));
            if error.is_connect() {
                Trouble::NotDone(Failure::Connect { address, reason })
            } else {
                Trouble::Unsure(Failure::Broken { address, reason })
            }
        })
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, Trouble> {
        let response = self.open(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let limit = if status.is_success() { self.answer_bytes_max } else { REFUSAL_BYTES_MAX };
        let (body, whole) = self.read(response, limit).await?;
        if status == StatusCode::NOT_FOUND && request.may_find_nothing && body.is_empty() {
            return Ok(Reply { address: self.address.to_string(), headers, body: Bytes::from_static(b"[]") });
        }
        if !status.is_success() {
            return Err(judge(status, &body));
        }
        if !whole {
            return Err(Trouble::Final(Error::Malformed {
                address: self.address.to_string(),
                reason: format!(
                    "it is larger than {limit} bytes; ask for less with a filter, or raise the limit"
                ),
            }));
        }
        Ok(Reply { address: self.address.to_string(), headers, body })
    }

    /// Reads at most `limit` bytes; the flag says whether that was all.
    async fn read(&self, mut response: reqwest::Response, limit: usize) -> Result<(Bytes, bool), Trouble> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
                Ok(Some(chunk)) => {
                    body.extend_from_slice(&chunk[..limit - body.len()]);
                    return Ok((body.freeze(), false));
                }
                Ok(None) => return Ok((body.freeze(), true)),
                Err(error) => {
                    let (address, reason) = (self.address.to_string(), root_cause(&error));
                    return Err(Trouble::Unsure(Failure::Broken { address, reason }));
                }
            }
        }
    }
}

/// Leave to send one request to one agent. Dropped without a result, it counts neither way.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    endpoint: &'a Endpoint,
    ticket: Option<Ticket>,
}

impl Admission<'_> {
    /// Sends `request`, waits for the whole answer and tells the breaker how it went.
    pub(crate) async fn exchange(self, request: &Request) -> Result<Reply, Trouble> {
        let after = self.endpoint.request_timeout + request.patience;
        let outcome = match tokio::time::timeout(after, self.endpoint.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timeout(after)),
        };
        self.settle(outcome.as_ref().err());
        outcome
    }

    /// Sends `request` and hands over the answer while it still streams in.
    pub(crate) async fn stream(self, request: &Request) -> Result<reqwest::Response, Trouble> {
        let after = self.endpoint.request_timeout;
        let outcome = match tokio::time::timeout(after, self.endpoint.open(request)).await {
            Ok(Ok(response)) if !response.status().is_success() => {
                let status = response.status();
                let body = self.endpoint.read(response, REFUSAL_BYTES_MAX).await;
                body.and_then(|(text, _)| Err(judge(status, &text)))
            }
            Ok(outcome) => outcome,
            Err(_) => Err(self.timeout(after)),
        };
        self.settle(outcome.as_ref().err());
        outcome
    }

    fn timeout(&self, after: Duration) -> Trouble {
        Trouble::Unsure(Failure::Timeout { address: self.endpoint.address.to_string(), after })
    }

    /// An agent that answers, whatever it says, is there; only silence and "cannot serve" speak against it.
    fn settle(mut self, trouble: Option<&Trouble>) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut breaker = self.endpoint.breaker.lock();
        match trouble {
            Some(Trouble::NotDone(_)) => breaker.failed(ticket, now()),
            Some(Trouble::Unsure(failure)) if !matches!(failure, Failure::Answered { .. }) => {
                breaker.failed(ticket, now());
            }
            _ => breaker.succeeded(ticket),
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.endpoint.breaker.lock().abandoned(ticket);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sorts an answer that is not a success.
fn judge(status: StatusCode, body: &[u8]) -> Trouble {
    let message = String::from_utf8_lossy(body).trim().to_owned();
    let cannot_serve = CANNOT_SERVE.iter().any(|text| message.contains(text));
    let code = status.as_u16();
    match code {
        429 | 503 => Trouble::NotDone(Failure::Answered { status: code, message }),
        500 if cannot_serve => Trouble::NotDone(Failure::Answered { status: code, message }),
        500.. => Trouble::Unsure(Failure::Answered { status: code, message }),
        _ => Trouble::Final(Error::Refused { status: code, message }),
    }
}

/// The innermost reason: the outer layers only say that sending failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn headers(config: &Config) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: String| {
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            Error::Settings(format!("the value for {name} holds characters no header may hold"))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    };
    if let Some(token) = &config.token {
        add(HeaderName::from_static(tribune_api::headers::TOKEN), token.secret().to_owned())?;
    }
    if let Some((user, password)) = &config.credentials {
        let pair = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("{user}:{}", password.secret()),
        );
        add(http::header::AUTHORIZATION, format!("Basic {pair}"))?;
    }
    Ok(headers)
}

/// The base URL for requests to `address` and a client builder that connects there.
fn connector(address: &Address, tls: &Tls) -> Result<(Url, reqwest::ClientBuilder), Error> {
    match address {
        Address::Unix(path) => {
            let base = Url::parse("http://localhost").map_err(|error| Error::Settings(error.to_string()))?;
            Ok((base, without_tls()?.unix_socket(path.as_path())))
        }
        Address::Tcp(url) if url.scheme() == "http" => Ok((url.clone(), without_tls()?)),
        Address::Tcp(url) => with_tls(url, tls),
    }
}

/// A builder that needs no trusted authorities on this machine, for connections that have no TLS.
fn without_tls() -> Result<reqwest::ClientBuilder, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Settings(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(config))
}

fn with_tls(url: &Url, tls: &Tls) -> Result<(Url, reqwest::ClientBuilder), Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race against another thread that installs one is as good as winning it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(tls.skip_verify)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true);
    if !tls.authorities.is_empty() {
        builder = builder.tls_certs_only(authorities(&tls.authorities)?);
    }
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let identity =
                Identity::from_pem(&[key.as_slice(), b"\n", certificate].concat()).map_err(|error| {
                    Error::Settings(format!("client certificate or key: {}", root_cause(&error)))
                })?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => return Err(Error::Settings("a client certificate and its key must be given together".into())),
    }
    let Some(name) = &tls.server_name else { return Ok((url.clone(), builder)) };
    let host = url.host_str().unwrap_or_default().to_owned();
    let mut named = url.clone();
    named
        .set_host(Some(name))
        .map_err(|error| Error::Settings(format!("the TLS server name {name:?} is no host name: {error}")))?;
    Ok((named, builder.dns_resolver(Arc::new(Elsewhere { host }))))
}

fn authorities(files: &[Vec<u8>]) -> Result<Vec<reqwest::Certificate>, Error> {
    let mut all = Vec::new();
    for file in files {
        let found = reqwest::Certificate::from_pem_bundle(file)
            .map_err(|error| Error::Settings(format!("CA certificate: {}", root_cause(&error))))?;
        all.extend(found);
    }
    if all.is_empty() {
        return Err(Error::Settings(
            "no CA certificate found; a PEM file with at least one is needed".into(),
        ));
    }
    Ok(all)
}

/// Finds the agent's real host whatever name is asked for: the URL carries the name in its certificate.
#[derive(Debug)]
struct Elsewhere {
    host: String,
}

impl reqwest::dns::Resolve for Elsewhere {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_what_may_follow() {
        let kind = |code, text: &str| match judge(StatusCode::from_u16(code).unwrap(), text.as_bytes()) {
            Trouble::Final(_) => "final",
            Trouble::NotDone(_) => "not done",
            Trouble::Unsure(_) => "unsure",
        };
        assert_eq!(kind(400, "Missing service name"), "final");
        assert_eq!(kind(403, "Permission denied"), "final");
        assert_eq!(kind(301, ""), "final");
        assert_eq!(kind(429, "Your IP is issuing too many concurrent connections"), "not done");
        assert_eq!(kind(500, "rpc error making call: No cluster leader"), "not done");
        assert_eq!(kind(500, "disk full"), "unsure");
        assert_eq!(kind(502, ""), "unsure");
        assert_eq!(kind(503, ""), "not done");
    }
}
