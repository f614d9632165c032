//! Snapshots of a datacenter's state: `/v1/snapshot`.

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use crate::client::Client;
use crate::error::Error;
use crate::operator::at;
use crate::request::Request;

/// How much longer than other changes a restore may take.
const RESTORE_PATIENCE: Duration = Duration::from_secs(600);

impl Client {
    /// An archive of the state, in pieces as they come. With `stale` any server gives it, also one without a
    /// leader.
    pub async fn save_snapshot(
        &self,
        datacenter: Option<&str>,
        stale: bool,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let request = at(Request::get(&["snapshot"]), datacenter);
        self.stream(&if stale { request.with("stale", "") } else { request }).await
    }

    /// Puts the state of an archive in the place of the present one.
    pub async fn restore_snapshot(&self, archive: Bytes, datacenter: Option<&str>) -> Result<(), Error> {
        let mut request = at(Request::put(&["snapshot"]), datacenter).bytes(archive);
        request.patience = RESTORE_PATIENCE;
        self.change(&request).await
    }
}
