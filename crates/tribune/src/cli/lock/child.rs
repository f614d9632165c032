//! The program that runs under a lock: started in a group of its own, so that all it started is stopped with it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

/// How long a program that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Program {
    words: Vec<String>,
    pass_stdin: bool,
}

impl Program {
    /// A shell gets the words as one line.
    pub(super) fn new(words: &[String], with_shell: bool, pass_stdin: bool) -> Self {
        let words = if with_shell {
            let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
            vec![shell.unwrap_or_else(|| "/bin/sh".into()), "-c".into(), words.join(" ")]
        } else {
            words.to_vec()
        };
        Self { words, pass_stdin }
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

    /// Asks it to stop; gives whether it did within its time.
    pub(super) async fn terminate(&mut self) -> bool {
        self.signal(Signal::SIGTERM);
        tokio::time::timeout(GRACE, self.child.wait()).await.is_ok()
    }

    /// Stops it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // It cannot refuse; what the system says about its end is of no use here.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        // A program that has ended meanwhile needs none. Its number is not reused before it was waited for.
        if self.id <= 0 || self.child.id().is_none() {
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
        let mut child = program(&["sh", "-c", "sleep 1000 & wait"]).start().unwrap();
        assert!(child.terminate().await);
    }
}
