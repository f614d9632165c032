//! The files that certificates are kept in: their names, and writing them so that nobody else can read a key.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use tribune_net::authority::Pem;

/// Only the owner reads keys; everyone may read certificates.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// How many certificates of one kind may lie in one folder.
const NUMBER_MAX: u32 = 10_000;

/// A certificate's file and its key's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn ca(domain: &str) -> Self {
        Self { certificate: format!("{domain}-agent-ca.pem"), key: format!("{domain}-agent-ca-key.pem") }
    }

    /// The names with the first number that no file has.
    pub(super) fn free(prefix: &str) -> anyhow::Result<Self> {
        let numbered = (0..NUMBER_MAX).map(|number| Self {
            certificate: format!("{prefix}-{number}.pem"),
            key: format!("{prefix}-{number}-key.pem"),
        });
        let is_free = |pair: &Self| !Path::new(&pair.certificate).exists() && !Path::new(&pair.key).exists();
        let mut free = numbered.filter(is_free);
        free.next().with_context(|| {
            format!("all {NUMBER_MAX} names {prefix}-<n>.pem are taken: clean up this folder")
        })
    }

    pub(super) fn read(&self) -> anyhow::Result<Pem> {
        let read = |path: &str, flag: &str| {
            fs::read_to_string(path).with_context(|| {
                format!("Error reading {path}: make a CA here with `tribune tls ca create`, or name it with -{flag}")
            })
        };
        Ok(Pem { certificate: read(&self.certificate, "ca")?, key: read(&self.key, "key")? })
    }

    /// Writes both, over no file that exists.
    pub(super) fn write(&self, pem: &Pem) -> anyhow::Result<()> {
        write(&self.key, &pem.key, KEY_MODE)?;
        let written = write(&self.certificate, &pem.certificate, CERTIFICATE_MODE);
        if written.is_err() {
            // A key without its certificate would only be in the way of the next attempt.
            let _removed = fs::remove_file(&self.key);
        }
        written
    }

    pub(super) fn saved(&self) -> String {
        format!("==> Saved {}\n==> Saved {}\n", self.certificate, self.key)
    }
}

fn write(path: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let create = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    create().with_context(|| format!("Error writing {path}"))
}
