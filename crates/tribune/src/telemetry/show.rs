//! Metrics as Consul's JSON and as Prometheus' text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use metrics::Key;
use tribune_api::agent::{Gauge, Metrics as Body, Sample};

use super::series::{Series, Shape, Summary};
use super::{INTERVAL, Metrics};
use crate::settings::Telemetry;

/// A series as it is shown.
struct Shown {
    name: String,
    labels: BTreeMap<String, String>,
    shape: Shape,
    summary: Summary,
}

/// The last interval in the form of `/v1/agent/metrics`.
pub fn json(metrics: &Metrics, settings: &Telemetry) -> Body {
    let last = metrics.last.load();
    let end = last.as_ref().as_ref().map_or_else(SystemTime::now, |closed| closed.end);
    let mut body = Body { timestamp: stamp(end), ..Body::default() };
    for shown in all(metrics, settings) {
        match shown.shape {
            Shape::Gauge => {
                body.gauges.push(Gauge { name: shown.name, value: shown.summary.total, labels: shown.labels })
            }
            Shape::Counter if shown.summary.count > 0 => body.counters.push(sample(shown)),
            Shape::Sample if shown.summary.count > 0 => body.samples.push(sample(shown)),
            Shape::Counter | Shape::Sample => {}
        }
    }
    body
}

/// All series as Prometheus reads them; `None` when the settings do not offer them.
pub fn prometheus(metrics: &Metrics, settings: &Telemetry) -> Option<String> {
    let retention = settings.prometheus_retention?;
    let idle_max = (retention.as_secs() / INTERVAL.as_secs()).max(1);
    let mut text = String::new();
    let mut last_name = String::new();
    for shown in all(metrics, settings).into_iter().filter(|shown| shown.summary.idle <= idle_max) {
        let name = plain(&shown.name);
        if name != last_name {
            let kind = match shown.shape {
                Shape::Counter => "counter",
                Shape::Gauge => "gauge",
                Shape::Sample => "summary",
            };
            let _ = writeln!(text, "# HELP {name} {name}\n# TYPE {name} {kind}");
            last_name.clone_from(&name);
        }
        let labels = label_text(&shown.labels);
        let total = number(shown.summary.total);
        let _ = match shown.shape {
            Shape::Counter | Shape::Gauge => writeln!(text, "{name}{labels} {total}"),
            Shape::Sample => writeln!(
                text,
                "{name}_sum{labels} {total}\n{name}_count{labels} {}",
                shown.summary.total_count
            ),
        };
    }
    Some(text)
}

/// The last interval as lines for people, in the form that SIGUSR1 prints.
pub fn dump(metrics: &Metrics, settings: &Telemetry) -> String {
    let body = json(metrics, settings);
    let mut text = String::new();
    let time = &body.timestamp;
    for gauge in &body.gauges {
        let _ =
            writeln!(text, "[{time}][G] '{}{}': {:.3}", gauge.name, label_text(&gauge.labels), gauge.value);
    }
    for (kind, samples) in [("C", &body.counters), ("S", &body.samples)] {
        for it in samples {
            let labels = label_text(&it.labels);
            let _ = writeln!(
                text,
                "[{time}][{kind}] '{}{labels}': Count: {} Min: {:.3} Mean: {:.3} Max: {:.3} Stddev: {:.3} Sum: {:.3}",
                it.name, it.count, it.min, it.mean, it.max, it.stddev, it.sum
            );
        }
    }
    text
}

/// Every series that the filter lets pass, sorted by name and labels.
fn all(metrics: &Metrics, settings: &Telemetry) -> Vec<Shown> {
    let last = metrics.last.load();
    let table = metrics.series.load();
    let summary = |key: &Key, series: &Arc<Series>| match last.as_ref() {
        Some(closed) => closed.summaries.get(key).copied(),
        None => Some(series.peek()),
    };
    let mut shown: Vec<Shown> = table
        .iter()
        .filter_map(|(key, series)| {
            let labels = key.labels().map(|it| (it.key().to_owned(), it.value().to_owned())).collect();
            let name = full_name(key.name(), series.shape(), settings);
            let summary = summary(key, series)?;
            passes(&name, settings).then_some(Shown { name, labels, shape: series.shape(), summary })
        })
        .collect();
    shown.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
    shown
}

/// Gauges carry the host's name, as Consul's do, unless that is turned off.
fn full_name(name: &str, shape: Shape, settings: &Telemetry) -> String {
    let prefix = &settings.prefix;
    match (&settings.host_name, shape) {
        (Some(host), Shape::Gauge) => format!("{prefix}.{host}.{name}"),
        _ => format!("{prefix}.{name}"),
    }
}

/// The longest prefix that fits decides.
fn passes(name: &str, settings: &Telemetry) -> bool {
    let fitting = settings.filter.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
    fitting.max_by_key(|(prefix, _)| prefix.len()).map_or(settings.filter_default, |(_, shows)| *shows)
}

