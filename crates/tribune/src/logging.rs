//! The agent's log: levels, forms, the file, and the streams of `agent/monitor`.
//!
//! Events come from `tracing`; a line is made for each kind of reader only when somebody of that kind reads.

mod file;
mod line;
mod writer;

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::Zoned;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

pub use file::LogFile;
pub use line::Form;
pub use writer::Thread;

use line::Words;
use writer::Writer;

/// Lines waiting for one reader of `agent/monitor`; a reader slower than that misses lines.
const MONITOR_LINES_MAX: usize = 512;

/// How many may read `agent/monitor` at a time; each costs a rendering of every line.
const MONITORS_MAX: usize = 16;

/// A log level as Consul writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub Level);

/// There is no such log level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log level {0:?}: it is one of trace, debug, info, warn, error")]
pub struct UnknownLevel(String);

impl std::fmt::Display for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "trace" => Level::TRACE,
            "debug" => Level::DEBUG,
            "info" => Level::INFO,
            "warn" | "warning" => Level::WARN,
            "error" | "err" => Level::ERROR,
            _ => return Err(UnknownLevel(text.to_owned())),
        }))
    }
}

/// What is logged and where to.
#[derive(Debug, Clone)]
pub struct Logging {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Form of the lines on standard output and in the file.
    pub form: Form,
    /// The log file, if any.
    pub file: Option<LogFile>,
}

/// A cheap handle to the running log.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Option<Writer>,
    form: Form,
    level: AtomicU8,
    monitors: ArcSwap<Vec<Monitor>>,
    /// Taken to change the list of monitors, never to read it.
    changing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Monitor {
    lines: mpsc::Sender<Bytes>,
    level: Level,
    form: Form,
}

/// There are too many readers of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has {MONITORS_MAX} readers already; end one of them and try again")]
pub struct TooManyMonitors;

impl Log {
    /// Starts the log and makes it the program's own. Lines are held back until [`Thread::open`].
    pub fn start(logging: &Logging) -> io::Result<(Self, Thread)> {
        let file = logging.file.clone().map(file::Rotating::open).transpose()?;
        let (writer, thread) = writer::start(file)?;
        let log = Self::new(Some(writer), logging);
        let subscriber = Registry::default().with(Listener(log.clone()));
        tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
        Ok((log, thread))
    }

    /// A log that nobody reads but its monitors, for a node inside another program.
    pub fn silent(level: LogLevel) -> Self {
        Self::new(None, &Logging { level, form: Form::Text, file: None })
    }

    fn new(writer: Option<Writer>, logging: &Logging) -> Self {
        Self(Arc::new(Shared {
            writer,
            form: logging.form,
            level: AtomicU8::new(rank(logging.level.0)),
            monitors: ArcSwap::default(),
            changing: Mutex::new(()),
        }))
    }

    /// Changes the level of standard output and the file.
    pub fn set_level(&self, level: LogLevel) {
        self.0.level.store(rank(level.0), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// A stream of lines from now on; it ends when the receiver is dropped.
    pub fn monitor(&self, level: LogLevel, form: Form) -> Result<mpsc::Receiver<Bytes>, TooManyMonitors> {
        let (lines, receiver) = mpsc::channel(MONITOR_LINES_MAX);
        {
            let _changing = self.0.changing.lock();
            let mut monitors: Vec<Monitor> =
                self.0.monitors.load().iter().filter(|it| !it.lines.is_closed()).cloned().collect();
            if monitors.len() >= MONITORS_MAX {
                return Err(TooManyMonitors);
            }
            monitors.push(Monitor { lines, level: level.0, form });
            self.0.monitors.store(Arc::new(monitors));
        }
        tracing::callsite::rebuild_interest_cache();
        Ok(receiver)
    }

    fn rank_max(&self) -> u8 {
        let own = self.0.level.load(Ordering::Relaxed);
        self.0.monitors.load().iter().map(|monitor| rank(monitor.level)).max().unwrap_or(0).max(own)
    }

    /// Crates that are not ours speak of their inner life, which is left out below a warning; openraft warns of
    /// every election it sees, and what matters of that our own crate says.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = *metadata.level();
        let target = metadata.target();
        let worst_wanted = match target {
            _ if target.starts_with("tribune") => Level::TRACE,
            _ if target.starts_with("openraft") => Level::ERROR,
            _ => Level::WARN,
        };
        level <= worst_wanted && rank(level) <= self.rank_max()
    }

    fn say(&self, event: &Event<'_>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let (words, now) = (Words::of(event), Zoned::now());
        let line = |form| words.line(form, &now, level, target);
        if let Some(writer) = &self.0.writer
            && rank(level) <= self.0.level.load(Ordering::Relaxed)
        {
            writer.write(line(self.0.form));
        }
        for monitor in self.0.monitors.load().iter().filter(|monitor| level <= monitor.level) {
            // A full queue means a reader too slow for this log; it misses the line.
            let _ = monitor.lines.try_send(line(monitor.form).into());
        }
    }
}

/// Larger for less severe levels.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The log as a layer of `tracing`.
struct Listener(Log);

impl<S: Subscriber> Layer<S> for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && self.0.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.0.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.rank_max() {
            0 | 1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.say(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_get_what_they_asked_for() {
        let log = Log::silent(LogLevel(Level::ERROR));
        let mut all = log.monitor("TRACE".parse().unwrap(), Form::Text).unwrap();
        let mut some = log.monitor("warn".parse().unwrap(), Form::Json).unwrap();
        let subscriber = Registry::default().with(Listener(log));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tribune_dns", "asked");
            tracing::warn!(target: "tribune_dns", count = 1, "slow");
            tracing::info!(target: "hyper", "not ours");
        });
        assert!(all.try_recv().unwrap().ends_with(b"[INFO]  agent.dns: asked\n"));
        assert!(all.try_recv().unwrap().ends_with(b"[WARN]  agent.dns: slow: count=1\n"));
        assert!(all.try_recv().is_err());
        assert!(some.try_recv().unwrap().windows(9).any(|part| part == b"\"count\":1"));
        assert!(some.try_recv().is_err());
    }

    #[test]
    fn readers_are_bounded_and_leave_room_when_they_go() {
        let log = Log::silent(LogLevel(Level::INFO));
        let level = LogLevel(Level::INFO);
        let readers: Vec<_> = (0..MONITORS_MAX).map(|_| log.monitor(level, Form::Text).unwrap()).collect();
        assert_eq!(log.monitor(level, Form::Text).unwrap_err(), TooManyMonitors);
        drop(readers);
        assert!(log.monitor(level, Form::Text).is_ok());
    }

    #[test]
    fn levels_are_read_as_consul_writes_them() {
        assert_eq!("ERR".parse(), Ok(LogLevel(Level::ERROR)));
        assert!("loud".parse::<LogLevel>().unwrap_err().to_string().contains("one of trace"));
    }
}
