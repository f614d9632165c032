//! Metrics: kept in memory in intervals of ten seconds, shown as Consul's JSON or as Prometheus' text.
//!
//! The rest of the program writes through the `metrics` crate under names without prefix (`api.http`); prefix,
//! filter and host name come on when they are shown. One recorder serves the whole process.

mod process;
mod series;
mod show;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use tracing::warn;

pub use process::Usage;
pub use show::{dump, json, prometheus};

use series::{Series, Shape, Summary};

/// Length of an interval, which is Consul's.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// How many series are kept. Labels made of user input (paths, node names) must not eat the memory; what comes
/// beyond is not recorded.
const SERIES_MAX: usize = 2_000;

type Table = HashMap<Key, Arc<Series>>;

/// All series of this process.
#[derive(Debug, Default)]
pub struct Metrics {
    series: ArcSwap<Table>,
    /// Taken to add a series, never to write or read one.
    adding: Mutex<()>,
    last: ArcSwap<Option<Closed>>,
    is_full: AtomicBool,
}

/// An interval that is over.
#[derive(Debug, Clone)]
struct Closed {
    end: SystemTime,
    summaries: HashMap<Key, Summary>,
}

/// The process's metrics; the first call makes them the place where all code writes to.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<&'static Metrics> = OnceLock::new();
    METRICS.get_or_init(|| {
        let metrics: &'static Metrics = Box::leak(Box::default());
        if metrics::set_global_recorder(metrics).is_err() {
            warn!("another recorder of metrics is installed; this program's metrics stay empty");
        }
        metrics
    })
}

impl Metrics {
    /// Ends the interval: what was written in it becomes what is shown.
    pub fn close_interval(&self, now: SystemTime) {
        process::record();
        let series = self.series.load();
        let summaries = series.iter().map(|(key, series)| (key.clone(), series.close())).collect();
        self.last.store(Arc::new(Some(Closed { end: now, summaries })));
    }

    fn series(&self, key: &Key, shape: Shape) -> Option<Arc<Series>> {
        if let Some(known) = self.series.load().get(key) {
            return (known.shape() == shape).then(|| known.clone());
        }
        let _adding = self.adding.lock();
        let table = self.series.load();
        if let Some(known) = table.get(key) {
            return (known.shape() == shape).then(|| known.clone());
        }
        if table.len() >= SERIES_MAX {
            if !self.is_full.swap(true, Ordering::Relaxed) {
                warn!(limit = SERIES_MAX, "there are too many series of metrics; new ones are not recorded");
            }
            return None;
        }
        let mut larger = Table::clone(&table);
        let series = Arc::new(Series::new(shape));
        larger.insert(key.clone(), series.clone());
        self.series.store(Arc::new(larger));
        Some(series)
    }
}

impl Recorder for &'static Metrics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.series(key, Shape::Counter).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.series(key, Shape::Gauge).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.series(key, Shape::Sample).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}
