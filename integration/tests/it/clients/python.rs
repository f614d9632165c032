//! py-consul, a client that nobody here wrote: keys, sessions, locks and transactions as its users write them.

use std::path::PathBuf;
use std::process::Command;

use tribune_integration::{Client, TestNode};

#[test]
fn a_python_client_reads_writes_and_locks_keys() {
    let Some(python) = python() else { return };
    let node = TestNode::start().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/clients/python/kv.py");
    let port = node.http().port().to_string();
    let output = Command::new(python).args([script, &port]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("all as expected"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An interpreter that has the library: the one that `TRIBUNE_TEST_PYTHON` names, else the system's.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("TRIBUNE_TEST_PYTHON").map(PathBuf::from);
    let python = named.or_else(|| Client::find("python3"))?;
    let has_library = Command::new(&python).args(["-c", "import consul"]).output();
    if has_library.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    Client::missing(
        "py-consul is not installed: make a venv, pip install py-consul there, and name its interpreter in \
         TRIBUNE_TEST_PYTHON",
    );
    None
}
