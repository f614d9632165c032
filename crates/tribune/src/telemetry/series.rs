//! One series of a metric: totals for Prometheus, figures of the current interval for Consul's JSON. Written
//! without a lock; figures of one interval may differ by a write that is just happening.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{CounterFn, GaugeFn, HistogramFn};

/// What kind of metric a series belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Counter,
    Gauge,
    Sample,
}

/// What was written in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Summary {
    pub count: u64,
    pub sum: f64,
    pub squares: f64,
    pub min: f64,
    pub max: f64,
    /// The value of a gauge; the sum of all time of the other shapes.
    pub total: f64,
    /// How often the series was ever written.
    pub total_count: u64,
    /// How many intervals ago it was last written.
    pub idle: u64,
}

/// A series being written.
#[derive(Debug)]
pub(super) struct Series {
    shape: Shape,
    count: AtomicU64,
    sum: Float,
    squares: Float,
    min: Float,
    max: Float,
    total: Float,
    total_count: AtomicU64,
    idle: AtomicU64,
}

impl Series {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            count: AtomicU64::new(0),
            sum: Float::new(0.0),
            squares: Float::new(0.0),
            min: Float::new(f64::INFINITY),
            max: Float::new(f64::NEG_INFINITY),
            total: Float::new(0.0),
            total_count: AtomicU64::new(0),
            idle: AtomicU64::new(0),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Takes the figures of the interval and begins the next.
    pub(super) fn close(&self) -> Summary {
        let count = self.count.swap(0, Ordering::Relaxed);
        let idle = if count == 0 { self.idle.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if count > 0 {
            self.idle.store(0, Ordering::Relaxed);
        }
        let (min, max) = (self.min.swap(f64::INFINITY), self.max.swap(f64::NEG_INFINITY));
        Summary {
            count,
            sum: self.sum.swap(0.0),
            squares: self.squares.swap(0.0),
            min: if min.is_finite() { min } else { 0.0 },
            max: if max.is_finite() { max } else { 0.0 },
            total: self.total.get(),
            total_count: self.total_count.load(Ordering::Relaxed),
            idle,
        }
    }

    /// The figures so far, without an end to the interval.
    pub(super) fn peek(&self) -> Summary {
        let (min, max) = (self.min.get(), self.max.get());
        Summary {
            count: self.count.load(Ordering::Relaxed),
            sum: self.sum.get(),
            squares: self.squares.get(),
            min: if min.is_finite() { min } else { 0.0 },
            max: if max.is_finite() { max } else { 0.0 },
            total: self.total.get(),
            total_count: self.total_count.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
        }
    }

    fn note(&self, value: f64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_count.fetch_add(1, Ordering::Relaxed);
        self.sum.update(|sum| sum + value);
        self.squares.update(|squares| squares + value * value);
        self.min.update(|min| min.min(value));
        self.max.update(|max| max.max(value));
        self.total.update(|total| total + value);
    }

    fn set_to(&self, value: impl Fn(f64) -> f64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_count.fetch_add(1, Ordering::Relaxed);
        self.total.update(value);
    }
}

impl Summary {
    pub(super) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    pub(super) fn stddev(&self) -> f64 {
        let count = self.count as f64;
        if self.count < 2 {
            return 0.0;
        }
        ((count * self.squares - self.sum * self.sum) / (count * (count - 1.0))).max(0.0).sqrt()
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.note(value as f64);
    }

    fn absolute(&self, value: u64) {
        let before = self.total.get();
        self.note((value as f64 - before).max(0.0));
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.set_to(|now| now + value);
    }

    fn decrement(&self, value: f64) {
        self.set_to(|now| now - value);
    }

    fn set(&self, value: f64) {
        self.set_to(|_| value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.note(value);
    }
}

/// A float that many may change at a time.
#[derive(Debug)]
struct Float(AtomicU64);

impl Float {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn swap(&self, value: f64) -> f64 {
        f64::from_bits(self.0.swap(value.to_bits(), Ordering::Relaxed))
    }

    fn update(&self, change: impl Fn(f64) -> f64) {
        let next = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // The function never declines, so neither does the update.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}
