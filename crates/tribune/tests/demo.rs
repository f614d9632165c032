//! `tribune demo` as a program: it leaves neither processes nor files behind, however it ends.

#![allow(clippy::unwrap_used, reason = "a test harness fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a busy machine may take for what takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A demo whose files are in a folder of the test.
struct Demo {
    child: Child,
    folder: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tribune"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Waits until it shows a line that holds `text`. The rest is read too, but by nobody.
    fn shows(&mut self, text: &'static str) {
        let mut lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let (found, shown) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody is told after the test has failed.
            let _ = found.send(lines.any(|line| line.unwrap().contains(text)));
            lines.for_each(drop);
        });
        match shown.recv_timeout(PATIENCE) {
            Ok(shown) => assert!(shown, "it ended before it showed {text:?}"),
            Err(_) => panic!("it did not show {text:?} within {PATIENCE:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn agents(&self) -> usize {
        processes_that_name(self.folder.path())
    }

    fn files(&self) -> usize {
        self.folder.path().read_dir().unwrap().count()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many processes have this path in their command line.
fn processes_that_name(path: &Path) -> usize {
    let text = path.to_str().unwrap();
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    // One that ends meanwhile has no command line any more.
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_ends_it_in_order() {
    let mut demo = Demo::start(&["-servers=1"]);
    demo.shows("dc2-1 leads");
    assert_eq!((demo.agents(), demo.files()), (2, 1));
    demo.signal(Signal::SIGTERM);
    assert!(demo.ends().success());
    assert_eq!((demo.agents(), demo.files()), (0, 0));
}

/// The whole tour: an instance, the link, the leader.
#[test]
fn the_script_sees_everything() {
    let mut demo = Demo::start(&["-script"]);
    demo.shows("All seen in");
    assert!(demo.ends().success());
    assert_eq!((demo.agents(), demo.files()), (0, 0));
}

/// Then nobody removes its files, but no agent runs on.
#[test]
fn agents_do_not_outlive_it() {
    let mut demo = Demo::start(&["-servers=1"]);
    demo.shows("dc2-1 leads");
    demo.signal(Signal::SIGKILL);
    demo.ends();
    until("all agents end", || demo.agents() == 0);
}
