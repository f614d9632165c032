//! Which requests stay and which leave: `?dc` absent or ours passes through untouched, any other is forwarded.

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::TryFutureExt;
use futures::future::{BoxFuture, Either, MapOk};
use http::{Method, Request, Response};
use http_body::Body;
use tower::{Layer, Service};
use tribune_api::params::{decode_path, routed_path};
use tribune_api::{Layout, Query};
use tribune_core::Datacenter;

use crate::body::DcBody;
use crate::failure::Failure;
use crate::forward::Forwarder;
use crate::summary::Summaries;

/// Requests to the agent itself are never sent anywhere, whatever `?dc` says.
const AGENT_PREFIX: &str = "/v1/agent/";
/// What the path of a question begins with that asks where a service is alive.
const SUMMARY_PREFIX: &str = "/v1/tribune/services/";
/// What it ends with.
const SUMMARY_SUFFIX: &str = "/datacenters";

/// Wraps a service that answers for one datacenter.
#[derive(Clone)]
pub struct DcLayer {
    own: Datacenter,
    forwarder: Option<Forwarder>,
    summaries: Option<Summaries>,
}

/// A service behind the [`DcLayer`].
#[derive(Clone)]
pub struct DcService<S> {
    own: Datacenter,
    forwarder: Option<Forwarder>,
    summaries: Option<Summaries>,
    inner: S,
}

impl DcLayer {
    /// A layer for a node in datacenter `own`, which knows no other.
    pub fn new(own: Datacenter) -> Self {
        Self { own, forwarder: None, summaries: None }
    }

    /// Has requests for other datacenters forwarded.
    #[must_use]
    pub fn with_forwarder(self, forwarder: Forwarder) -> Self {
        Self { forwarder: Some(forwarder), ..self }
    }

    /// Has `GET /v1/tribune/services/<name>/datacenters` answered: where a service is alive.
    #[must_use]
    pub fn with_summaries(self, summaries: Summaries) -> Self {
        Self { summaries: Some(summaries), ..self }
    }
}

impl<S> Layer<S> for DcLayer {
    type Service = DcService<S>;

    fn layer(&self, inner: S) -> DcService<S> {
        DcService {
            own: self.own.clone(),
            forwarder: self.forwarder.clone(),
            summaries: self.summaries.clone(),
            inner,
        }
    }
}

type Near<F, B> = MapOk<F, fn(Response<B>) -> Response<DcBody<B>>>;
type Far<B> = BoxFuture<'static, Result<Response<DcBody<B>>, Infallible>>;

impl<S, A, B> Service<Request<A>> for DcService<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    A: Body<Data = Bytes> + Send + 'static,
    A::Error: fmt::Display,
{
    type Response = Response<DcBody<B>>;
    type Error = Infallible;
    type Future = Either<Near<S::Future, B>, Far<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if let Some(summaries) = &self.summaries
            && let Some(service) = summarised(&request)
        {
            let pretty =
                Query::parse(request.uri().query().unwrap_or_default()).is_ok_and(|query| query.pretty());
            let layout = if pretty { Layout::Pretty } else { Layout::Compact };
            let response = summaries.respond(&service, layout);
            return Either::Right(Box::pin(async move { Ok(response.map(DcBody::Far)) }));
        }
        let Some(named) = elsewhere(&self.own, request.uri()) else {
            let near: fn(Response<B>) -> Response<DcBody<B>> = |response| response.map(DcBody::Near);
            return Either::Left(self.inner.call(request).map_ok(near));
        };
        let forwarder = self.forwarder.clone();
        Either::Right(Box::pin(async move {
            let response = match (Datacenter::new(named.to_lowercase()), forwarder) {
                (Ok(datacenter), Some(forwarder)) => forwarder.answer(&datacenter, request).await,
                _ => Failure::Unknown.to_response(),
            };
            Ok(response.map(DcBody::Far))
        }))
    }
}

/// The service whose datacenters are asked for.
fn summarised<A>(request: &Request<A>) -> Option<String> {
    let name = request.uri().path().strip_prefix(SUMMARY_PREFIX)?.strip_suffix(SUMMARY_SUFFIX)?;
    let is_one_name = request.method() == Method::GET && !name.is_empty() && !name.contains('/');
    is_one_name.then(|| decode_path(name).ok()).flatten()
}

/// The other datacenter that a request is for. A query that cannot be read stays, to be refused with its reason.
fn elsewhere(own: &Datacenter, uri: &http::Uri) -> Option<String> {
    // An escaped name has a percent sign.
    let raw = uri.query().filter(|raw| raw.contains("dc") || raw.contains('%'))?;
    if routed_path(uri.path()).starts_with(AGENT_PREFIX) {
        return None;
    }
    let query = Query::parse(raw).ok()?;
    query.text("dc").filter(|dc| !dc.eq_ignore_ascii_case(own.as_str())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;

    use super::*;

    async fn ask(uri: &str) -> (u16, String) {
        let inner = tower::service_fn(|request: Request<Full<Bytes>>| async move {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(request.uri().to_string()))))
        });
        let service = DcLayer::new(Datacenter::new("dc1").unwrap()).layer(inner);
        let response = service.oneshot(Request::get(uri).body(Full::default()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn own_requests_pass_untouched() {
        for uri in [
            "/v1/catalog/nodes",
            "/v1/catalog/nodes?dc=dc1&a=b",
            "/v1/catalog/nodes?dc=DC1",
            "/v1/catalog/nodes?dc=&stale",
            "/v1/catalog/nodes?dc=dc1&dc=dc2",
            "/v1/catalog/nodes?filter=dc",
            "/v1/catalog/nodes?dc=%zz",
            "/v1/agent/self?dc=dc2",
            "/v1/%61gent/self?dc=dc2",
        ] {
            assert_eq!(ask(uri).await, (200, uri.to_owned()));
        }
    }

    #[tokio::test]
    async fn without_a_forwarder_there_is_no_path_elsewhere() {
        for uri in [
            "/v1/catalog/nodes?dc=dc2",
            "/v1/catalog/nodes?%64%63=x",
            "/v1/health/service/web?passing&dc=%64c2",
            "/v1/status/leader?dc=x",
        ] {
            assert_eq!(ask(uri).await, (500, "No path to datacenter".to_owned()));
        }
    }
}
