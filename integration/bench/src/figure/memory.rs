//! Resident memory per instance, beside the bytes of the registration itself.

use std::time::Duration;

use anyhow::Result;

use crate::dataset::{registration, service_of};
use crate::process;
use crate::record::Measure;
use crate::server::Server;

/// Growth of resident memory since the server was empty, divided by the instances.
pub(crate) const PER_INSTANCE: Measure = Measure::lower("memory per instance", "bytes");
/// The compact JSON of one registration, for comparison.
pub(crate) const RAW: Measure = Measure::lower("one registration as compact JSON", "bytes");

/// Readings that the resident size is the median of: garbage collectors make it swing.
const READINGS: usize = 5;
const BETWEEN: Duration = Duration::from_millis(600);

/// The memory of a server that holds nothing yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Baseline(f64);

impl Baseline {
    pub(crate) async fn take(server: &Server) -> Result<Self> {
        Ok(Self(resident(server).await?))
    }

    /// Bytes per instance above this baseline.
    pub(crate) async fn per_instance(self, server: &Server, instances: usize) -> Result<f64> {
        Ok((resident(server).await? - self.0) / instances as f64)
    }

    /// Bytes of a registration of this data set.
    pub(crate) fn raw() -> f64 {
        registration(&service_of(0), 0, 20_000).len() as f64
    }
}

async fn resident(server: &Server) -> Result<f64> {
    let mut readings = Vec::new();
    for _ in 0..READINGS {
        tokio::time::sleep(BETWEEN).await;
        readings.push(process::resident_bytes(server.pid())?);
    }
    readings.sort_unstable();
    Ok(readings[READINGS / 2] as f64)
}
