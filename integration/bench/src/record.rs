//! The readings of a run: every raw round, medians, ratios.

use serde::Serialize;

/// What one number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// Which way a number should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// The readings of one measure at one size by one server, in the order they were taken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    #[serde(flatten)]
    pub(crate) measure: Measure,
    pub(crate) instances: usize,
    pub(crate) server: String,
    pub(crate) rounds: Vec<f64>,
    pub(crate) median: f64,
}

/// Everything measured so far, in the order in which the measures first appeared.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Records {
    pub(crate) series: Vec<Series>,
}

impl Measure {
    pub(crate) const fn higher(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Higher }
    }

    pub(crate) const fn lower(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Lower }
    }
}

impl Records {
    pub(crate) fn add(&mut self, measure: Measure, instances: usize, server: &str, value: f64) {
        let same = |series: &&mut Series| {
            series.measure == measure && series.instances == instances && series.server == server
        };
        if let Some(series) = self.series.iter_mut().find(same) {
            series.rounds.push(value);
            series.median = median(&series.rounds);
        } else {
            let server = server.to_owned();
            self.series.push(Series { measure, instances, server, rounds: vec![value], median: value });
        }
    }

    pub(crate) fn find(&self, measure: Measure, instances: usize, server: &str) -> Option<&Series> {
        self.series.iter().find(|series| {
            series.measure == measure && series.instances == instances && series.server == server
        })
    }

    /// Each (measure, size) once, in order of appearance.
    pub(crate) fn rows(&self) -> Vec<(Measure, usize)> {
        let mut rows = Vec::new();
        for series in &self.series {
            if !rows.contains(&(series.measure, series.instances)) {
                rows.push((series.measure, series.instances));
            }
        }
        rows
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
