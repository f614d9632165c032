//! What agents trust each other by: a certificate authority that exists for this one demo, a certificate for each
//! server, and a key for the gossip of each datacenter. The key of the authority is never written anywhere.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tribune_core::Datacenter;
use tribune_net::authority::{self, CaRequest, CertificateRequest, Holder, Pem};

use super::configuration::{CertificateFiles, Secrets};
use super::plan::{DATACENTERS, Node, Plan};

/// How long certificates are valid: long enough that no agent warns of their end.
const DAYS: u32 = 90;

/// Draws what each server needs, in the order of the plan, and writes the files into `folder`.
pub(super) fn draw(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Secrets>> {
    let keys = DATACENTERS.map(|_| tribune_gossip::generate_key());
    let name = Some("Tribune demo CA".to_owned());
    let ca = authority::create_ca(&CaRequest { days: DAYS, common_name: name, ..CaRequest::default() })?;
    let file = folder.join("ca.pem");
    write(&file, &ca.certificate)?;
    let secrets = plan.nodes.iter().map(|node| {
        let number = usize::from(node.datacenter == DATACENTERS[1]);
        let pem = issue(&ca, node)?;
        let certificates = files(folder, node, &file);
        write(&certificates.certificate, &pem.certificate)?;
        write(&certificates.key, &pem.key)?;
        Ok(Secrets { gossip_key: keys[number].clone(), certificates })
    });
    secrets.collect()
}

fn issue(ca: &Pem, node: &Node) -> anyhow::Result<Pem> {
    let request = CertificateRequest {
        days: DAYS,
        node: Some(node.name.clone()),
        ..CertificateRequest::new(Holder::Server, Datacenter::new(node.datacenter)?, "consul")
    };
    Ok(authority::issue(ca, &request)?)
}

fn files(folder: &Path, node: &Node, authority: &Path) -> CertificateFiles {
    let file = |ending: &str| -> PathBuf { folder.join(format!("{}{ending}", node.name)) };
    CertificateFiles { authority: authority.to_owned(), certificate: file(".pem"), key: file("-key.pem") }
}

/// Writes a file that nobody else may read.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written: io::Result<()> = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::tests::plan;

    #[test]
    fn each_server_has_its_own_and_each_datacenter_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = draw(&plan(3), folder.path()).unwrap();
        assert_eq!(secrets.len(), 4);
        assert_eq!(secrets[0].gossip_key, secrets[2].gossip_key);
        assert_ne!(secrets[0].gossip_key, secrets[3].gossip_key);
        for one in &secrets {
            let CertificateFiles { authority, certificate, key } = &one.certificates;
            assert!([authority, certificate, key].iter().all(|file| file.exists()));
        }
        assert_ne!(secrets[0].certificates.key, secrets[1].certificates.key);
    }
}
