//! Routes and transport rules: which handler a request belongs to, and the answer when it belongs to none.
//!
//! Consul's rules are not those of common router libraries (decoded paths, redirects to clean ones, 405 with a
//! text on any other method, prefix routes that may hold slashes), and the most frequent questions must be found
//! fast: a path is looked up in one hash table, then its parents, longest first.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::HashMap;
use futures::future::BoxFuture;
use http::header::{ALLOW, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use metrics::Histogram;
use tokio::sync::Semaphore;
use tower::Service;
use tracing::{debug, warn};
use tribune_api::{ApiError, Layout, Query};

use crate::body::Body;
use crate::call::Call;
use crate::error::Error;
use crate::limits::{BodyLimit, REQUEST_BODY_TIMEOUT, read_body};
use crate::path::{self, Path};
use crate::reply::{Reply, takes_gzip};

type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Reply, Error>> + Send + Sync>;

/// How responses look, whatever they say.
#[derive(Debug, Clone, Default)]
pub struct Presentation {
    /// Indents all JSON, as in development mode; else only what is asked for with `?pretty`.
    pub pretty: bool,
    /// Put on every response (`http_config.response_headers`).
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
}

/// Routes by path. A path that ends in a slash takes everything below it.
#[derive(Default)]
pub struct Router {
    routes: HashMap<&'static str, Methods>,
}

/// The handlers of one path, in the order in which `Allow` names them.
#[derive(Clone, Default)]
struct Methods {
    handlers: Vec<(Method, Handler)>,
    body: BodyLimit,
    large_body: Option<Arc<LargeBody>>,
}

/// A route whose bodies are larger than those of others, and are taken one at a time.
struct LargeBody {
    bytes_max: usize,
    timeout: Duration,
    place: Semaphore,
}

/// A router as a service: clones share everything.
#[derive(Clone)]
pub struct HttpService(Arc<Shared>);

struct Shared {
    router: Router,
    presentation: Presentation,
}

impl Router {
    /// Adds a handler, which is given `context` and the call.
    pub(crate) fn on<C, H, F>(
        mut self,
        method: Method,
        path: &'static str,
        context: &Arc<C>,
        handler: H,
    ) -> Self
    where
        C: Send + Sync + 'static,
        H: Fn(Arc<C>, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        let context = Arc::clone(context);
        let timer = timer(&method, path);
        let handler: Handler = Arc::new(move |call| {
            let (timer, answer) = (timer.clone(), handler(Arc::clone(&context), call));
            Box::pin(async move {
                let begun = Instant::now();
                let reply = answer.await;
                timer.record(begun.elapsed().as_secs_f64() * 1e3);
                reply
            })
        });
        self.routes.entry(path).or_default().handlers.push((method, handler));
        self
    }

    /// Adds a handler for GET.
    pub(crate) fn get<C, H, F>(self, path: &'static str, context: &Arc<C>, handler: H) -> Self
    where
        C: Send + Sync + 'static,
        H: Fn(Arc<C>, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        self.on(Method::GET, path, context, handler)
    }

    /// Adds a handler for PUT.
    pub(crate) fn put<C, H, F>(self, path: &'static str, context: &Arc<C>, handler: H) -> Self
    where
        C: Send + Sync + 'static,
        H: Fn(Arc<C>, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        self.on(Method::PUT, path, context, handler)
    }

    /// Bounds the bodies of requests to this path.
    pub(crate) fn bounded(mut self, path: &'static str, body: BodyLimit) -> Self {
        self.routes.entry(path).or_default().body = body;
        self
    }

    /// Takes bodies of this size on a path, but only one at a time.
    pub(crate) fn with_large_body(mut self, path: &'static str, bytes_max: usize, timeout: Duration) -> Self {
        let large = LargeBody { bytes_max, timeout, place: Semaphore::new(1) };
        self.routes.entry(path).or_default().large_body = Some(Arc::new(large));
        self
    }

    /// The routes of both. Where both know a path, the methods of this one come first.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for (path, methods) in other.routes {
            let here = self.routes.entry(path).or_default();
            here.handlers.extend(methods.handlers);
            here.body = here.body.or(methods.body);
            here.large_body = here.large_body.take().or(methods.large_body);
        }
        self
    }

    /// The service that answers requests to these routes.
    pub fn into_service(self, presentation: Presentation) -> HttpService {
        HttpService(Arc::new(Shared { router: self, presentation }))
    }

    /// The route for a path: the path itself, else the longest parent that takes what is below it.
    fn find<'p>(&self, path: &'p str) -> Option<(&Methods, &'p str)> {
        if let Some(methods) = self.routes.get(path) {
            return Some((methods, ""));
        }
        let mut end = path.len();
        while let Some(slash) = path[..end].rfind('/') {
            if let Some(methods) = self.routes.get(&path[..=slash]).filter(|_| slash > 0) {
                return Some((methods, &path[slash + 1..]));
            }
            end = slash;
        }
        None
    }

    /// Whether the path lacks only the slash that makes it a route.
    fn lacks_slash(&self, path: &str) -> bool {
        self.routes.contains_key(format!("{path}/").as_str())
    }
}

