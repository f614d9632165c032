//! Checks that run a program: its exit code is the status, what it prints is the output. The program is started
//! as given, without a shell, in a process group of its own that is killed when its time is over.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use smol_str::SmolStr;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;

/// How long output is waited for once the program is gone: something it left behind may hold it open.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) async fn probe(args: &[SmolStr], bytes_max: usize) -> Finding {
    let Some((program, args)) = args.split_first() else {
        return Finding::critical("the check names no program");
    };
    let spawned = Command::new(program.as_str())
        .args(args.iter().map(SmolStr::as_str))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Finding::critical(format!("cannot run {program}: {error}")),
    };
    let mut group = Group { leader: child.id().and_then(|id| i32::try_from(id).ok()) };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut said = Tail { bytes: Vec::new(), total: 0, bytes_max };
    let ended = {
        let mut reading = std::pin::pin!(read(stdout, stderr, &mut said));
        tokio::select! {
            ended = child.wait() => {
                // It has its status; what is left in the pipes is read, but not waited for.
                let _ = timeout(DRAIN, reading).await;
                ended
            }
            () = &mut reading => child.wait().await,
        }
    };
    group.leader = None;
    let output = said.text();
    match ended.map(|status| status.code()) {
        Ok(Some(0)) => Finding::passing(output),
        Ok(Some(1)) => Finding::warning(output),
        Ok(_) => Finding::critical(output),
        Err(error) => Finding::critical(format!("lost sight of {program}: {error}")),
    }
}

/// The process group of a running program. Dropped before the program ended, it kills all of it.
struct Group {
    leader: Option<i32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may have ended in this moment, which is as good.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// The last bytes of an output: that is where programs say what went wrong.
struct Tail {
    bytes: Vec<u8>,
    total: usize,
    bytes_max: usize,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * self.bytes_max {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let excess = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..excess);
    }

    fn text(mut self) -> String {
        self.shorten();
        let text = String::from_utf8_lossy(&self.bytes);
        if self.total <= self.bytes_max {
            return text.into_owned();
        }
        format!("Captured {} of {} bytes\n...\n{text}", self.bytes.len(), self.total)
    }
}

async fn read(
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
    said: &mut Tail,
) {
    let (Some(mut stdout), Some(mut stderr)) = (stdout, stderr) else { return };
    let (mut out, mut err) = ([0; 4096], [0; 4096]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        tokio::select! {
            read = stdout.read(&mut out), if out_open => match read {
                Ok(length) if length > 0 => said.push(&out[..length]),
                _ => out_open = false,
            },
            read = stderr.read(&mut err), if err_open => match read {
                Ok(length) if length > 0 => said.push(&err[..length]),
                _ => err_open = false,
            },
        }
    }
}
