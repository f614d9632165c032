//! HTTP checks: 2xx passes, 429 warns, everything else is critical.
//!
//! Each probe makes a connection of its own: a pooled one would pass while the server no longer accepts any.
//! Redirects are followed on the same host only, so that a check cannot be used to reach others.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, ClientBuilder, Method, Response, StatusCode, Url, redirect};
use tribune_core::CheckDefinition;

use super::tls::Tls;
use super::{Finding, chain};
use crate::error::Error;

/// How many redirects are followed before the server is taken to go in circles.
const REDIRECTS_MAX: usize = 10;

/// Shared clients by what they do about certificates and redirects.
pub(super) struct Clients {
    tls: Tls,
    verifying: Pair,
    trusting: Pair,
}

struct Pair {
    following: Client,
    staying: Client,
}

impl Clients {
    pub(super) fn new(tls: &Tls) -> Result<Self, Error> {
        let pair = |any_certificate| -> Result<Pair, String> {
            let following = build(builder(tls, any_certificate)?.redirect(same_host()))?;
            let staying = build(builder(tls, any_certificate)?.redirect(redirect::Policy::none()))?;
            Ok(Pair { following, staying })
        };
        let verifying = pair(false).map_err(Error::Probes)?;
        let trusting = pair(true).map_err(Error::Probes)?;
        Ok(Self { tls: tls.clone(), verifying, trusting })
    }

    pub(super) fn following(&self) -> &Client {
        &self.verifying.following
    }

    pub(super) async fn probe(&self, definition: &CheckDefinition, bytes_max: usize) -> Finding {
        let method = if definition.method.is_empty() { "GET" } else { definition.method.as_str() };
        let called = format!("HTTP {method} {}", definition.http);
        match self.send(definition, method).await {
            Ok(response) => judge(&called, response, bytes_max).await,
            Err(error) => Finding::critical(format!("{called}: {error}")),
        }
    }

    async fn send(&self, definition: &CheckDefinition, method: &str) -> Result<Response, String> {
        let url = Url::parse(&definition.http).map_err(|error| error.to_string())?;
        let method = Method::from_str(method).map_err(|error| error.to_string())?;
        let headers = headers(definition)?;
        let named = url.scheme() == "https" && !definition.tls_server_name.is_empty();
        let request = if named {
            let (client, url, host) = self.named(definition, &url)?;
            let request = client.request(method, url);
            if headers.contains_key(HOST) { request } else { request.header(HOST, host) }
        } else {
            self.shared(definition).request(method, url)
        };
        let request = request.headers(headers).body(definition.body.to_string());
        request.send().await.map_err(|error| chain(&error.without_url()))
    }

    fn shared(&self, definition: &CheckDefinition) -> &Client {
        let pair = if definition.tls_skip_verify { &self.trusting } else { &self.verifying };
        if definition.disable_redirects { &pair.staying } else { &pair.following }
    }

    /// A client that expects another name in the certificate: it asks for that name, which resolves to the host
    /// of the check, and tells the server the host it was asked for.
    fn named(&self, definition: &CheckDefinition, url: &Url) -> Result<(Client, Url, String), String> {
        let host = url.host_str().ok_or("the address has no host")?.to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let mut renamed = url.clone();
        renamed.set_host(Some(&definition.tls_server_name)).map_err(|error| error.to_string())?;
        let shown = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let resolver = Fixed { host: host.trim_matches(['[', ']']).to_owned(), port };
        let builder = builder(&self.tls, definition.tls_skip_verify)?.dns_resolver(Arc::new(resolver));
        let policy = if definition.disable_redirects { redirect::Policy::none() } else { same_host() };
        Ok((build(builder.redirect(policy))?, renamed, shown))
    }
}

fn builder(tls: &Tls, any_certificate: bool) -> Result<ClientBuilder, String> {
    let config = tls.config(any_certificate, &[b"h2", b"http/1.1"])?;
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("Consul Health Check"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/plain, text/*, */*"));
    Ok(Client::builder()
        .tls_backend_preconfigured(config)
        .default_headers(headers)
        .pool_max_idle_per_host(0)
        .referer(false)
        .no_proxy())
}

fn build(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| chain(&error))
}

fn same_host() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().and_then(|url| url.host_str());
        if attempt.previous().len() > REDIRECTS_MAX || attempt.url().host_str() != first {
            return attempt.stop();
        }
        attempt.follow()
    })
}

fn headers(definition: &CheckDefinition) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in definition.header.iter() {
        let known = HeaderName::from_str(name).map_err(|error| format!("header {name}: {error}"))?;
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|error| format!("header {name}: {error}"))?;
            headers.append(known.clone(), value);
        }
    }
    Ok(headers)
}

async fn judge(called: &str, mut response: Response, bytes_max: usize) -> Finding {
    let status = response.status();
    let mut body: Vec<u8> = Vec::new();
    // The rest of a long answer is not read: the connection ends with the response.
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Finding::critical(format!("{called}: {status}: {}", chain(&error))),
        }
    }
    body.truncate(bytes_max);
    let mut output = format!("{called}: {status} Output: {}", String::from_utf8_lossy(&body));
    if status.is_redirection() && response.headers().contains_key("location") {
        output.push_str(" (the redirect was not followed)");
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS => Finding::warning(output),
        _ if status.is_success() => Finding::passing(output),
        _ => Finding::critical(output),
    }
}

/// Resolves every name to one host.
struct Fixed {
    host: String,
    port: u16,
}

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let target = (self.host.clone(), self.port);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(target).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
