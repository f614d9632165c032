//! What a request meets first: rules that the configuration lays over the whole HTTP API, in front of whatever
//! service is in force. Both are swapped as one when the configuration is read again.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use tower::Service;
use tribune_api::params::routed_path;
use tribune_http::{Body, HttpService};
use tribune_net::ClientAddress;
use tribune_wan::{DcBody, DcService, Uplink};

/// Endpoints of the agent itself, to which `allow_write_http_from` applies.
const AGENT_PREFIX: &str = "/v1/agent/";

/// User events, which every agent receives by itself.
const EVENT_PREFIX: &str = "/v1/event/";

const BLOCKED: &str = "Endpoint is blocked by agent configuration";
const RESTRICTED: &str = "Access is restricted";
const NOT_FOR_NODES: &str = "an agent's own endpoints are not answered for other nodes: ask its HTTP port";
const CLOSED: &str = "the agent is starting; ask again";

/// Who may ask what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Path prefixes that are refused (`http_config.block_endpoints`).
    pub(crate) blocked: Vec<String>,
    /// Networks from which the agent's own endpoints may be written; empty means all
    /// (`http_config.allow_write_http_from`).
    pub(crate) write_from: Vec<IpNet>,
}

/// What answers requests.
#[derive(Clone)]
pub(crate) enum Within {
    /// A server answers for its datacenter and forwards what is for others.
    Server(DcService<HttpService>),
    /// A client agent answers for itself and has servers answer everything else.
    Client(HttpService, Uplink),
}

/// The body of an answer: made here, or by another node.
pub(crate) type Answered = DcBody<Body>;

type Answering = BoxFuture<'static, Result<Response<Answered>, Infallible>>;

/// The service that listeners are given. Clones are the same door.
#[derive(Clone)]
pub(crate) struct Door {
    inside: Arc<ArcSwapOption<Inside>>,
    side: Side,
}

/// Who comes in.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// Clients, about whom the rules are.
    Front,
    /// Other nodes; an agent's own endpoints are not for them.
    Back,
}

struct Inside {
    rules: Rules,
    within: Within,
}

impl Door {
    /// A door that is closed until [`Door::open`].
    pub(crate) fn new() -> Self {
        Self { inside: Arc::new(ArcSwapOption::empty()), side: Side::Front }
    }

    /// The same door for other nodes.
    pub(crate) fn for_nodes(self) -> Self {
        Self { side: Side::Back, ..self }
    }

    /// Lets requests in, by these rules, from now on.
    pub(crate) fn open(&self, rules: Rules, within: Within) {
        self.inside.store(Some(Arc::new(Inside { rules, within })));
    }
}

impl Within {
    fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        match self {
            Self::Server(service) => service.clone().call(request).boxed(),
            Self::Client(node, _) if is_of_node(request.uri().path()) => {
                let answering = node.clone().call(request);
                Box::pin(async move { answering.await.map(|response| response.map(DcBody::Near)) })
            }
            Self::Client(_, uplink) => {
                let uplink = uplink.clone();
                Box::pin(async move { Ok(uplink.answer(request).await.map(DcBody::Far)) })
            }
        }
    }
}

/// Whether each agent answers for itself.
fn is_of_node(path: &str) -> bool {
    let path = routed_path(path);
    path.starts_with(AGENT_PREFIX) || path.starts_with(EVENT_PREFIX)
}

impl<B> Service<Request<B>> for Door
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    type Response = Response<Answered>;
    type Error = Infallible;
    type Future = Either<Answering, Ready<Result<Response<Answered>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(inside) = self.inside.load_full() else {
            return Either::Right(refusal(StatusCode::SERVICE_UNAVAILABLE, CLOSED));
        };
        let path = request.uri().path();
        let objection = match self.side {
            Side::Front => {
                let client = request.extensions().get::<ClientAddress>().map(|client| client.0);
                inside.rules.objection(request.method(), path, client)
            }
            Side::Back => routed_path(path).starts_with(AGENT_PREFIX).then_some(NOT_FOR_NODES),
        };
        match objection {
            Some(text) => Either::Right(refusal(StatusCode::FORBIDDEN, text)),
            None => Either::Left(inside.within.answer(request)),
        }
    }
}

fn refusal(status: StatusCode, text: &str) -> Ready<Result<Response<Answered>, Infallible>> {
    let mut response = Response::new(DcBody::Near(Body::from(text.to_owned())));
    *response.status_mut() = status;
    ready(Ok(response))
}

impl Rules {
    fn objection(&self, method: &Method, path: &str, client: Option<IpAddr>) -> Option<&'static str> {
        if self.blocked.is_empty() && self.write_from.is_empty() {
            return None;
        }
        // `%61` is `a` there too, so it must not open a way around the rules.
        let path = routed_path(path);
        if self.blocked.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            return Some(BLOCKED);
        }
        let only_reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if self.write_from.is_empty() || only_reads || !path.starts_with(AGENT_PREFIX) {
            return None;
        }
        let client = client.map(|client| client.to_canonical());
        let is_allowed = client.is_some_and(|client| self.write_from.iter().any(|net| net.contains(&client)));
        (!is_allowed).then_some(RESTRICTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, client: &str, expected: Option<&str>) {
        let rules = Rules {
            blocked: vec!["/v1/agent/self".to_owned()],
            write_from: vec!["10.0.0.0/8".parse().unwrap()],
        };
        assert_eq!(
            rules.objection(&method, path, Some(client.parse().unwrap())),
            expected,
            "{method} {path}"
        );
    }

    #[test]
    fn blocked_endpoints_are_refused_however_they_are_written() {
        check(Method::GET, "/v1/agent/self", "10.0.0.1", Some(BLOCKED));
        check(Method::GET, "/v1/%61gent/s%65lf", "10.0.0.1", Some(BLOCKED));
        check(Method::GET, "/v1/agent/services", "10.0.0.1", None);
    }

    #[test]
    fn an_agent_answers_for_itself_however_that_is_written() {
        assert!(
            is_of_node("/v1/agent/self") && is_of_node("/v1/%61gent/self") && is_of_node("/v1/even%74/list")
        );
        assert!(!is_of_node("/v1/kv/v1/agent/") && !is_of_node("/v1/%zzgent/self"));
    }

    #[test]
    fn writes_are_taken_from_these_networks_only() {
        check(Method::PUT, "/v1/agent/service/register", "10.0.0.1", None);
        check(Method::PUT, "/v1/agent/service/register", "::ffff:10.0.0.1", None);
        check(Method::PUT, "/v1/agent/service/register", "192.0.2.1", Some(RESTRICTED));
        check(Method::PUT, "/v1/%61gent/service/register", "192.0.2.1", Some(RESTRICTED));
        check(Method::GET, "/v1/agent/services", "192.0.2.1", None);
        check(Method::PUT, "/v1/catalog/register", "192.0.2.1", None);
    }
}
