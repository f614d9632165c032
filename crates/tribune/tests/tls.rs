//! `tribune tls` as people use it: in a folder, by its flags, with the files it leaves.

#![allow(clippy::unwrap_used, reason = "a test harness fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;
use tribune_core::Datacenter;
use tribune_net::{PeerRole, Tls, TlsFiles};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs a command in the folder; gives whether it did what it was told, and what it said.
    fn run(&self, line: &str) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tribune"));
        let output = command.args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    fn done(&self, line: &str, expected: &str) {
        let (is_done, out, err) = self.run(line);
        assert!(is_done, "{line}: {err}");
        assert_eq!(out, expected, "{line}");
    }

    fn refused(&self, line: &str, expected: &str) {
        let (is_done, out, err) = self.run(line);
        assert!(!is_done && out.is_empty() && err.contains(expected), "{line}: {out} {err}");
    }

    fn load(&self, name: &str) -> Tls {
        let path = |file: String| Some(self.0.path().join(file));
        let files = TlsFiles {
            ca_file: path("consul-agent-ca.pem".to_owned()),
            cert_file: path(format!("{name}.pem")),
            key_file: path(format!("{name}-key.pem")),
            ..TlsFiles::default()
        };
        Tls::load(&files, "consul").unwrap()
    }

    fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.0.path().join(file)).unwrap().permissions().mode() & 0o777
    }
}

#[test]
fn a_ca_and_certificates_are_made_as_in_consul() {
    let folder = Folder::new();
    folder.done("tls ca create", "==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n");
    folder.done(
        "tls cert create -server -dc dc2 -node alpha -additional-dnsname=gateway.example -additional-ipaddress 10.0.0.1",
        "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n==> Saved dc2-server-consul-0.pem\n==> Saved \
         dc2-server-consul-0-key.pem\n",
    );
    folder.done(
        "tls cert create -client",
        "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n==> Saved dc1-client-consul-0.pem\n==> Saved \
         dc1-client-consul-0-key.pem\n",
    );
    let (_, again, _) = folder.run("tls cert create --client --days 10");
    assert!(again.contains("==> Saved dc1-client-consul-1.pem\n"), "{again}");
    let (_, cli, _) = folder.run("tls cert create -cli");
    assert!(cli.contains("==> Saved dc1-cli-consul-0.pem\n"), "{cli}");

    for key in ["consul-agent-ca-key.pem", "dc2-server-consul-0-key.pem"] {
        assert_eq!(folder.mode(key), 0o600, "{key}");
    }
    let (dc1, dc2) = (Datacenter::new("dc1").unwrap(), Datacenter::new("dc2").unwrap());
    assert_eq!(folder.load("dc2-server-consul-0").identity(&dc2).unwrap().role, PeerRole::Server);
    assert_eq!(folder.load("dc1-client-consul-0").identity(&dc1).unwrap().role, PeerRole::Client);
    assert_eq!(folder.load("dc1-cli-consul-0").identity(&dc1), None);
}

#[test]
fn a_ca_is_never_written_over() {
    let folder = Folder::new();
    folder.run("tls ca create");
    let before = fs::read(folder.0.path().join("consul-agent-ca-key.pem")).unwrap();
    folder.refused("tls ca create", "consul-agent-ca.pem already exists");
    fs::remove_file(folder.0.path().join("consul-agent-ca.pem")).unwrap();
    folder.refused("tls ca create", "consul-agent-ca-key.pem already exists");
    assert_eq!(fs::read(folder.0.path().join("consul-agent-ca-key.pem")).unwrap(), before);
    assert!(!folder.0.path().join("consul-agent-ca.pem").exists());
    folder.done(
        "tls ca create -domain Example.Org. -name-constraint -additional-name-constraint other.example -days=30",
        "==> Saved example.org-agent-ca.pem\n==> Saved example.org-agent-ca-key.pem\n",
    );
}

#[test]
fn what_makes_no_sense_is_explained() {
    let folder = Folder::new();
    folder.refused("tls cert create -server", "make a CA here with `tribune tls ca create`");
    folder.run("tls ca create");
    folder.refused("tls cert create", "Please provide either -server, -client, or -cli");
    folder.refused("tls cert create -server -client", "Please provide either -server, -client, or -cli");
    folder.refused("tls cert create -client -node a", "-node requires -server");
    folder.refused("tls cert create -client -dc ../x", "-dc must be made of");
    folder.refused("tls cert create -client -domain a/b", "-domain must be a DNS domain");
    folder.refused("tls cert create -client -days 0", "cannot be valid for 0 days");
    folder.refused("tls cert create -client -days 99999999", "cannot be valid for 99999999 days");
    folder
        .refused("tls cert create -client -additional-dnsname a/b", "\"a/b\" cannot stand in a certificate");
    folder.refused("tls cert create -client -additional-ipaddress x", "invalid value 'x'");
    folder.refused("tls cert create -client -key no.pem", "Error reading no.pem");
    folder.refused(
        "tls cert create -client -key consul-agent-ca.pem",
        "certificate and key of the CA cannot be used",
    );
    folder.refused(
        "tls ca create -domain x -additional-name-constraint y",
        "only has a meaning with -name-constraint",
    );
    folder.run("tls cert create -client");
    folder.refused(
        "tls cert create -client -ca dc1-client-consul-0.pem -key dc1-client-consul-0-key.pem",
        "not one of a CA",
    );
    folder.refused(
        "tls cert create -client -ca consul-agent-ca.pem -key dc1-client-consul-0-key.pem",
        "belong together",
    );
}