/// Where the time of a route's requests is written, in milliseconds, waits included. Made once per route, so that
/// a request costs no look-up. The slash at the end of a path becomes a `_`, as Consul has it.
fn timer(method: &Method, path: &'static str) -> Histogram {
    let label = path.trim_start_matches('/').replace('/', "_");
    metrics::histogram!("api.http", "method" => method.to_string(), "path" => label)
}

impl Methods {
    fn find(&self, method: &Method) -> Option<&Handler> {
        self.handlers.iter().find(|(known, _)| known == method).map(|(_, handler)| handler)
    }

    fn allow(&self) -> HeaderValue {
        let names = self.handlers.iter().map(|(method, _)| method.as_str());
        let list = std::iter::once("OPTIONS").chain(names).collect::<Vec<_>>().join(",");
        HeaderValue::from_str(&list).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }
}

impl HttpService {
    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes>,
    {
        let takes_gzip = takes_gzip(request.headers());
        let reply = match self.reply(request).await {
            Ok(reply) => reply,
            Err(error) => error.into(),
        };
        let mut response = reply.into_response(takes_gzip).await;
        for (name, value) in &self.0.presentation.response_headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }

    async fn reply<B>(&self, request: Request<B>) -> Result<Reply, ApiError>
    where
        B: http_body::Body<Data = Bytes>,
    {
        let (head, body) = request.into_parts();
        let path = match path::read(head.uri.path())? {
            Path::Clean(path) => path,
            Path::Moved(path) => return Ok(moved(&head.method, &path, head.uri.query())),
        };
        let Some((methods, argument)) = self.0.router.find(&path) else {
            if self.0.router.lacks_slash(&path) {
                return Ok(moved(&head.method, &path::encode(&format!("{path}/")), head.uri.query()));
            }
            return Err(unknown(&path));
        };
        if head.method == Method::OPTIONS {
            return Ok(Reply::empty().with_header(ALLOW, methods.allow()));
        }
        let Some(handler) = methods.find(&head.method) else {
            let refused = Reply::from(ApiError::method_not_allowed(head.method.as_str()));
            return Ok(refused.with_header(ALLOW, methods.allow()));
        };
        let argument = argument.to_owned();
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        let (limit, timeout, _place) = match methods.large_body.as_deref() {
            Some(large) if !body.is_end_stream() => {
                let text = "another large body is being taken here: try again when it is done";
                let place = large.place.try_acquire().map_err(|_| ApiError::new(429, text))?;
                (BodyLimit::Large(large.bytes_max), large.timeout, Some(place))
            }
            _ => (methods.body, REQUEST_BODY_TIMEOUT, None),
        };
        let body = read_body(body, limit, timeout).await?;
        let pretty = self.0.presentation.pretty || query.pretty();
        let layout = if pretty { Layout::Pretty } else { Layout::Compact };
        let call = Call { argument, query, headers: head.headers, body, layout };
        handler(call).await.map_err(|error| log(error, &head.method, &path))
    }
}

