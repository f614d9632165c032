//! Which requests stay and which leave: `?dc` absent or ours passes through untouched, any other has no path yet.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::{Layer, Service};
use tribune_api::Query;
use tribune_api::error::NO_PATH_TO_DATACENTER;
use tribune_core::Datacenter;

/// Requests to the agent itself are never sent anywhere, whatever `?dc` says.
const AGENT_PREFIX: &str = "/v1/agent/";

/// Wraps a service that answers for one datacenter.
#[derive(Debug, Clone)]
pub struct DcLayer {
    own: Datacenter,
}

/// A service behind the [`DcLayer`].
#[derive(Debug, Clone)]
pub struct DcService<S> {
    own: Datacenter,
    inner: S,
}

impl DcLayer {
    /// A layer for a node in datacenter `own`.
    pub fn new(own: Datacenter) -> Self {
        Self { own }
    }
}

impl<S> Layer<S> for DcLayer {
    type Service = DcService<S>;

    fn layer(&self, inner: S) -> DcService<S> {
        DcService { own: self.own.clone(), inner }
    }
}

impl<S, A, B> Service<Request<A>> for DcService<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    B: From<String>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<B>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if leaves(&self.own, request.uri()) {
            Either::Right(ready(Ok(no_path())))
        } else {
            Either::Left(self.inner.call(request))
        }
    }
}

/// Whether the request is for another datacenter. A query that cannot be read stays, to be refused with its reason.
fn leaves(own: &Datacenter, uri: &http::Uri) -> bool {
    let Some(raw) = uri.query().filter(|raw| raw.contains("dc")) else { return false };
    if uri.path().starts_with(AGENT_PREFIX) {
        return false;
    }
    let Ok(query) = Query::parse(raw) else { return false };
    query.text("dc").is_some_and(|dc| !dc.eq_ignore_ascii_case(own.as_str()))
}

fn no_path<B: From<String>>() -> Response<B> {
    let mut response = Response::new(B::from(NO_PATH_TO_DATACENTER.to_owned()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    async fn ask(uri: &str) -> (u16, String) {
        let inner = tower::service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(Response::new(request.uri().to_string()))
        });
        let service = DcLayer::new(Datacenter::new("dc1").unwrap()).layer(inner);
        let response = service.oneshot(Request::get(uri).body(()).unwrap()).await.unwrap();
        (response.status().as_u16(), response.into_body())
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
        ] {
            assert_eq!(ask(uri).await, (200, uri.to_owned()));
        }
    }

    #[tokio::test]
    async fn there_is_no_path_elsewhere_yet() {
        for uri in
            ["/v1/catalog/nodes?dc=dc2", "/v1/health/service/web?passing&dc=%64c2", "/v1/status/leader?dc=x"]
        {
            assert_eq!(ask(uri).await, (500, "No path to datacenter".to_owned()));
        }
    }
}
