//! An agent as a process of its own: this same program with its own configuration, its log in a file.
//!
//! Agents are a group of their own, so that Ctrl-C reaches the demo alone, which then ends them in order. When the
//! demo is killed the system ends them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long an agent may take to end in order.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How much of a log is looked at for its last lines, in bytes.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// An agent, running or not.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    configuration: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Writes down what the agent is to be. It does not run yet.
    pub(super) fn new(name: &str, folder: &Path, configuration: &Value) -> io::Result<Self> {
        let file = folder.join("agent.json");
        std::fs::write(&file, format!("{configuration:#}\n"))?;
        Ok(Self { name: name.to_owned(), configuration: file, log: folder.join("agent.log"), child: None })
    }

    /// Starts it. What it writes is added to its log.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("demo")
            .arg(format!("--agent={}", self.configuration.display()))
            .arg(format!("--parent={}", std::process::id()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// How it ended, if it did without having been told to.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Tells it to end, without waiting.
    pub(super) fn tell_to_end(&self) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // It may have ended meanwhile; the child has not been waited for, so the id is nobody else's yet.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }

    /// Waits until it has ended, and kills it when that takes too long.
    pub(super) async fn end(&mut self) {
        if let Some(child) = &mut self.child
            && timeout(STOP_WAIT, child.wait()).await.is_err()
        {
            // If even this fails, dropping the child tries once more.
            let _ = child.kill().await;
        }
        self.child = None;
    }

    /// The last lines of its log.
    pub(super) fn last_lines(&self, count: usize) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(lines[lines.len().saturating_sub(count)..].to_vec())
    }
}

/// Makes this process end when its parent does, however that ends.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_parent(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    // The parent may have ended before that: then no signal comes any more.
    if nix::unistd::getppid().as_raw().unsigned_abs() != parent {
        return Err(io::Error::other("the demo that started this agent has ended"));
    }
    Ok(())
}

/// Other systems cannot do this: there, agents stay when the demo is killed.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_the_last_lines_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::new("dc1-1", folder.path(), &serde_json::json!({"server": true})).unwrap();
        assert!(process.last_lines(2).is_err());
        std::fs::write(folder.path().join("agent.log"), "one\ntwo\nthree\n").unwrap();
        assert_eq!(process.last_lines(2).unwrap(), ["two", "three"]);
        assert_eq!(process.last_lines(9).unwrap().len(), 3);
        let written = std::fs::read_to_string(folder.path().join("agent.json")).unwrap();
        assert_eq!(written, "{\n  \"server\": true\n}\n");
    }
}
