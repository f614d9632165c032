//! Endpoints of Consul that are not here: each says so, so that nobody takes silence for an answer.

use std::sync::Arc;

use http::Method;
use tribune_api::ApiError;

use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;
use crate::router::Router;

/// What is answered instead.
#[derive(Debug)]
enum Instead {
    /// 501 and what is not there.
    NotBuilt(&'static str),
    /// What Consul says without access control; clients know how to go on.
    AccessControlOff,
    /// What Consul says with the service mesh switched off.
    MeshOff,
}

const READ: &[Method] = &[Method::GET];
const WRITE: &[Method] = &[Method::PUT];
const POST: &[Method] = &[Method::POST];
const ALL: &[Method] = &[Method::GET, Method::PUT, Method::POST, Method::DELETE];

/// Endpoints below `/v1/agent/`.
pub(crate) fn of_node() -> Router {
    routes(&[("/v1/agent/connect/", &[Method::GET, Method::POST], Instead::MeshOff)])
}

/// Endpoints that concern the datacenter.
pub(crate) fn of_datacenter() -> Router {
    use Instead::{AccessControlOff, MeshOff, NotBuilt};
    routes(&[
        ("/v1/operator/", ALL, NotBuilt("the operator interface")),
        ("/v1/config", WRITE, NotBuilt("configuration entries")),
        ("/v1/config/", &[Method::GET, Method::DELETE], NotBuilt("configuration entries")),
        ("/v1/discovery-chain/", &[Method::GET, Method::POST], NotBuilt("discovery chains")),
        ("/v1/exported-services", READ, NotBuilt("cluster peering")),
        ("/v1/peering/", ALL, NotBuilt("cluster peering")),
        ("/v1/peerings", READ, NotBuilt("cluster peering")),
        ("/v1/internal/ui/", READ, NotBuilt("the interface of the web console")),
        ("/v1/internal/acl/authorize", POST, AccessControlOff),
        ("/v1/acl/", ALL, AccessControlOff),
        ("/v1/connect/", ALL, MeshOff),
        ("/v1/catalog/connect/", READ, NotBuilt("the service mesh")),
        ("/v1/catalog/gateway-services/", READ, NotBuilt("the service mesh")),
        ("/v1/health/connect/", READ, NotBuilt("the service mesh")),
        ("/v1/health/ingress/", READ, NotBuilt("the service mesh")),
    ])
}

fn routes(table: &[(&'static str, &'static [Method], Instead)]) -> Router {
    let mut router = Router::default();
    for (path, methods, instead) in table {
        let error = Arc::new(instead.error());
        for method in *methods {
            router = router.on(method.clone(), path, &error, refuse);
        }
    }
    router
}

impl Instead {
    fn error(&self) -> ApiError {
        match self {
            Self::NotBuilt(what) => ApiError::new(
                501,
                format!("{what}: not part of this version of Tribune; do not rely on it here"),
            ),
            Self::AccessControlOff => ApiError::new(401, "ACL support disabled"),
            Self::MeshOff => ApiError::server("Connect must be enabled in order to use this endpoint"),
        }
    }
}

async fn refuse(error: Arc<ApiError>, _: Call) -> Result<Reply, Error> {
    Err(ApiError::clone(&error).into())
}
