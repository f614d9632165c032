//! A road that uses connections in both directions: a datacenter whose gateways can only dial out is asked on the
//! connections it has opened to us.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::Instant;
use tribune_core::Datacenter;
use tribune_net::{Dialer, Endpoint, PeerRole, ReverseConnection, ReverseRegistry};

use crate::body::{FarBody, far_body};
use crate::road::{Road, RoadError};

/// Most connections kept that one datacenter has opened to us.
const CONNECTIONS_MAX: usize = 64;

/// Dials, unless the other side has. Clones share everything; one is the registry of the acceptor, another the road.
#[derive(Clone)]
pub struct TwoWayRoad {
    dialer: Dialer,
    opened: Arc<Mutex<HashMap<Datacenter, Vec<ReverseConnection>>>>,
}

impl TwoWayRoad {
    /// A road that dials with `dialer` where nobody has opened a connection.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, opened: Arc::default() }
    }

    /// The datacenters that have opened connections to us.
    pub fn opened_by(&self) -> Vec<Datacenter> {
        let mut opened = self.opened.lock();
        opened.retain(|_, connections| {
            connections.retain(|connection| !connection.is_closed());
            !connections.is_empty()
        });
        let mut datacenters: Vec<Datacenter> = opened.keys().cloned().collect();
        datacenters.sort();
        datacenters
    }

    /// A connection that this node has opened, or else any of its datacenter: behind a shared address one cannot
    /// tell them apart, and each takes requests for its whole datacenter.
    fn connection(&self, to: &Endpoint) -> Option<ReverseConnection> {
        let mut opened = self.opened.lock();
        let connections = opened.get_mut(&to.datacenter)?;
        connections.retain(|connection| !connection.is_closed());
        let same = connections.iter().rev().find(|connection| connection.address() == to.address.ip());
        same.or(connections.last()).cloned()
    }
}

impl ReverseRegistry for TwoWayRoad {
    fn opened(&self, connection: ReverseConnection) {
        let identity = connection.identity();
        if identity.role != PeerRole::Server {
            tracing::warn!(datacenter = %identity.datacenter, "a client may not open a connection to be asked on");
            return;
        }
        let mut opened = self.opened.lock();
        let connections = opened.entry(identity.datacenter.clone()).or_default();
        connections.retain(|held| !held.is_closed());
        if connections.len() == CONNECTIONS_MAX {
            connections.remove(0);
        }
        connections.push(connection);
    }
}

#[async_trait]
impl Road for TwoWayRoad {
    async fn send(
        &self,
        to: &Endpoint,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<FarBody>, RoadError> {
        if let Some(connection) = self.connection(to) {
            match connection.send(request.clone(), deadline).await {
                Ok(response) => return Ok(response.map(far_body)),
                Err(error) if error.is_unprocessed() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Road::send(&self.dialer, to, request, deadline).await
    }
}
