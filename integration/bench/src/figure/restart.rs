//! Restart: from `kill -9` and start on the same data to the first correct answer.

use std::time::Duration;

use anyhow::Result;

use crate::dataset::{INSTANCES_PER_SERVICE, service_of};
use crate::record::Measure;
use crate::server::Server;

/// Seconds until a service that existed before is answered whole.
pub(crate) const SERVING: Measure = Measure::lower("restart to first correct answer", "s");
/// Waiting ends here; the limit itself is then the reading.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// Restarts `server` once and says how many seconds passed; [`LIMIT`] when it did not answer by then.
pub(crate) async fn once(server: &mut Server, instances: usize) -> Result<f64> {
    server.restart()?;
    let path = format!("/v1/health/service/{}?passing", service_of(instances - 1));
    let whole = |body: &[u8]| {
        serde_json::from_slice::<Vec<serde_json::Value>>(body)
            .is_ok_and(|found| found.len() == INSTANCES_PER_SERVICE)
    };
    let waited = server.wait_until("a whole answer", LIMIT, &path, |answer| whole(&answer.body)).await;
    Ok(waited.unwrap_or(LIMIT).as_secs_f64())
}
