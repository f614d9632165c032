//! A throw-away certificate authority for one test, made by the tested program's own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Program;

/// The files that `tls ca create` leaves.
const CERTIFICATE: &str = "consul-agent-ca.pem";
const KEY: &str = "consul-agent-ca-key.pem";

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority and everything it issued, gone with the value.
pub struct Authority {
    program: Program,
    folder: TempDir,
    issued: AtomicU32,
}

/// A certificate with its key and the authority that others check it by.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// Runs `tls ca create`.
    pub fn create(program: &Program) -> Result<Self> {
        let folder = TempDir::with_prefix("tribune-pki-")?;
        run(program, folder.path(), &["tls", "ca", "create"])?;
        Ok(Self { program: program.clone(), folder, issued: AtomicU32::new(0) })
    }

    /// Runs `tls cert create -server`.
    pub fn server(&self, datacenter: &str) -> Result<Identity> {
        self.issue("server", datacenter)
    }

    /// Runs `tls cert create -client`.
    pub fn client(&self, datacenter: &str) -> Result<Identity> {
        self.issue("client", datacenter)
    }

    /// A certificate that would do but for its time, which was over an hour ago.
    pub fn expired(&self, role: &str, datacenter: &str) -> Result<Identity> {
        let now = SystemTime::now();
        self.issue_for(role, datacenter, [now - DAY, now - HOUR])
    }

    /// A certificate that will do for so long yet.
    pub fn ends_in(&self, span: Duration, role: &str, datacenter: &str) -> Result<Identity> {
        let now = SystemTime::now();
        self.issue_for(role, datacenter, [now - DAY, now + span])
    }

    /// A certificate that would do but for its time, which begins tomorrow.
    pub fn not_yet(&self, role: &str, datacenter: &str) -> Result<Identity> {
        let now = SystemTime::now();
        self.issue_for(role, datacenter, [now + DAY, now + 2 * DAY])
    }

    /// The program's own command issues no such certificates.
    fn issue_for(&self, role: &str, datacenter: &str, [from, to]: [SystemTime; 2]) -> Result<Identity> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let stem = self.folder.path().join(format!("{number}-{datacenter}-{role}"));
        let (authority, key) = (self.folder.path().join(CERTIFICATE), self.folder.path().join(KEY));
        let signer = KeyPair::from_pem(&fs::read_to_string(key)?)?;
        let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(&authority)?, signer)?;
        let mut params = CertificateParams::new(vec![format!("{role}.{datacenter}.consul")])?;
        (params.not_before, params.not_after) = (from.into(), to.into());
        params.use_authority_key_identifier_extension = true;
        let own = KeyPair::generate()?;
        let identity = Identity {
            authority,
            certificate: stem.with_extension("pem"),
            key: stem.with_extension("key.pem"),
        };
        fs::write(&identity.certificate, params.signed_by(&own, &issuer)?.pem())?;
        fs::write(&identity.key, own.serialize_pem())?;
        Ok(identity)
    }

    fn issue(&self, role: &str, datacenter: &str) -> Result<Identity> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(number.to_string());
        fs::create_dir(&folder)?;
        let (authority, key) = (self.folder.path().join(CERTIFICATE), self.folder.path().join(KEY));
        let (role_flag, dc_flag) = (format!("-{role}"), format!("-dc={datacenter}"));
        let (ca_flag, key_flag) = (format!("-ca={}", authority.display()), format!("-key={}", key.display()));
        run(&self.program, &folder, &["tls", "cert", "create", &role_flag, &dc_flag, &ca_flag, &key_flag])?;
        let stem = format!("{datacenter}-{role}-consul-0");
        Ok(Identity {
            authority,
            certificate: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}-key.pem")),
        })
    }
}

impl Identity {
    /// As configuration: this certificate is shown, and everyone who calls must show one too.
    pub fn configuration(&self) -> Value {
        json!({
            "ca_file": self.authority, "cert_file": self.certificate, "key_file": self.key,
            "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
        })
    }
}

fn run(program: &Program, folder: &Path, arguments: &[&str]) -> Result<()> {
    let said = Command::new(program.path()?).args(arguments).current_dir(folder).output()?;
    if !said.status.success() {
        let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        bail!("`{}` failed ({}): {out}{error}", arguments.join(" "), said.status);
    }
    Ok(())
}
