//! The log file: when it ends and a new one begins, and which old ones are removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the log file is and when it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file; its name gets the time of its beginning (`name-<nanoseconds>.log`).
    pub path: PathBuf,
    /// Age at which a new file begins.
    pub duration: Duration,
    /// Size in bytes at which a new file begins; `None` for no bound.
    pub bytes: Option<u64>,
    /// Older files that are kept: `None` keeps all.
    pub files_max: Option<usize>,
}

/// A [`LogFile`] being written.
#[derive(Debug)]
pub(super) struct Rotating {
    rules: LogFile,
    file: File,
    begun: Instant,
    written: u64,
}

impl Rotating {
    pub(super) fn open(rules: LogFile) -> io::Result<Self> {
        let file = rules.begin()?;
        Ok(Self { rules, file, begun: Instant::now(), written: 0 })
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let is_full = self.rules.bytes.is_some_and(|bytes| self.written >= bytes);
        if is_full || self.begun.elapsed() >= self.rules.duration {
            self.file = self.rules.begin()?;
            self.begun = Instant::now();
            self.written = 0;
            self.rules.prune()?;
        }
        self.file.write_all(line)?;
        self.written += line.len() as u64;
        Ok(())
    }
}

impl LogFile {
    fn begin(&self) -> io::Result<File> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (stem, extension) = self.name();
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let path = self.path.with_file_name(format!("{stem}-{nanos}{extension}"));
        OpenOptions::new().create(true).append(true).open(path)
    }

    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.map(|it| it.to_string_lossy().into_owned());
        let extension = part(self.path.extension()).map_or_else(|| ".log".to_owned(), |it| format!(".{it}"));
        (part(self.path.file_stem()).unwrap_or_default(), extension)
    }

    /// Removes the oldest files beyond `files_max`; the one being written does not count.
    fn prune(&self) -> io::Result<()> {
        let Some(kept) = self.files_max else { return Ok(()) };
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (stem, extension) = self.name();
        let mut ours: Vec<(u128, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
            let nanos = name.strip_prefix(&format!("{stem}-")).and_then(|it| it.strip_suffix(&extension));
            if let Some(nanos) = nanos.and_then(|nanos| nanos.parse().ok()) {
                ours.push((nanos, path));
            }
        }
        ours.sort_unstable();
        let surplus = ours.len().saturating_sub(kept + 1);
        ours.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_replaced_and_old_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let rules = LogFile {
            path: folder.path().join("agent.log"),
            duration: Duration::from_secs(3600),
            bytes: Some(10),
            files_max: Some(2),
        };
        let mut file = Rotating::open(rules).unwrap();
        for line in 0..10 {
            file.write(format!("line number {line}\n").as_bytes()).unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect();
        left.sort();
        assert_eq!(left.len(), 3, "the file being written and two older ones");
        assert_eq!(fs::read_to_string(&left[2]).unwrap(), "line number 9\n");
    }

    #[test]
    fn old_files_are_replaced_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let count = |duration| {
            let rules = LogFile { path: path.clone(), duration, bytes: None, files_max: None };
            let before = fs::read_dir(folder.path()).unwrap().count();
            let mut file = Rotating::open(rules).unwrap();
            file.write(b"one\n").unwrap();
            file.write(b"two\n").unwrap();
            fs::read_dir(folder.path()).unwrap().count() - before
        };
        assert_eq!(count(Duration::from_secs(3600)), 1);
        assert_eq!(count(Duration::ZERO), 3, "each line is older than no time");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let rules = LogFile {
            path: "/proc/none/agent.log".into(),
            duration: Duration::from_secs(1),
            bytes: None,
            files_max: None,
        };
        assert!(Rotating::open(rules).is_err());
    }
}