impl<B> Service<Request<B>> for HttpService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

/// 301 in the words of Go's router.
fn moved(method: &Method, path: &str, query: Option<&str>) -> Reply {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let shown = target.replace('&', "&amp;").replace('\'', "&#39;");
    let body = match *method {
        Method::GET => format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n"),
        _ => String::new(),
    };
    let reply = Reply::of_type(HeaderValue::from_static("text/html; charset=utf-8"), body);
    let Ok(location) = HeaderValue::from_str(&target) else { return ApiError::bad_request("").into() };
    reply.with_status(StatusCode::MOVED_PERMANENTLY).with_header(LOCATION, location)
}

fn unknown(path: &str) -> ApiError {
    ApiError::not_found(if path.starts_with("/v1/") {
        "Invalid URL path: not a recognized HTTP API endpoint"
    } else {
        "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'"
    })
}

fn log(error: Error, method: &Method, path: &str) -> ApiError {
    let error = ApiError::from(error);
    let (status, message) = (error.status, error.message.as_str());
    let detail = error.detail.as_deref().unwrap_or_default();
    match status {
        500.. => warn!(%method, path, status, message, detail, "a request failed"),
        _ => debug!(%method, path, status, message, detail, "a request was refused"),
    }
    error
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, Empty};
    use tower::ServiceExt;

    use super::*;

    struct Named(&'static str);

    async fn echo(named: Arc<Named>, call: Call) -> Result<Reply, Error> {
        Ok(Reply::text(format!("{}({})", named.0, call.argument)))
    }

    fn service() -> HttpService {
        let node = Router::default().get("/v1/node", &Arc::new(Named("node")), echo);
        let below = Router::default()
            .get("/v1/kv/", &Arc::new(Named("kv")), echo)
            .put("/v1/kv/", &Arc::new(Named("put")), echo)
            .get("/v1/kv/a/b/", &Arc::new(Named("deep")), echo);
        node.merge(below).into_service(Presentation::default())
    }

    async fn ask(method: &str, uri: &str) -> (u16, HeaderMap, String) {
        let request = Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new()).unwrap();
        let response = service().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_longest_route_takes_the_request() {
        for (uri, answer) in [
            ("/v1/node", "node()"),
            ("/v1/kv/", "kv()"),
            ("/v1/kv/x", "kv(x)"),
            ("/v1/kv/x%2fy%20z", "kv(x/y z)"),
            ("/v1/kv/a/b", "kv(a/b)"),
            ("/v1/kv/a/b/c", "deep(c)"),
        ] {
            let (status, _, body) = ask("GET", uri).await;
            assert_eq!((status, body.as_str()), (200, answer), "{uri}");
        }
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_told_so() {
        for uri in ["/v1/none", "/v1/node/", "/v1/node/x"] {
            let (status, _, body) = ask("GET", uri).await;
            assert_eq!(
                (status, body.as_str()),
                (404, "Invalid URL path: not a recognized HTTP API endpoint")
            );
        }
        assert!(ask("GET", "/kv").await.2.ends_with("ensure the path starts with '/v1/'"));
        let (status, headers, body) = ask("POST", "/v1/kv/x").await;
        assert_eq!((status, body.as_str()), (405, "method POST not allowed"));
        assert_eq!(headers[ALLOW], "OPTIONS,GET,PUT");
        let (status, headers, body) = ask("OPTIONS", "/v1/node").await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(headers[ALLOW], "OPTIONS,GET");
        assert_eq!(ask("HEAD", "/v1/node").await.0, 405);
    }

    #[tokio::test]
    async fn unclean_paths_move() {
        for (uri, location) in
            [("/v1//node?a=b", "/v1/node?a=b"), ("/v1/kv", "/v1/kv/"), ("/v1/kv/a%2f%2fb", "/v1/kv/a/b")]
        {
            let (status, headers, body) = ask("GET", uri).await;
            assert_eq!(status, 301, "{uri}");
            assert_eq!(headers[LOCATION], location);
            assert_eq!(body, format!("<a href=\"{location}\">Moved Permanently</a>.\n\n"));
        }
    }
}
