//! `/v1/snapshot`: the whole state of the datacenter as one archive, and back.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use tribune_api::snapshot::{self, Meta, Server, SnapshotError};
use tribune_api::{ApiError, Consistency};
use tribune_raft::{ClusterServer, Saved};

use crate::call::Call;
use crate::datacenter::Datacenter;
use crate::error::Error;
use crate::limits::{SNAPSHOT_BODY_TIMEOUT, SNAPSHOT_BYTES_MAX};
use crate::reading::Reading;
use crate::reply::Reply;
use crate::router::Router;

const PATH: &str = "/v1/snapshot";
const GZIP: HeaderValue = HeaderValue::from_static("application/x-gzip");

pub(crate) fn routes(dc: &Arc<Datacenter>) -> Router {
    Router::default().get(PATH, dc, save).put(PATH, dc, restore).with_large_body(
        PATH,
        SNAPSHOT_BYTES_MAX,
        SNAPSHOT_BODY_TIMEOUT,
    )
}

async fn save(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    let options = call.query.read_options(dc.config.waits)?;
    let reading = Reading::new(&call, &options, &dc.config)?;
    let saved = match reading.consistency {
        Consistency::Stale => {
            let cluster = dc.replica.cluster();
            let state = dc.replica.state();
            Saved { index: state.index(), state, term: cluster.term, servers: cluster.servers }
        }
        Consistency::Default | Consistency::Consistent => dc.replica.admin().save().await?,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let servers = saved.servers.iter().map(server).collect();
    let meta = Meta::new(saved.term, saved.index.0, millis, servers);
    let (state, index) = (saved.state, saved.index);
    let write = move || snapshot::write(meta, since.as_secs(), state.records());
    let archive = off_the_runtime(write).await??;
    let mut reply = Reply::of_type(GZIP, archive).uncompressed();
    dc.describe(&mut reply.headers, index, &reading);
    Ok(reply)
}

async fn restore(dc: Arc<Datacenter>, call: Call) -> Result<Reply, Error> {
    if call.query.flag("stale") {
        return Err(ApiError::server("stale not allowed for restore").into());
    }
    let body = call.body;
    if body.is_empty() {
        return Err(ApiError::server("failed to decompress snapshot: EOF").into());
    }
    let (_, records) = off_the_runtime(move || snapshot::read(body.as_ref())).await??;
    dc.replica.admin().restore(records).await?;
    Ok(Reply::empty())
}

fn server(server: &ClusterServer) -> Server {
    Server {
        suffrage: u8::from(!server.voter),
        id: server.server.id.clone(),
        address: server.server.address.to_string(),
    }
}

/// Packing a large state takes seconds, during which a thread of the runtime would answer nobody.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::server("the snapshot was given up: the server is stopping").into())
}

impl From<SnapshotError> for Error {
    fn from(error: SnapshotError) -> Self {
        ApiError::server(error.0).into()
    }
}
