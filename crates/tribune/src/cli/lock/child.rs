//! The program that runs under a lock: started in a group of its own, so that all it started is stopped with it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::cli::shell;

/// How long a program that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// Time between two looks at whether anything that it started still runs.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    words: Vec<String>,
    pass_stdin: bool,
}

impl Program {
    pub(super) fn new(words: &[String], with_shell: bool, pass_stdin: bool) -> Self {
        Self { words: shell::words(words, with_shell), pass_stdin }
    }

    /// Starts it.
    pub(super) fn start(&self) -> io::Result<Child> {
        let input = if self.pass_stdin { Stdio::inherit() } else { Stdio::null() };
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("CONSUL_LOCK_HELD", "true").stdin(input).kill_on_drop(true);
        if !self.pass_stdin {
            // Reading from the terminal needs the group that the terminal belongs to.
            command.process_group(0);
        }
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        Ok(Child { child, id, leads_group: !self.pass_stdin })
    }
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    id: i32,
    leads_group: bool,
}

impl Child {
    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// Waits for its end; gives whether that was a good one.
    pub(super) async fn ended(&mut self) -> bool {
        self.child.wait().await.is_ok_and(|status| status.success())
    }

    /// Asks it to stop, with all that it started; gives whether they did within their time.
    pub(super) async fn terminate(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        let gone = async {
            // The system tells only of the end of the program itself.
            let _ = self.child.wait().await;
            while self.leads_group && killpg(Pid::from_raw(self.id), None).is_ok() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(GRACE, gone).await.is_ok()
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // It cannot refuse; what the system says about its end is of no use here.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        // A number is not given to another while a program that was not waited for has it, or any of its group lives.
        if self.id <= 0 || (!self.leads_group && self.child.id().is_none()) {
            return;
        }
        let to = Pid::from_raw(self.id);
        let _ = if self.leads_group { killpg(to, signal) } else { nix::sys::signal::kill(to, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(words: &[&str]) -> Program {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Program::new(&words, false, false)
    }

    #[tokio::test]
    async fn the_program_knows_that_the_lock_is_held() {
        let good = program(&["sh", "-c", "test $CONSUL_LOCK_HELD = true"]);
        assert!(good.start().unwrap().ended().await);
        assert!(!program(&["false"]).start().unwrap().ended().await);
        assert!(program(&["/no/such/program"]).start().is_err());
    }

    #[tokio::test]
    async fn all_that_the_program_started_ends_with_it() {
        // What it started takes no notice of being asked, and the program itself ends at once.
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let stubborn = format!("trap : TERM; touch {}; while :; do sleep 0.1; done", ready.display());
        let mut child = program(&["sh", "-c", &format!("sh -c '{stubborn}' & wait")]).start().unwrap();
        let group = Pid::from_raw(child.id());
        let started = async {
            while !ready.exists() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(GRACE, started).await.unwrap();
        assert!(!child.terminate().await, "it still runs");
        child.kill().await;
        let gone = async {
            while killpg(group, None).is_ok() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(GRACE, gone).await.unwrap();
    }
}
