//! Real programs that use a registry, where they are installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Folders searched after those in `PATH`: servers are often not in a user's path.
const MORE_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A client program that runs until it is dropped.
pub struct Client {
    child: Child,
}

impl Client {
    /// Looks for a program. Where it is missing the test is skipped with a line that says so, unless
    /// `TRIBUNE_REQUIRE_CLIENTS=1` makes that a failure.
    pub fn find(name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from));
        let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
        if found.is_none() {
            Self::missing(&format!("{name} is not installed: apt-get install {name}"));
        }
        found
    }

    /// Skips the test for want of a program, or fails it when programs are demanded.
    pub fn missing(reason: &str) {
        let demanded = std::env::var("TRIBUNE_REQUIRE_CLIENTS").is_ok();
        assert!(!demanded, "{reason} (TRIBUNE_REQUIRE_CLIENTS demands it)");
        skip(reason);
    }

    /// Starts the program; what it says goes to the file `log`.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that the running test does not test anything here, past the capture of test output.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Nowhere to complain when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
}