fn sample(shown: Shown) -> Sample {
    let summary = shown.summary;
    Sample {
        name: shown.name,
        count: summary.count,
        rate: summary.sum / INTERVAL.as_secs_f64(),
        sum: summary.sum,
        min: summary.min,
        max: summary.max,
        mean: summary.mean(),
        stddev: summary.stddev(),
        labels: shown.labels,
    }
}

fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let begun = seconds - seconds % INTERVAL.as_secs();
    let time = Timestamp::from_second(i64::try_from(begun).unwrap_or(0)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

fn plain(name: &str) -> String {
    let keeps = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().map(|c| if keeps(c) { c } else { '_' }).collect()
}

fn label_text(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{}=\"{}\"", plain(name), escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Prometheus' words for what is no number.
fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v if v == f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics::{Label, Metadata, Recorder};

    use super::*;
    use crate::telemetry::SERIES_MAX;

    const PLACE: Metadata<'static> = Metadata::new("test", metrics::Level::INFO, None);

    fn settings() -> Telemetry {
        Telemetry {
            prefix: "consul".to_owned(),
            host_name: Some("box".to_owned()),
            prometheus_retention: Some(Duration::from_secs(60)),
            filter: Vec::new(),
            filter_default: true,
        }
    }

    fn filled() -> &'static Metrics {
        let metrics: &'static Metrics = Box::leak(Box::default());
        let timer = Key::from_parts("api.http", vec![Label::new("path", "v1_kv\"_")]);
        for value in [1.0, 2.0, 3.0] {
            metrics.register_histogram(&timer, &PLACE).record(value);
        }
        metrics.register_counter(&Key::from_name("rpc.query"), &PLACE).increment(5);
        metrics.register_gauge(&Key::from_name("runtime.alloc_bytes"), &PLACE).set(7.0);
        metrics
    }

    #[test]
    fn json_shows_the_last_interval() {
        let metrics = filled();
        metrics.close_interval(SystemTime::UNIX_EPOCH + Duration::from_secs(25));
        let body = json(metrics, &settings());
        assert_eq!(body.timestamp, "1970-01-01 00:00:20 +0000 UTC");
        let timer = &body.samples[0];
        assert_eq!((timer.name.as_str(), timer.count, timer.sum), ("consul.api.http", 3, 6.0));
        assert_eq!((timer.min, timer.max, timer.mean, timer.stddev), (1.0, 3.0, 2.0, 1.0));
        assert_eq!(timer.rate, 0.6);
        assert_eq!(body.counters[0].sum, 5.0);
        assert_eq!(body.gauges[0].name, "consul.box.runtime.alloc_bytes");
        metrics.close_interval(SystemTime::UNIX_EPOCH + Duration::from_secs(35));
        let quiet = json(metrics, &settings());
        assert!(quiet.samples.is_empty() && quiet.counters.is_empty());
        assert_eq!(quiet.gauges.len(), 1, "a gauge keeps its value");
    }

    #[test]
    fn prometheus_shows_totals_until_they_are_too_old() {
        let metrics = filled();
        let now = SystemTime::UNIX_EPOCH;
        metrics.close_interval(now);
        let settings = settings();
        let text = prometheus(metrics, &settings).unwrap();
        assert!(text.contains("# TYPE consul_rpc_query counter\nconsul_rpc_query 5\n"), "{text}");
        assert!(text.contains("consul_box_runtime_alloc_bytes 7\n"), "{text}");
        assert!(text.contains("consul_api_http_sum{path=\"v1_kv\\\"_\"} 6\n"), "{text}");
        assert!(text.contains("consul_api_http_count{path=\"v1_kv\\\"_\"} 3\n"), "{text}");
        (0..7).for_each(|_| metrics.close_interval(now));
        assert!(!prometheus(metrics, &settings).unwrap().contains("rpc_query"));
        assert_eq!(prometheus(metrics, &Telemetry { prometheus_retention: None, ..settings }), None);
    }

    #[test]
    fn the_longest_prefix_decides() {
        let rules = vec![("consul.api".to_owned(), false), ("consul.api.http".to_owned(), true)];
        let filtered = Telemetry { filter: rules, ..settings() };
        assert!(passes("consul.api.http", &filtered));
        assert!(!passes("consul.api.other", &filtered));
        assert!(passes("consul.rpc", &filtered));
        assert!(!passes("consul.rpc", &Telemetry { filter_default: false, ..filtered }));
    }

    #[test]
    fn series_are_bounded() {
        let metrics: &'static Metrics = Box::leak(Box::default());
        for number in 0..SERIES_MAX + 5 {
            metrics.series(&Key::from_name(format!("n{number}")), Shape::Counter);
        }
        assert_eq!(metrics.series.load().len(), SERIES_MAX);
        assert!(metrics.series(&Key::from_name("n1"), Shape::Gauge).is_none(), "another shape under a name");
    }
}
